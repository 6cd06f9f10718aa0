"""Agents around agents: standardised observations, partial goals, chunks, units of actions."""
