"""Lists of runs that belong together, one ``nfrl train`` a line, worked through by a queue."""
