"""A task of the user's own: any environment, any data, or both."""

import contextlib
from collections.abc import Sequence
from typing import Literal

from nfrl.errors import UserError
from nfrl.interfaces.agent import Capabilities
from nfrl.presets import family_of
from nfrl.spec import VECTOR, Spec
from nfrl.task import Task

DEFAULT_HORIZON = 1000
"""Steps of an episode where neither the environment nor the user says."""


def own_task(
    can: Capabilities,
    environment: str | None,
    *,
    name: str = "",
    horizon: int | None = None,
    observation_keys: Sequence[str] = (),
    goal_columns: Sequence[int] = (),
) -> Task:
    """Return a task for an agent, of an environment of the user's or of none.

    Args:
        can: What the agent needs and can do.
        environment: A Gymnasium id, ``module:id`` or ``package.module:Class``; None where there is
            nothing to act in, and no evaluation.
        name: What to call it; by default as the environment.
        horizon: Steps of an episode; by default the environment's own limit.
        observation_keys: Of an environment that observes a dictionary, what makes an observation.
        goal_columns: For an agent that seeks goals, the columns of an observation that decide
            success; by default those of the environment's achieved goals.

    Raises:
        UserError: The environment cannot be made, or has no goals and the agent needs some.
    """
    if can.explores:
        raise UserError("agents that explore need a maze simulated in JAX; see `nfrl tasks`")
    columns, has_goals = tuple(goal_columns), False
    goals, success = 1, False
    scored_by: Literal["success", "score", "return"] = "return"
    if environment is not None:
        # Imported here: it imports simulators, and training alone needs none.
        from nfrl.environments.make import environment_spec

        _, limit, facts = environment_spec(environment, observation_keys)
        horizon = horizon or limit
        has_goals, goals = facts.has_goals, facts.goals
        columns = columns or facts.goal_columns
        success = facts.says_success
        if success:
            scored_by = "success"
        elif facts.says_score:
            scored_by = "score"
        if can.goals and not has_goals:
            raise UserError(
                f"{environment} shows no goals, and this agent seeks some: it needs observations "
                "with desired_goal and achieved_goal, or info['goal'] from reset"
            )
    return Task(
        name=name or environment or "own",
        family=family_of(can),
        environment=environment,
        discount=can.discount,
        horizon=horizon or DEFAULT_HORIZON,
        goals=goals if can.goals else 1,
        observation_keys=tuple(observation_keys),
        goal_columns=columns if can.goals else (),
        partial_goals=bool(can.goals and columns),
        rewards=can.rewards,
        ends_at_success=success,
        scored_by=scored_by,
        measure={"success": "success rate", "score": "score", "return": "return"}[scored_by],
    )


def task_for(
    can: Capabilities,
    spec: Spec,
    environment: str,
    *,
    name: str = "",
    horizon: int | None = None,
) -> Task:
    """Return a task for an agent that was trained already, which sees what its data had.

    Args:
        can: What the agent needs and can do.
        spec: What it observes. The names of its arrays are looked for in a dictionary that the
            environment observes. A single name may be the data's alone: then the environment's
            own default is taken.
        environment: As for :func:`own_task`.
        name: What to call it; by default as the environment.
        horizon: Steps of an episode; by default the environment's own limit.

    Raises:
        UserError: The environment cannot be made, or does not fit.
    """
    keys = tuple(spec.observation)
    if keys == (VECTOR,):
        keys = ()
    if len(keys) == 1:
        with contextlib.suppress(UserError):
            return own_task(can, environment, name=name, horizon=horizon, observation_keys=keys)
        keys = ()
    return own_task(can, environment, name=name, horizon=horizon, observation_keys=keys)
