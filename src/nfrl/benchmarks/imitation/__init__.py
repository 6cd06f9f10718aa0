"""Imitation of chunks of actions: tasks that can be done in several ways, and their data."""
