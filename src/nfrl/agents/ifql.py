"""IFQL: implicit Q-learning, and the best of many actions of an imitating flow.

The flow variant of IDQL (Park et al., 2025, FQL, section 5.1); value and critic as in
:mod:`nfrl.agents.parts.implicit_q`, the policy as in :mod:`nfrl.agents.parts.flow_matching`, and

    a = argmax_{a_1, ..., a_N ~ pi(. | s)} min_i Q_i(s, a_n)
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
from nfrl.agents.parts.critics import least_value
from nfrl.agents.parts.flow_matching import VelocityField, integrate, matching_error
from nfrl.agents.parts.implicit_q import ImplicitQ, ImplicitQConfig, States, best_action
from nfrl.agents.parts.optimization import gradient_step, initial_state, join_metrics
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import Transitions, sample_transitions
from nfrl.interfaces.agent import Capabilities


@dataclasses.dataclass(frozen=True)
class IFQLConfig(ImplicitQConfig):
    """IFQL with the values of FQL's repository."""

    algorithm: ClassVar[Capabilities] = Capabilities(rewards=True, values=True)

    hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of the velocity field."""
    layer_norm: bool = False
    """LayerNorm in the velocity field."""
    samples: int = 32
    """N, the actions to choose from: 64 for antsoccer."""
    euler_steps: int = 10
    """Steps of the integration."""

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "samples", "euler_steps")

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "IFQL":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        policy_key, critic_key = jr.split(key)
        policy = VelocityField(
            policy_key,
            observation_dim,
            self.hidden,
            action_dim,
            layer_norm=self.layer_norm,
        )
        critics, states = self.build_critics(critic_key, observation_dim, action_dim, steps)
        state = initial_state(self.optimizer.build(steps), policy)
        return IFQL(policy, critics, (state, states), self, steps)


class IFQL(eqx.Module):
    """The agent: a velocity field v(a_t, t, s), critics, three optimisers' states."""

    policy: VelocityField
    critics: ImplicitQ
    optimizer_state: tuple[optax.OptState, States]
    config: IFQLConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.algorithm

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Transitions:
        """Draw transitions."""
        return sample_transitions(dataset, key, batch_size)

    def update(self, batch: Transitions, key: PRNGKeyArray) -> tuple["IFQL", dict[str, Array]]:
        """Take one step of value, critic and flow matching each."""
        policy_state, states = self.optimizer_state

        def actor_loss(policy: VelocityField) -> tuple[Array, dict[str, Array]]:
            return matching_error(policy, batch.actions, batch.observations, key), {}

        policy, policy_state, of_actor = gradient_step(
            actor_loss, self.policy, self.config.optimizer.build(self.steps), policy_state
        )
        critics, states, metrics = self.critics.update(batch, self.config, self.steps, states)
        agent = IFQL(policy, critics, (policy_state, states), self.config, self.steps)
        return agent, join_metrics(**metrics, actor=of_actor)

    def validate(self, batch: Transitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the losses of flow matching, value and critic."""
        value_loss, critic_loss = self.critics.losses(batch, self.config)
        actor_loss = matching_error(self.policy, batch.actions, batch.observations, key)
        return {"actor_loss": actor_loss, "value_loss": value_loss, "critic_loss": critic_loss}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Return the best of N sampled actions in [-1, 1]; the goal is not used."""
        return best_action(self.critics.critic, observation, self.candidates(observation, key))

    def q(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        action: Float[Array, " action"],
    ) -> Float[Array, ""]:
        """Return the least of the critics' values; the goal is not used."""
        return least_value(self.critics.critic, observation, action)

    def candidates(
        self, observation: Float[Array, " observation"], key: PRNGKeyArray
    ) -> Float[Array, "samples action"]:
        """Sample N actions of the data's distribution, clipped to [-1, 1]."""
        noise = jr.normal(key, (self.config.samples, self.policy.action_dim))
        along = jax.vmap(
            lambda one: integrate(self.policy, one, observation, self.config.euler_steps)
        )
        return jnp.clip(along(noise), -1, 1)
