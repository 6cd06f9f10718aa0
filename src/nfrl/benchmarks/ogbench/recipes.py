"""How OGBench's data sets are made here."""

from types import MappingProxyType

from nfrl.benchmarks.ogbench.worlds import WORLDS
from nfrl.collect.recipe import Recipe

RECIPES = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe(
                name=f"{world.name}-{kind}-v0",
                environment=f"ogbench:{world.name}-v0",
                collector=world.collector,
                kind=kind,
                episodes=episodes,
                steps=steps,
                experts=world.experts,
                packages=("ogbench", "mujoco"),
                download="nfrl.benchmarks.ogbench.download:download",
                pictures="visual" in world.tags,
            )
            for world in WORLDS
            for kind, (episodes, steps) in world.data.items()
        )
    }
)
"""Every data set, by name: ``cube-single-play-v0``."""
