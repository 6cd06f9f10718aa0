"""The protocols: what an agent, an explorer, an environment or a launcher can do."""
