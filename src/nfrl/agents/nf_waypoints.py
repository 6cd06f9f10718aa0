"""NF-Waypoints: flows that plan (ours; not in the paper).

With phi(s) the columns of a state that decide success (a place), psi(s) those that a waypoint
shows, and k a number of steps:

    prior    max E log p(psi(s_{t+k}) - psi(s_t) | s_t), where one can be k steps later
    policy   max E log pi(a_t | s_t, psi(s_{t+j}) - psi(s_t)),  j ~ U{1, ..., k}
    value    steps from phi(w) to phi(g): over a graph of the data's places, or learned,
             min E |tau - 1(u < 0)| u^2,  u = r + gamma V(psi(s'), phi(g)) - V(psi(s), phi(g))

To act, many waypoints are drawn from the prior. The likelier half is kept, which the flow's exact
density tells: these can be reached. Of them the one of highest value is the waypoint that the
policy goes to; near the goal it is the goal itself, unless a waypoint shows more than a goal says.

In a task with rewards there is no g. Learned values are V(psi(s)) of the task's own rewards; those
of the graph are steps to where the data's episodes end, as they do in a task that is done.

The value is that of implicit Q-learning (Kostrikov et al., 2022) with reward -1 until the goal. The
split into a plan of waypoints and a policy that follows them is hierarchical implicit Q-learning's
(Park et al., 2023), whose waypoints are chosen by advantage weights and not by likelihood.
"""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray
from paramax import NonTrainable

from nfrl.agents.parts.checks import (
    check_discount,
    check_expectile,
    check_positive,
    check_temperature,
)
from nfrl.agents.parts.flow_policy import FlowPolicy
from nfrl.agents.parts.implicit_q import expectile_loss
from nfrl.agents.parts.optimization import AdamW, follow, gradient_step, initial_state, join_metrics
from nfrl.agents.parts.places import PlaceGraph, jump_distance, spread
from nfrl.agents.wrappers.units import build_in_units
from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizer
from nfrl.data.samplers import WaypointBatch, sample_waypoints
from nfrl.errors import UserError
from nfrl.flows import FlowConfig, RealNVPConfig, denoise, rounded_networks, sample_at
from nfrl.interfaces.agent import Agent, Capabilities
from nfrl.networks import MLP
from nfrl.spec import Spec

UNIT = 0.25
"""What is 1 to the prior, in deviations of the data: about how far one gets in k steps."""
ENDS = 16
"""Places that say where episodes of a task with rewards end."""


