"""An agent as a function of NumPy arrays."""
