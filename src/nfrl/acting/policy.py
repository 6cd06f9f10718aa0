"""An agent that acts in one environment: what a robot's loop calls once a step."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from nfrl.acting.acting import Act, batched_policy
from nfrl.agents import configs
from nfrl.agents.parts.optimization import without_optimizer
from nfrl.errors import UserError
from nfrl.files import write_together
from nfrl.interfaces.agent import Agent, AgentConfig
from nfrl.runs import checkpoints
from nfrl.spec import Spec

SCHEMA = 1
"""The version of policy.json."""
DESCRIPTION, WEIGHTS = "policy.json", "policy.safetensors"
"""A saved policy's files."""


class Policy:
    """An agent that acts in one environment, called once a step.

    What an agent must remember, the actions of its chunk that are still to be executed and the
    latest observations, is remembered here.

    Args:
        agent: The agent, as it stands now.
        config: What it was built from.
        name: The name or reference of its configuration: ``nf-bc``.
        spec: What it observes and does.
        steps: Length of the run that it was built for.
        seed: Of the policy's own random numbers.

    Attributes:
        agent: The agent.
        config: What it was built from.
        name: The name or reference of its configuration.
        spec: What it observes and does.
        steps: Length of its run.
    """

    def __init__(
        self,
        agent: Agent,
        config: AgentConfig,
        name: str,
        spec: Spec,
        *,
        steps: int = 0,
        seed: int = 0,
    ):
        self.agent, self.config, self.name = agent, config, name
        self.spec, self.steps = spec, steps
        self._act = batched_policy(agent, seed)
        self._episode, self._time = 0, 0

    def reset(self) -> None:
        """Begin the next episode: forget what was planned and seen."""
        self._episode, self._time = self._episode + 1, 0

    def __call__(self, observation: Any, goal: Any = None) -> NDArray[np.float32]:
        """Return the next action.

        Args:
            observation: As the environment gives it: a vector, or a mapping of arrays.
            goal: For an agent that seeks goals: a vector as wide as an observation, or of the
                columns alone that decide success. From a mapping with a ``desired_goal`` it is
                taken by itself.

        Returns:
            (action,) float32, in the data's units and within their bounds.

        Raises:
            ValueError: A shape is not the agent's, a value is not finite, or the goal is missing.
        """
        state, target = self._inputs(observation, goal)
        numbers = np.array([self._episode]), np.array([self._time])
        action = self._act(state[None], target[None], *numbers)[0]
        self._time += 1
        return action

    def batched(self, seed: int = 0) -> Act:
        """Return it as a function for many environments at once: what an evaluation calls.

        Args:
            seed: Of the random numbers.

        Returns:
            As :func:`nfrl.acting.acting.batched_policy` returns. It raises :class:`UserError` where
            observations are not as wide as the policy's.
        """
        act, width = batched_policy(self.agent, seed), self.spec.width

        def checked(
            observations: NDArray, goals: NDArray, episodes: NDArray, times: NDArray
        ) -> NDArray[np.float32]:
            if observations.shape[1] != width:
                raise UserError(
                    f"the environment has observations of {observations.shape[1]} numbers, and "
                    f"this policy was made for {width}"
                )
            return act(observations, goals, episodes, times)

        return checked

    def log_prob(self, observation: Any, action: Any, goal: Any = None) -> float:
        """Return the exact log-density of an action, in nats and in the data's units.

        Args:
            observation: The observation; or, for an agent that looks back, (history, observation).
                One alone counts as having been seen all along.
            action: (action,), or (predicted, action) for an agent that plans chunks.
            goal: As for acting.

        Raises:
            UserError: The agent has no likelihood.
            ValueError: A shape is not the agent's.
        """
        if not self.agent.capabilities.likelihood:
            raise UserError(f"{self.name} has no exact likelihood; the agents with a flow have")
        return float(_log_prob(self.agent, *self._pair(observation, action, goal)))

    def q(self, observation: Any, action: Any, goal: Any = None) -> float:
        """Return what the critics expect of an action: the discounted sum of rewards.

        Args:
            observation: As for acting; or, for an agent that looks back, (history, observation).
            action: (action,), or (predicted, action) for an agent that plans chunks.
            goal: As for acting.

        Raises:
            UserError: The agent has no critics.
            ValueError: A shape is not the agent's.
        """
        if not self.agent.capabilities.values:
            raise UserError(
                f"{self.name} has no critics of actions; gciql and the agents of offline RL have"
            )
        return float(_q(self.agent, *self._pair(observation, action, goal)))

    def export(self, path: Path | str, *, to: str = "onnx") -> dict[str, float]:
        """Write it for programs without nfrl: ``nfrl export`` in Python.

        Args:
            path: A folder; an earlier export in it is replaced.
            to: The format: ``onnx``, ``stablehlo`` or ``numpy``.

        Returns:
            The largest difference from this policy on random inputs, for each function.

        Raises:
            UserError: The folder holds something else, the policy does something that the format
                has not, or the files do not act as the policy does.
        """
        # Imported here: acting alone does not need it.
        from nfrl.exporting.export import export

        return export(self.agent, self.spec, self.name, path, to)

    def save(self, path: Path | str, *, half: bool = False) -> Path:
        """Write it to a folder, from which :func:`nfrl.load_policy` reads it; return the folder.

        Args:
            path: The folder.
            half: Store the weights in half precision, in half the space. Actions then differ by
                about a thousandth.

        Raises:
            UserError: The disk is full, or the folder cannot be written.
        """
        path = Path(path).expanduser()
        agent = without_optimizer(self.agent)
        weights = checkpoints.to_bytes(_halved(agent) if half else agent, step=self.steps)
        described = {
            "schema": SCHEMA,
            "agent": self.name,
            "config": configs.to_json(self.config),
            "spec": dataclasses.asdict(self.spec),
            "steps": self.steps,
            "weights": hashlib.sha256(weights).hexdigest(),
        }
        text = json.dumps(described, indent=2) + "\n"
        write_together(
            {
                path / WEIGHTS: lambda file: file.write(weights),
                path / DESCRIPTION: lambda file: file.write(text.encode()),
            }
        )
        return path

    def _pair(self, observation: Any, action: Any, goal: Any) -> tuple[NDArray, NDArray, NDArray]:
        """Return observation, goal and action as what the agent's functions of an action take."""
        can = self.agent.capabilities
        history = can.history
        if history is not None and np.ndim(observation) == 2:
            states = np.stack([self.spec.flat(each) for each in observation])
            if len(states) != history:
                raise ValueError(f"{len(states)} observations; this agent looks at {history}")
            target = self._inputs(states[-1], goal)[1]
        else:
            state, target = self._inputs(observation, goal)
            states = state if history is None else np.repeat(state[None], history, axis=0)
        steps = () if can.predicted is None else (can.predicted,)
        shape = (*steps, self.spec.action_dim)
        chosen = np.asarray(action, np.float32)
        if chosen.shape != shape:
            raise ValueError(f"an action has shape {chosen.shape}; this agent's have {shape}")
        return states, target, chosen

    def _inputs(self, observation: Any, goal: Any) -> tuple[NDArray, NDArray]:
        """Return the observation and the goal as vectors."""
        state = self.spec.flat(observation)
        if not np.isfinite(state).all():
            raise ValueError("the observation has a value that is not finite")
        if not self.agent.capabilities.goals:
            return state, np.empty(0, np.float32)
        if goal is None and isinstance(observation, Mapping):
            goal = observation.get("desired_goal")
        if goal is None:
            raise ValueError("this agent seeks goals: call it with (observation, goal)")
        columns = self.spec.goal_columns
        if columns and np.shape(goal) == (len(columns),):
            target = np.zeros_like(state)
            target[list(columns)] = goal
            return state, target
        return state, self.spec.flat(goal, "a goal")


def _halved(agent: Any) -> Any:
    """Return an agent whose weights are float16; what is too large for that becomes infinite."""
    return jax.tree.map(
        lambda leaf: (
            leaf.astype(jnp.float16) if eqx.is_array(leaf) and leaf.dtype == jnp.float32 else leaf
        ),
        agent,
    )


@eqx.filter_jit
def _log_prob(agent: Any, observation: Any, goal: Any, action: Any) -> jax.Array:
    return agent.log_prob(*map(jnp.asarray, (observation, goal, action)))


@eqx.filter_jit
def _q(agent: Any, observation: Any, goal: Any, action: Any) -> jax.Array:
    return agent.q(*map(jnp.asarray, (observation, goal, action)))
