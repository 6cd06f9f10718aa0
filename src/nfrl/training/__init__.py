"""The loops that train agents, their checkpoints, and the run folder."""
