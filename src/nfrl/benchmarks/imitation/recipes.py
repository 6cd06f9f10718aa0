"""How demonstrations are made here, by those who can show a task done in several ways."""

from types import MappingProxyType

from nfrl.collect.recipe import Recipe


def _planned(
    name: str,
    environment: str,
    collector: str,
    describe: str,
    steps: int,
    packages: tuple[str, ...],
    experts: tuple[str, ...] = (),
) -> Recipe:
    return Recipe(
        name=name,
        environment=f"nfrl.benchmarks.imitation.environments:{environment}",
        collector=f"nfrl.benchmarks.imitation.{collector}",
        kind="planned",
        episodes=500,
        steps=steps,
        experts=experts,
        packages=packages,
        describe=f"nfrl.benchmarks.imitation.{describe}",
    )


RECIPES = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            # Episodes of 300 steps, as the environment's. People's are 206 (Chi et al.).
            _planned(
                "pusht",
                "nfrl/PushT-v0",
                "collect_pusht:PushTCollector",
                "collect_modes:pusht",
                steps=301,
                packages=("gym-pusht", "pymunk"),
            ),
            # An episode takes about 150 steps.
            _planned(
                "two-blocks",
                "nfrl/TwoBlocks-v0",
                "collect_two_blocks:TwoBlocksCollector",
                "collect_modes:two_blocks",
                steps=301,
                packages=("ogbench", "mujoco"),
            ),
            # Four corners take about 300 steps.
            _planned(
                "multimodal-ant",
                "nfrl/MultimodalAnt-v0",
                "collect_multimodal_ant:MultimodalAntCollector",
                "collect_modes:multimodal_ant",
                steps=601,
                packages=("ogbench", "mujoco"),
                experts=("ant",),
            ),
        )
    }
)
"""Every data set of demonstrations that is made here, by name."""