@dataclasses.dataclass(frozen=True)
class NFWaypointsConfig:
    """NF-Waypoints with the values that were tried in mazes (docs/waypoints.md)."""

    algorithm: ClassVar[Capabilities] = Capabilities(goals=True)

    goal_columns: tuple[int, ...] = ()
    """The columns of an observation that decide success: what a place is. A task says them."""
    shown_columns: tuple[int, ...] = ()
    """Further columns that a waypoint shows, such as a gripper's."""
    steps_ahead: int = 25
    """k, how many steps later a waypoint is."""
    values: Literal["graph", "learned"] = "graph"
    """Where values come from: shortest paths over the data's places, or implicit Q-learning."""
    landmarks: int = 500
    """Places that the graph has."""
    candidates: int = 64
    """Waypoints that are drawn from the prior, of which one is chosen."""
    likely: float = 0.5
    """Share of them, the most likely, among which the best is chosen."""
    near: float = 0.35
    """How near the goal is gone to directly, in deviations of the data."""
    discount: float = 0.99
    """gamma of learned values, and of the goals that they are learned for."""
    expectile: float = 0.7
    """Of learned values: 0.5 is the mean of what the data do, 1 their best."""
    tau: float = 0.02
    """How far the target of learned values follows in a step."""
    goals_same: float = 0.2
    """Share of the goals of learned values that are the state itself."""
    goals_random: float = 0.3
    """Share of them that are any state of the data; the others are later in the trajectory."""
    flow: FlowConfig = RealNVPConfig(4, 64)
    """The density of actions."""
    encoder: tuple[int, ...] = (256, 256, 256)
    """Hidden widths of the encoder of what an action depends on."""
    condition_dim: int = 64
    """Width of that encoding."""
    prior: FlowConfig = RealNVPConfig(4, 32)
    """The density of waypoints."""
    prior_encoder: tuple[int, ...] = (128, 128, 128)
    """Hidden widths of the encoder of what a waypoint depends on."""
    prior_condition_dim: int = 32
    """Width of that encoding."""
    value_hidden: tuple[int, ...] = (128, 128, 128)
    """Hidden widths of each of the two learned values."""
    noise: float = 0.05
    """sigma of the training noise on actions."""
    waypoint_noise: float = 0.05
    """sigma of the training noise on waypoints, in the prior's units."""
    temperature: float = 1.0
    """What the latents of an action are multiplied by when acting."""
    optimizer: AdamW = AdamW(learning_rate=3e-3)
    """AdamW for the policy."""
    plan_optimizer: AdamW = AdamW(learning_rate=1e-3)
    """AdamW for the prior and for learned values."""

    def __post_init__(self):
        check_discount(self.discount)
        check_temperature(self.temperature)
        check_positive(self, "steps_ahead", "candidates", "landmarks")
        if not 0 < self.likely <= 1:
            raise UserError(f"likely must lie in (0, 1]; got {self.likely}")
        check_expectile(self.expectile)

    @property
    def capabilities(self) -> Capabilities:
        """What the agent will need and be able to do."""
        return dataclasses.replace(self.algorithm, discount=self.discount)

    def build(
        self, key: PRNGKeyArray, spec: Spec, steps: int, data: Dataset | None = None
    ) -> Agent:
        """Build an untrained agent; see :class:`nfrl.interfaces.agent.AgentConfig`.

        Raises:
            UserError: It is not said what a place is, or an observation has no such columns.
        """
        return build_in_units(self._build, key, spec, steps, data)

    def _build(self, key: PRNGKeyArray, spec: Spec, steps: int, data: Dataset | None) -> Agent:
        width, places = spec.observation_dim, self.goal_columns or spec.goal_columns
        shown = (*places, *self.shown_columns)
        if not places:
            raise UserError(
                "nf-waypoints needs to know what decides success: name the columns of an "
                "observation with --agent.goal-columns"
            )
        if max(shown) >= width or min(shown) < 0:
            raise UserError(f"observations have columns 0 to {width - 1}, and not all of {shown}")
        rewarded = self.capabilities.rewards
        low_key, prior_key, *value_keys = jr.split(key, 4)
        policy = _flow_policy(
            low_key,
            width + len(shown),
            self.encoder,
            self.condition_dim,
            self.flow,
            spec.action_dim,
        )
        prior = _flow_policy(
            prior_key,
            width,
            self.prior_encoder,
            self.prior_condition_dim,
            self.prior,
            len(shown),
        )
        normalizer = (
            Normalizer.identity(width)
            if data is None
            else Normalizer.standard(np.asarray(data.observations))
        )
        values: Any
        ends, jump = None, None
        if self.values == "learned":
            told = len(shown) if rewarded else len(shown) + len(places)
            values = tuple(
                MLP(each, told, self.value_hidden, 1, activation=jax.nn.gelu) for each in value_keys
            )
        elif data is None:
            values = PlaceGraph.empty(self.landmarks, len(places))
            ends = NonTrainable(jnp.zeros((ENDS, len(places)))) if rewarded else None
        else:
            seen, last = np.asarray(data.observations), np.asarray(data.last)
            rows = np.asarray(normalizer.encode(jnp.asarray(seen)))[:, places]
            values = PlaceGraph.of(rows, last, landmarks=self.landmarks, reach=self.steps_ahead)
            ends = _ends_of(rows, data) if rewarded else None
            # Places that one walks through. An arm's buttons jump, and are meant to.
            jump = jump_distance(seen[:, places], last)
        plan, optimizer = self.plan_optimizer.build(steps), self.optimizer.build(steps)
        return NFWaypoints(
            Waypoints(policy, prior, values, ends, normalizer),
            jax.tree.map(jnp.copy, values) if self.values == "learned" else None,
            (
                initial_state(optimizer, policy),
                initial_state(plan, prior),
                initial_state(plan, values) if self.values == "learned" else None,
            ),
            self,
            places,
            shown,
            steps,
            jump,
        )


@dataclasses.dataclass(frozen=True)
class NFWaypointsRLConfig(NFWaypointsConfig):
    """NF-Waypoints for a task with rewards, where no goal is told."""

    algorithm: ClassVar[Capabilities] = Capabilities(rewards=True)


