"""Lists of runs: NAME.txt, each line what follows `nfrl train`."""
