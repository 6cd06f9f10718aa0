"""IDQL: implicit Q-learning, and the best of many actions of an imitating diffusion.

Hansen-Estruch et al. (2023); value and critic as in :mod:`nfrl.agents.parts.implicit_q`, the
policy as in :mod:`nfrl.agents.parts.diffusion`, and

    a = argmax_{a_1, ..., a_N ~ pi(. | s)} min_i Qbar_i(s, a_n)

What acts is a running average of the network that is trained.
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
from nfrl.agents.parts.critics import ValueKind, least_value
from nfrl.agents.parts.diffusion import NoisePredictor, noise_error, sample, variance_preserving
from nfrl.agents.parts.implicit_q import ImplicitQ, ImplicitQConfig, States, best_action
from nfrl.agents.parts.optimization import AdamW, follow, gradient_step, initial_state, join_metrics
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import Transitions, sample_transitions
from nfrl.interfaces.agent import Capabilities


@dataclasses.dataclass(frozen=True)
class IDQLConfig(ImplicitQConfig):
    """IDQL with its paper's values, and where those depend on the task FQL's for OGBench."""

    algorithm: ClassVar[Capabilities] = Capabilities(rewards=True, values=True)
    critic_kind: ClassVar[ValueKind] = "relu"

    critic: tuple[int, ...] = (256, 256)
    """Hidden widths of value and of each Q-function: ReLU, without LayerNorm (the code)."""
    expectile: float = 0.9
    """Of the value: 0.7 for OGBench's locomotion, 0.9 for its manipulation (FQL)."""
    width: int = 256
    """Width of the residual stream of the policy's network."""
    blocks: int = 3
    """Residual blocks of the policy's network."""
    diffusion_steps: int = 5
    """T."""
    samples: int = 32
    """N, the actions to choose from (FQL's for OGBench; 64 in the code)."""
    policy_tau: float = 0.001
    """How far the policy that acts follows the one that is trained in a step."""
    policy_optimizer: AdamW = AdamW(
        3e-4, weight_decay=1e-4, warmup_steps=0, final_learning_rate=0.0
    )
    """AdamW, 3e-4, cosine decay to zero over the run (the code)."""

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "diffusion_steps", "samples")

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "IDQL":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        policy_key, critic_key = jr.split(key)
        policy = NoisePredictor(
            policy_key, action_dim, observation_dim, width=self.width, blocks=self.blocks
        )
        critics, states = self.build_critics(critic_key, observation_dim, action_dim, steps)
        state = initial_state(self.policy_optimizer.build(steps), policy)
        trained = jax.tree.map(jnp.copy, policy)
        return IDQL(policy, trained, critics, (state, states), self, steps)


class IDQL(eqx.Module):
    """The agent: the noise predictor that acts, the one that is trained, critics, states."""

    policy: NoisePredictor
    trained: NoisePredictor
    critics: ImplicitQ
    optimizer_state: tuple[optax.OptState, States]
    config: IDQLConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.algorithm

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Transitions:
        """Draw transitions."""
        return sample_transitions(dataset, key, batch_size)

    def update(self, batch: Transitions, key: PRNGKeyArray) -> tuple["IDQL", dict[str, Array]]:
        """Take one step of value, critic and diffusion each."""
        config = self.config
        policy_state, states = self.optimizer_state

        def actor_loss(predictor: NoisePredictor) -> tuple[Array, dict[str, Array]]:
            return self._noise_error(predictor, batch, key), {}

        trained, policy_state, of_actor = gradient_step(
            actor_loss, self.trained, config.policy_optimizer.build(self.steps), policy_state
        )
        critics, states, metrics = self.critics.update(batch, config, self.steps, states)
        policy = follow(self.policy, trained, config.policy_tau)
        agent = IDQL(policy, trained, critics, (policy_state, states), config, self.steps)
        return agent, join_metrics(**metrics, actor=of_actor)

    def validate(self, batch: Transitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the losses of diffusion, of the policy that acts, and of value and critic."""
        value_loss, critic_loss = self.critics.losses(batch, self.config)
        actor_loss = self._noise_error(self.policy, batch, key)
        return {"actor_loss": actor_loss, "value_loss": value_loss, "critic_loss": critic_loss}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Return the best of N sampled actions in [-1, 1]; the goal is not used."""
        candidates = self.candidates(observation, key)
        return best_action(self.critics.target_critic, observation, candidates)

    def q(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        action: Float[Array, " action"],
    ) -> Float[Array, ""]:
        """Return the least of the critics' values; the goal is not used."""
        return least_value(self.critics.target_critic, observation, action)

    def candidates(
        self, observation: Float[Array, " observation"], key: PRNGKeyArray
    ) -> Float[Array, "samples action"]:
        """Sample N actions of the data's distribution, each step of diffusion within [-1, 1]."""
        (action_dim,) = self.policy.last.bias.shape
        beta = variance_preserving(self.config.diffusion_steps)

        def one(key: PRNGKeyArray) -> Array:
            return sample(self.policy, key, action_dim, observation, beta, limit=1.0)

        return jax.vmap(one)(jr.split(key, self.config.samples))

    def _noise_error(
        self, predictor: NoisePredictor, batch: Transitions, key: PRNGKeyArray
    ) -> Array:
        beta = variance_preserving(self.config.diffusion_steps)
        return noise_error(predictor, batch.actions, batch.observations, key, beta)