class Waypoints(eqx.Module):
    """All that acts: a policy, a prior of waypoints, values, and the units of observations.

    ``ends`` are the places where a task with rewards is done, for values of the graph.
    """

    low: FlowPolicy
    prior: FlowPolicy
    values: PlaceGraph | tuple[MLP, ...]
    ends: NonTrainable[Float[Array, "ends place"]] | None
    normalizer: Normalizer


class NFWaypoints(eqx.Module):
    """The agent: what acts, the target of learned values, three optimisers' states.

    ``jump`` is how far a step goes that no waypoint may lie behind; None where there is none.
    """

    policy: Waypoints
    target_values: tuple[MLP, ...] | None
    optimizer_state: tuple[optax.OptState, ...]
    config: NFWaypointsConfig = eqx.field(static=True)
    places: tuple[int, ...] = eqx.field(static=True)
    shown: tuple[int, ...] = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    jump: float | None = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.capabilities

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> WaypointBatch:
        """Draw transitions with waypoints and goals."""
        config = self.config
        return sample_waypoints(
            dataset,
            key,
            batch_size,
            steps_ahead=config.steps_ahead,
            discount=config.discount,
            same=config.goals_same,
            random=config.goals_random,
            rewarded=config.capabilities.rewards,
            jump=None if self.jump is None else (self.places, self.jump),
        )

    def update(
        self, batch: WaypointBatch, key: PRNGKeyArray
    ) -> tuple["NFWaypoints", dict[str, Array]]:
        """Take one step of policy, prior and learned values each."""
        policy_key, prior_key = jr.split(key)
        config, (low_state, prior_state, value_state) = self.config, self.optimizer_state
        plan = config.plan_optimizer.build(self.steps)

        def policy_loss(low: FlowPolicy) -> tuple[Array, dict[str, Array]]:
            with rounded_networks():
                log_prob = self._policy_log_prob(low, batch, policy_key)
            return -log_prob, {"log_prob": log_prob}

        def prior_loss(prior: FlowPolicy) -> tuple[Array, dict[str, Array]]:
            with rounded_networks():
                log_prob = self._prior_log_prob(prior, batch, prior_key)
            return -log_prob, {"waypoint_log_prob": log_prob}

        low, low_state, of_policy = gradient_step(
            policy_loss, self.policy.low, config.optimizer.build(self.steps), low_state
        )
        prior, prior_state, of_prior = gradient_step(
            prior_loss, self.policy.prior, plan, prior_state
        )
        values: Any = self.policy.values
        target, parts = self.target_values, {}
        if target is not None:
            values, value_state, parts["value"] = gradient_step(
                lambda values: (self._value_loss(values, batch), {}), values, plan, value_state
            )
            target = follow(target, values, config.tau)
        agent = NFWaypoints(
            Waypoints(low, prior, values, self.policy.ends, self.policy.normalizer),
            target,
            (low_state, prior_state, value_state),
            config,
            self.places,
            self.shown,
            self.steps,
            self.jump,
        )
        return agent, join_metrics(policy=of_policy, prior=of_prior, **parts)

    def validate(self, batch: WaypointBatch, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the mean log-densities of held-out noisy actions and waypoints, in nats."""
        policy_key, prior_key = jr.split(key)
        return {
            "log_prob": self._policy_log_prob(self.policy.low, batch, policy_key),
            "waypoint_log_prob": self._prior_log_prob(self.policy.prior, batch, prior_key),
        }

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Choose a waypoint, and then an action towards it, clipped to [-1, 1]."""
        plan_key, act_key = jr.split(key)
        config, low = self.config, self.policy.low
        state = self._encoded(observation)
        towards = self.waypoint(observation, goal, plan_key) - state[jnp.array(self.shown)]
        condition = low.condition(state, towards)
        action = sample_at(config.temperature, low.flow, act_key, condition)
        return jnp.clip(denoise(low.flow, action, condition, config.noise), -1, 1)

    def waypoint(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " shown"]:
        """Choose where to be next, in deviations of the data."""
        config, prior = self.config, self.policy.prior
        state = self._encoded(observation)
        here = state[jnp.array(self.shown)]
        moves, log_prob = prior.flow.sample_and_log_prob(
            key, (config.candidates,), prior.condition(state)
        )
        kept = math.ceil(config.likely * config.candidates)
        waypoints = here + UNIT * moves[jnp.argsort(log_prob)[-kept:]]
        targets = self._targets(goal)
        best = waypoints[jnp.argmax(self._values(waypoints, targets))]
        if targets is None or self.shown != self.places:
            return best
        distances = jnp.linalg.norm(targets - here, axis=-1)
        nearest = jnp.argmin(distances)
        return jnp.where(distances[nearest] < config.near, targets[nearest], best)

    def _targets(self, goal: Float[Array, " observation"]) -> Float[Array, "targets place"] | None:
        """Return the places to go to; None where only rewards say what is good."""
        if self.capabilities.goals:
            return self._encoded(goal)[jnp.array(self.places)][None]
        return None if self.policy.ends is None else self.policy.ends.tree

    def _values(
        self, waypoints: Float[Array, "n shown"], targets: Float[Array, "targets place"] | None
    ) -> Float[Array, " n"]:
        """Return how good it is to be at waypoints."""
        values = self.policy.values
        if isinstance(values, PlaceGraph):
            assert targets is not None
            places = waypoints[:, : len(self.places)]
            # One by one: what an exported program takes out of an array lies along one axis.
            return -jnp.stack([values.steps_between(places, each) for each in targets]).min(0)
        goals = (
            None
            if targets is None
            else jnp.broadcast_to(targets, (len(waypoints), len(self.places)))
        )
        return _ensemble(values, waypoints, goals).mean(0)

    def _value_loss(self, values: Any, batch: WaypointBatch) -> Array:
        config, shown, places = self.config, jnp.array(self.shown), jnp.array(self.places)
        assert self.target_values is not None
        state, following = (
            self._encoded(each)[:, shown] for each in (batch.observations, batch.next_observations)
        )
        goal = self._encoded(batch.goals)[:, places] if self.capabilities.goals else None
        following_value = _ensemble(self.target_values, following, goal)
        target = batch.rewards + config.discount * batch.masks * following_value
        baseline = _ensemble(self.target_values, state, goal).mean(0)
        better = target.min(0) - baseline
        weight = expectile_loss(jnp.sign(better), config.expectile)
        error = jax.lax.stop_gradient(target) - _ensemble(values, state, goal)
        # In units of a hundred steps: the scale of the values.
        return (jax.lax.stop_gradient(weight) * jnp.square(error)).sum(0).mean() / 100

    def _policy_log_prob(self, low: FlowPolicy, batch: WaypointBatch, key: PRNGKeyArray) -> Array:
        columns = jnp.array(self.shown)
        state = self._encoded(batch.observations)
        towards = self._encoded(batch.near_waypoints)[:, columns] - state[:, columns]
        conditions = low.conditions(state, towards)
        return low.noisy_log_prob(batch.actions, conditions, key, self.config.noise)

    def _prior_log_prob(self, prior: FlowPolicy, batch: WaypointBatch, key: PRNGKeyArray) -> Array:
        columns = jnp.array(self.shown)
        state = self._encoded(batch.observations)
        moves = (self._encoded(batch.waypoints)[:, columns] - state[:, columns]) / UNIT
        conditions = prior.conditions(state)
        return prior.noisy_log_prob(moves, conditions, key, self.config.waypoint_noise)

    def _encoded(self, observations: Float[Array, "*batch observation"]) -> Array:
        return self.policy.normalizer.encode(observations)


def _ends_of(
    places: Float[np.ndarray, "rows place"], data: Dataset
) -> NonTrainable[Float[Array, "ends place"]]:
    done = np.asarray(data.masks) == 0
    if not done.any():
        raise UserError(
            "no state of these data ends an episode, so a graph of places does not know where to "
            "go: take learned values, --agent.values learned"
        )
    return NonTrainable(jnp.asarray(spread(places[done], ENDS)))


def _ensemble(
    values: tuple[MLP, ...], waypoints: Array, goals: Array | None
) -> Float[Array, "2 batch"]:
    inputs = waypoints if goals is None else jnp.concatenate((waypoints, goals), axis=-1)
    return jnp.stack([jax.vmap(value)(inputs)[:, 0] for value in values])


def _flow_policy(
    key: PRNGKeyArray,
    inputs: int,
    hidden: tuple[int, ...],
    condition_dim: int,
    flow: FlowConfig,
    dim: int,
) -> FlowPolicy:
    encoder_key, flow_key = jr.split(key)
    return FlowPolicy(
        MLP(encoder_key, inputs, hidden, condition_dim),
        flow.build(flow_key, dim=dim, cond_dim=condition_dim),
    )
