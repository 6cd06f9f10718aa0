"""The mazes to explore as tasks: nothing to act in but a simulator in JAX, and no data."""

from types import MappingProxyType

from nfrl.benchmarks.mazes.layouts import MAZES
from nfrl.task import Task

EPISODES = {"point": 400, "ant": 1000}
"""Steps of each robot's episodes, as in their own classes, which need JAX."""

TASKS = MappingProxyType(
    {
        name: Task(
            name=name,
            family="exploration",
            environment=None,
            discount=0.99,
            horizon=EPISODES[robot],
            goals=len(layout.goal_cells),
            goal_columns=(0, 1),
            place_columns=(0, 1),
            world="nfrl.benchmarks.mazes:find_maze",
            ends_at_success=False,
            tags=("maze", robot, *(("paper",) if robot == "ant" else ())),
        )
        for name, (robot, layout) in MAZES.items()
    }
)
"""Every maze to explore, by name: "point-u-maze", ..., "ant-hardest-maze"."""
