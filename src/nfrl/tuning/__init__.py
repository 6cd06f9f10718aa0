"""A search for an agent's values: trials are runs, and those that learn worse are stopped early."""
