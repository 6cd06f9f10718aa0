"""Simulators: adapters, slots, one pool of worker processes (no JAX)."""
