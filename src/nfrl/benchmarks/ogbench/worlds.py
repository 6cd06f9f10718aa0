"""OGBench's environments, and the data sets that it has of each (Park et al., 2025).

Tasks and recipes are both built from this table.
"""

import dataclasses
from collections.abc import Mapping

ARM = 19
"""Columns of an observation that are of the arm itself, the first ones."""

Sizes = tuple[int, int]
"""Training episodes, and rows in each; validation has a tenth as many episodes."""


@dataclasses.dataclass(frozen=True)
class World:
    """One environment.

    Attributes:
        name: Its Gymnasium id without the version: ``cube-single``.
        data: The sizes of its data sets, by kind: play, noisy, navigate, stitch, explore.
        collector: The class that makes them.
        horizon: The environment's episode limit.
        goal_columns: The columns of an observation that decide success.
        tags: What it is: an arm or a maze, then which; and ``pixels`` and ``visual``, if it is
            seen as an image.
        place_columns: The columns of an observation that are x and y on a map.
        experts: The trained policies that act when data are made.
        discount: gamma, where the paper has no value for a data set.
        default_task: The goal of its single-task variant without a number.
    """

    name: str
    data: Mapping[str, Sizes]
    collector: str
    horizon: int
    goal_columns: tuple[int, ...]
    tags: tuple[str, ...]
    place_columns: tuple[int, ...] = ()
    experts: tuple[str, ...] = ()
    discount: float = 0.97
    default_task: int = 1


def _arm(
    name: str, tag: str, horizon: int, columns: tuple[int, ...], task: int, episodes: int = 1000
) -> World:
    return World(
        name=name,
        data={"play": (episodes, 1001), "noisy": (episodes, 1001)},
        collector="nfrl.benchmarks.ogbench.manipulation:ManipulationCollector",
        horizon=horizon,
        goal_columns=columns,
        tags=("arm", tag),
        default_task=task,
    )


def _cube(number: str, count: int, horizon: int, episodes: int = 1000) -> World:
    """Each cube has nine columns; its place is the first three of them."""
    columns = tuple(ARM + 9 * cube + axis for cube in range(count) for axis in range(3))
    return _arm(f"cube-{number}", "cube", horizon, columns, 2, episodes)


def _scene() -> World:
    """The cube's place, both buttons' states in two columns each, the drawer and the window."""
    columns = (*range(ARM, ARM + 3), *(28, 29), *(32, 33), 36, 38)
    return _arm("scene", "scene", 750, columns, 2)


def _puzzle(rows: int, columns: int, horizon: int, task: int, episodes: int = 1000) -> World:
    """Each button has four columns: its state in two, its position and its velocity."""
    states = tuple(ARM + 4 * i + j for i in range(rows * columns) for j in range(2))
    return _arm(f"puzzle-{rows}x{columns}", "puzzle", horizon, states, task, episodes)


# Who is slower, or has farther to go, is given more episodes or longer ones.
_NAVIGATE, _STITCH, _EXPLORE = (1000, 1001), (5000, 201), (10000, 501)


def _maze(
    body: str,
    size: str,
    *,
    horizon: int = 1000,
    navigate: Sizes = _NAVIGATE,
    stitch: Sizes = _STITCH,
    explore: Sizes | None = None,
    expert: str | None = None,
    discount: float = 0.97,
) -> World:
    return World(
        name=f"{body}maze-{size}",
        data={"navigate": navigate, "stitch": stitch} | ({"explore": explore} if explore else {}),
        collector="nfrl.benchmarks.ogbench.mazes:MazeCollector",
        horizon=horizon,
        goal_columns=(0, 1),
        tags=("maze", body),
        place_columns=(0, 1),
        experts=() if expert is None else (expert,),
        discount=discount,
    )


def _point(size: str, navigate: Sizes = _NAVIGATE) -> World:
    return _maze("point", size, navigate=navigate)


def _ant(size: str, navigate: Sizes = _NAVIGATE, explore: Sizes | None = _EXPLORE) -> World:
    return _maze("ant", size, navigate=navigate, explore=explore, expert="ant", discount=0.99)


def _humanoid(size: str, horizon: int, navigate: Sizes, stitch: Sizes) -> World:
    return _maze(
        "humanoid", size, horizon=horizon, navigate=navigate, stitch=stitch, expert="humanoid"
    )


def _soccer(field: str, navigate: Sizes, stitch: Sizes) -> World:
    return World(
        name=f"antsoccer-{field}",
        data={"navigate": navigate, "stitch": stitch},
        collector="nfrl.benchmarks.ogbench.soccer:SoccerCollector",
        horizon=1000,
        goal_columns=(15, 16),  # where the ball is
        tags=("maze", "soccer"),
        place_columns=(0, 1),
        experts=("ant", "ant-ball"),
        default_task=4,
    )


def _seen(world: World) -> World:
    """Return a world as images of 64 x 64 pixels show it: no column of these says anything."""
    return dataclasses.replace(
        world,
        name=f"visual-{world.name}",
        goal_columns=(),
        place_columns=(),
        tags=(*world.tags, "pixels", "visual"),
    )


_OF_STATES = (
    _point("medium"),
    _point("large"),
    _point("giant", navigate=(500, 2001)),
    _point("teleport"),
    _ant("medium"),
    _ant("large"),
    _ant("giant", navigate=(500, 2001), explore=None),
    _ant("teleport"),
    _humanoid("medium", 2000, navigate=(1000, 2001), stitch=(5000, 401)),
    _humanoid("large", 2000, navigate=(1000, 2001), stitch=(5000, 401)),
    _humanoid("giant", 4000, navigate=(1000, 4001), stitch=(10000, 401)),
    _soccer("arena", navigate=_NAVIGATE, stitch=_STITCH),
    _soccer("medium", navigate=(4000, 1001), stitch=(8000, 501)),
    _cube("single", 1, 200),
    _cube("double", 2, 500),
    _cube("triple", 3, 1000, episodes=3000),
    _cube("quadruple", 4, 1000, episodes=5000),
    _scene(),
    _puzzle(3, 3, 500, task=4),
    _puzzle(4, 4, 500, task=4),
    _puzzle(4, 5, 1000, task=2, episodes=3000),
    _puzzle(4, 6, 1000, task=2, episodes=5000),
)
_UNSEEN = ("point", "soccer")
"""Of these OGBench has no images."""
WORLDS = (
    *_OF_STATES,
    *(_seen(world) for world in _OF_STATES if not set(_UNSEEN) & set(world.tags)),
)
"""Every environment, those of states first."""
