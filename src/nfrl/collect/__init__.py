"""Making data sets: scripted oracles, mazes, and what runs them in parallel."""
