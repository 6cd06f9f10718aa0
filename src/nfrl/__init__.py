"""Normalizing flows for reinforcement learning.

One conditional normalizing flow, with exact likelihoods, one-pass sampling and gradients end to
end, serves as policy, Q-function and occupancy measure (Ghugare and Eysenbach, 2025).

Importing this package imports nothing heavy: take what you need from its rooms,
``nfrl.flows``, ``nfrl.agents``, ``nfrl.data``, ``nfrl.training``, ``nfrl.evaluation``.
"""

__version__ = "0.1.0"
