"""Make an environment from its reference, and say what it is. No names are known here.

A reference says itself what to import:

- ``Pendulum-v1``: an id that Gymnasium knows;
- ``ogbench:cube-single-v0``: an id, and the module that registers it;
- ``my_package.envs:Door``: a class or a function that returns an environment.

What stands after the colon is first looked for in the module; if the module has nothing callable of
that name, it is an id. Modules in the working folder are found, too.
"""

import contextlib
import importlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
from gymnasium import wrappers

from nfrl.environments.adapters import Adapter, read_layout, takes_task_ids
from nfrl.environments.own_files import files_removed, with_own_files
from nfrl.errors import UserError, unknown_name
from nfrl.spec import ActionSpec, Spec

OWN = (wrappers.TimeLimit, wrappers.OrderEnforcing, wrappers.PassiveEnvChecker)
"""Wrappers that Gymnasium puts on by itself."""


def make_environment(reference: str, *, pictures: bool = False, **settings: Any) -> Any:
    """Make an environment.

    Gymnasium's own wrappers are left out: who plays an episode ends it at the task's horizon, and
    checks nothing twice. A user's wrappers stay, with all that is in them. So without such
    wrappers the result is the bare environment.

    Args:
        reference: See the module's text.
        pictures: Whether it will be drawn: it is then made with ``render_mode="rgb_array"``, if it
            takes that.
        settings: Further arguments of the environment.

    Returns:
        The environment, untyped: what is used of it goes beyond Gymnasium's interface.

    Raises:
        UserError: There is no such environment, its package is not installed, or it cannot be made.
    """
    if pictures:
        with contextlib.suppress(Exception):  # without, it fails again, or does not
            return _make(reference, {**settings, "render_mode": "rgb_array"})[0]
    return _make(reference, settings)[0]


class Facts(NamedTuple):
    """What an environment says of itself, besides the spec.

    Attributes:
        goals: How many goals ``reset`` can be told; 1 where it cannot.
        goal_columns: The columns of an observation that hold what a goal is about (a goal
            dictionary's ``achieved_goal``); empty where there is no goal dictionary.
        has_goals: Whether it shows goals: in a dictionary, or as ``info["goal"]``.
        says_success: Whether it says that the task is done; else only returns can be compared.
        says_score: Whether it says how far an episode has come.
        has_bounds: Whether all bounds of the actions are finite. Those of the spec are infinite
            where not, and the range of the data must decide.
    """

    goals: int
    goal_columns: tuple[int, ...]
    has_goals: bool
    says_success: bool
    says_score: bool
    has_bounds: bool


class EnvironmentSpec(NamedTuple):
    """What :func:`environment_spec` finds: the spec, the episode limit in steps, and facts."""

    spec: Spec
    horizon: int | None
    facts: Facts


def environment_spec(reference: str, observation_keys: Sequence[str] = ()) -> EnvironmentSpec:
    """Make an environment, take one step in it, and say what it is.

    Args:
        reference: See the module's text.
        observation_keys: Of an environment that observes a dictionary, what makes an observation,
            in this order; by default see :func:`nfrl.environments.adapters.read_layout`.

    Raises:
        UserError: It cannot be made, or its spaces are none that can be learnt in.
    """
    with files_removed():
        return _look_at(reference, observation_keys)


def _look_at(reference: str, observation_keys: Sequence[str]) -> EnvironmentSpec:
    environment, horizon = _make(reference, {})
    try:
        with saying(reference, "cannot say what it observes"):
            space = environment.observation_space  # of some, it takes a first reset
        layout = read_layout(space, observation_keys, reference)
        action = read_actions(environment.action_space, reference)
        adapter = Adapter(environment, layout)
        with saying(reference, "fails at its first step"):
            environment.action_space.seed(0)
            _, goal, _ = adapter.reset(0, 1)
            # Alone in its process, the action may be any.
            *_, info = environment.step(environment.action_space.sample())
        infos = getattr(environment.unwrapped, "task_infos", None)
        facts = Facts(
            goals=len(infos) if infos and takes_task_ids(environment) else 1,
            goal_columns=layout.goal_columns,
            has_goals=goal.size > 0,
            says_success="success" in info or "is_success" in info,
            says_score="score" in info,
            has_bounds=all(map(math.isfinite, (*action.low, *action.high))),
        )
    finally:
        with contextlib.suppress(Exception):
            environment.close()
    return EnvironmentSpec(Spec(layout.arrays, action), horizon, facts)


def read_actions(space: Any, reference: str) -> ActionSpec:
    """Return the spec of an action space; what has several axes is laid out as one vector.

    Raises:
        UserError: It is no ``Box`` of floats.
    """
    if not isinstance(space, gymnasium.spaces.Box) or space.dtype.kind != "f":
        raise UserError(
            f"{reference} takes actions of {space!s:.80}; an action must be a Box of floats. "
            "Wrap the environment in a function that returns it with such actions, and name that: "
            "package.module:function"
        )
    low, high = (tuple(bound.ravel().tolist()) for bound in (space.low, space.high))
    return ActionSpec(low, high)


def _make(reference: str, settings: dict[str, Any]) -> tuple[Any, int | None]:
    """Return the environment without Gymnasium's wrappers, and the limit that they would set."""
    module, colon, name = reference.partition(":")
    creator = _attribute(_import(module, reference), name) if colon else None
    if callable(creator):
        with saying(reference, "cannot be made"):
            made = with_own_files(lambda: creator(**settings))
        if not isinstance(made, gymnasium.Env):
            raise UserError(
                f"{reference} made {'nothing' if made is None else 'a ' + type(made).__name__}, "
                "not a gymnasium.Env"
            )
        return _bare(made), _limit(made)
    wanted = name if colon else reference
    with saying(reference, "cannot be made"):
        try:
            made = with_own_files(
                lambda: gymnasium.make(
                    wanted, disable_env_checker=True, max_episode_steps=-1, **settings
                )
            )
        except gymnasium.error.UnregisteredEnv:
            unknown = unknown_name("environment", wanted, gymnasium.registry)
            cure = (
                f"{module} registers none of that name and has no such class or function"
                if colon
                else "an id that a package registers is written package:id"
            )
            raise UserError(f"{unknown} ({cure})") from None
    assert made.spec is not None
    registered = gymnasium.registry[made.spec.id].max_episode_steps
    return _bare(made), _limit(made) or registered


def _bare(environment: Any) -> Any:
    """Take off Gymnasium's own wrappers, from the outside, down to a user's."""
    while isinstance(environment, OWN):
        environment = environment.env
    return environment


def _limit(environment: Any) -> int | None:
    """The least limit among the environment's wrappers."""
    limits = []
    while isinstance(environment, gymnasium.Wrapper):
        if isinstance(environment, wrappers.TimeLimit):
            limits.append(environment._max_episode_steps)
        environment = environment.env
    return min(limits, default=None)


def _import(module: str, reference: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        with saying(reference, f"cannot import {module}"):
            return importlib.import_module(module)
    except UserError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and missing.name == module.split(".")[0]:
            raise UserError(
                f"{reference}: there is no module {missing.name}; is its package installed?"
            ) from None
        raise


def _attribute(module: Any, name: str) -> Any:
    """Return what a dotted name leads to in a module, or None."""
    value = module
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


@contextlib.contextmanager
def saying(reference: str, what: str) -> Iterator[None]:
    """Turn what an environment raises into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = (str(error).strip() or "no message").splitlines()[0]
        raise UserError(f"{reference} {what}: {type(error).__name__}: {said}") from error
