"""OGBench's tasks (Park et al., 2025): data, rewards, published scores."""
