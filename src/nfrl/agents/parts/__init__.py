"""What agents are built of: policies, critics, actors, optimisation."""
