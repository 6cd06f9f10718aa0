"""From records of runs to tables, figures and one HTML page; knows nothing of JAX."""
