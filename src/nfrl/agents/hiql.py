"""HIQL: hierarchical implicit Q-learning (Park et al., 2023), with OGBench's values.

With w the state k steps later, phi([s; g]) of ten numbers and length sqrt(10), and values V_i as
those of GCIVL, of state and phi:

    value:   min sum_i E |expectile - 1(A < 0)| (y_i - V_i(s, phi([s; g])))^2
    high:    max E exp(alpha_h [V(w, g) - V(s, g)]) log N(phi([s; w]); mu_h(s, g), I)
    low:     max E exp(alpha_l [V(s', w) - V(s, w)]) log N(a; mu_l(s, phi([s; w])), I)

with V = mean_i V_i and no weight above 100. phi learns from the value alone. To act, mu_h says
phi of a subgoal, brought to its length, and mu_l goes there.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.checks import check_positive
from nfrl.agents.parts.critics import Critic
from nfrl.agents.parts.gaussian import awr_loss, mean_network
from nfrl.agents.parts.goal_values import ImplicitVConfig, implicit_v_loss, towards
from nfrl.agents.parts.networks import gelu_network
from nfrl.agents.parts.optimization import follow, gradient_step, initial_state, join_metrics
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalTransitions
from nfrl.interfaces.agent import Capabilities
from nfrl.networks import MLP


@dataclasses.dataclass(frozen=True)
class HIQLConfig(ImplicitVConfig):
    """HIQL with OGBench's values."""

    algorithm: ClassVar[Capabilities] = Capabilities(goals=True, draws_chunks=True)

    expectile: float = 0.7
    """Of V: 0.5 is the mean of what the data do, 1 their best."""
    high_alpha: float = 3.0
    """Inverse temperature of the weights of subgoals."""
    low_alpha: float = 3.0
    """Inverse temperature of the weights of actions."""
    steps_ahead: int = 25
    """k, how many steps later a subgoal is: 10 for robot arms, 100 for humanoids."""
    representation_dim: int = 10
    """Width of phi."""

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "steps_ahead", "representation_dim")

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "HIQL":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        high_key, low_key, phi_key, head_key = jr.split(key, 4)
        both, width = 2 * observation_dim, self.representation_dim
        policy = TwoLevels(
            mean_network(high_key, both, self.hidden, width, layer_norm=False),
            mean_network(
                low_key, observation_dim + width, self.hidden, action_dim, layer_norm=False
            ),
        )
        values = SubgoalValues(
            gelu_network(phi_key, both, self.critic, width, layer_norm=True),
            Critic(head_key, observation_dim, width, self.critic),
        )
        optimizer = self.optimizer.build(steps)
        states = tuple(initial_state(optimizer, each) for each in (policy.high, policy.low, values))
        target = jax.tree.map(jnp.copy, values.heads)
        return HIQL(policy, values, target, states, self, steps)


class TwoLevels(eqx.Module):
    """All that acts: the means of a subgoal's phi and of an action."""

    high: MLP
    low: MLP


class SubgoalValues(eqx.Module):
    """phi([s; g]), and an ensemble V_i(s, phi)."""

    phi: MLP
    heads: Critic

    def represent(
        self, observations: Float[Array, "batch observation"], goals: Array
    ) -> Float[Array, "batch phi"]:
        """Return phi of every pair of a batch, of length sqrt(width)."""
        return to_length(jax.vmap(self.phi)(towards(observations, goals)))

    def __call__(
        self, observations: Float[Array, "batch observation"], goals: Array
    ) -> Float[Array, "batch members"]:
        return self.heads.batch(observations, self.represent(observations, goals))


