"""Small trained policies, a folder for each task: scripts/add_to_zoo.py makes them of runs."""
