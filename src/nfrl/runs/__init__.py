"""Runs: their folders, checkpoints and records, and what a record says of where it was made.

Records, results and folders are read where JAX is absent; ``checkpoints`` and ``provenance`` need
it.
"""