class HIQL(eqx.Module):
    """The agent: two actors, values, the target of their ensemble, three optimisers' states."""

    policy: TwoLevels
    values: SubgoalValues
    target_heads: Critic
    optimizer_state: tuple[optax.OptState, ...]
    config: HIQLConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.algorithm

    def draw(
        self, dataset: Dataset, key: PRNGKeyArray, batch_size: int, chunk: int = 1
    ) -> GoalTransitions:
        """Draw transitions with goals and subgoals."""
        return self.config.draw(dataset, key, batch_size, chunk, self.config.steps_ahead)

    def update(self, batch: GoalTransitions, key: PRNGKeyArray) -> tuple["HIQL", dict[str, Array]]:
        """Take one step of both actors and of the values, all from the present networks."""
        optimizer = self.config.optimizer.build(self.steps)
        high_state, low_state, value_state = self.optimizer_state
        high, high_state, of_high = gradient_step(
            lambda high: self._high_loss(high, batch), self.policy.high, optimizer, high_state
        )
        low, low_state, of_low = gradient_step(
            lambda low: self._low_loss(low, batch), self.policy.low, optimizer, low_state
        )
        values, value_state, of_value = gradient_step(
            lambda values: (self._value_loss(values, batch), {}),
            self.values,
            optimizer,
            value_state,
        )
        agent = HIQL(
            TwoLevels(high, low),
            values,
            follow(self.target_heads, values.heads, self.config.tau),
            (high_state, low_state, value_state),
            self.config,
            self.steps,
        )
        return agent, join_metrics(value=of_value, high_actor=of_high, low_actor=of_low)

    def validate(self, batch: GoalTransitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the losses, and the mean log-densities of actions and of subgoals, in nats."""
        high_loss, of_high = self._high_loss(self.policy.high, batch)
        low_loss, of_low = self._low_loss(self.policy.low, batch)
        value_loss = self._value_loss(self.values, batch)
        losses = {
            "value_loss": value_loss,
            "high_actor_loss": high_loss,
            "low_actor_loss": low_loss,
        }
        return {**losses, **of_high, **of_low}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Choose a subgoal, then an action, clipped to [-1, 1]; the key is not used."""
        subgoal = to_length(self.policy.high(towards(observation, goal)))
        return jnp.clip(self.policy.low(towards(observation, subgoal)), -1, 1)

    def value(
        self, observation: Float[Array, " observation"], goal: Float[Array, " observation"]
    ) -> Float[Array, ""]:
        """Return V(s, g): minus the discounted number of steps to the goal."""
        return self.values(observation[None], goal[None]).mean()

    def _value_loss(self, values: SubgoalValues, batch: GoalTransitions) -> Array:
        # The target has heads of its own; phi is the present one (OGBench's code).
        target = SubgoalValues(self.values.phi, self.target_heads)
        return implicit_v_loss(
            values(batch.observations, batch.goals),
            target(batch.observations, batch.goals),
            target(batch.next_observations, batch.goals),
            batch,
            self.config,
        )

    def _high_loss(self, high: MLP, batch: GoalTransitions) -> tuple[Array, dict[str, Array]]:
        assert batch.actor_subgoals is not None
        state, subgoals, goals = batch.observations, batch.actor_subgoals, batch.actor_goals
        advantages = self._gain(state, subgoals, goals)
        wanted = self.values.represent(state, subgoals)
        loss, metrics = awr_loss(
            high, towards(state, goals), wanted, advantages, self.config.high_alpha
        )
        return loss, {"subgoal_log_prob": metrics["log_prob"]}

    def _low_loss(self, low: MLP, batch: GoalTransitions) -> tuple[Array, dict[str, Array]]:
        assert batch.subgoals is not None
        state, subgoals = batch.observations, batch.subgoals
        advantages = self._gain(state, batch.next_observations, subgoals)
        inputs = towards(state, self.values.represent(state, subgoals))
        return awr_loss(low, inputs, batch.actions, advantages, self.config.low_alpha)

    def _gain(self, before: Array, after: Array, goals: Array) -> Float[Array, " batch"]:
        """Return how much nearer to its goal each state after is than that before."""
        return self.values(after, goals).mean(-1) - self.values(before, goals).mean(-1)


def to_length(phi: Float[Array, "*batch phi"]) -> Float[Array, "*batch phi"]:
    """Scale vectors to length sqrt(width), so that their numbers are about 1 in size."""
    return phi / jnp.linalg.norm(phi, axis=-1, keepdims=True) * jnp.sqrt(phi.shape[-1])
