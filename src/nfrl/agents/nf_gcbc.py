"""NF-GCBC: goal-conditioned imitation with a flow policy (Ghugare and Eysenbach, 2025, 5.2).

max E_{(s, a) ~ D, g = s_{t + Delta}} log pi(a + sigma eps | s, g)
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.checks import check_discount
from nfrl.agents.parts.flow_policy import FlowPolicy, FlowPolicyConfig, LikelihoodActing
from nfrl.agents.parts.optimization import AdamW, gradient_step, initial_state
from nfrl.agents.wrappers.options import GoalOptions
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalBatch, sample_goals
from nfrl.flows import rounded_networks
from nfrl.interfaces.agent import Capabilities


@dataclasses.dataclass(frozen=True)
class NFGCBCConfig(GoalOptions, LikelihoodActing, FlowPolicyConfig):
    """NF-GCBC with the paper's values."""

    algorithm: ClassVar[Capabilities] = Capabilities(goals=True, likelihood=True)

    discount: float = 0.97
    """gamma of the geometric distribution of goals."""
    noise: float = 0.1
    """sigma of the training noise on the actions."""
    denoising: bool = True
    """Remove the noise when acting, by one score step; False is the paper's ablation."""
    optimizer: AdamW = AdamW()
    """AdamW, 3e-4, weight decay 1e-6, warm-up 500, cosine to 1e-6."""

    def __post_init__(self):
        GoalOptions.__post_init__(self)
        LikelihoodActing.__post_init__(self)
        check_discount(self.discount)

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "NFGCBC":
        """Build an untrained agent.

        Args:
            key: Random key of the initial weights.
            observation_dim: Width of an observation, and of a goal.
            action_dim: Width of an action.
            steps: Length of the run, which the learning-rate schedule spans.
        """
        policy = self.build_policy(
            key, 2 * observation_dim, action_dim, chunk=self.chunk, acting=self
        )
        return NFGCBC(policy, initial_state(self.optimizer.build(steps), policy), self, steps)


class NFGCBC(eqx.Module):
    """The agent: a policy, its optimiser's state, its configuration."""

    policy: FlowPolicy
    optimizer_state: optax.OptState
    config: NFGCBCConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.algorithm

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> GoalBatch:
        """Draw transitions with hindsight goals."""
        return sample_goals(dataset, key, batch_size, self.config.discount)

    def update(self, batch: GoalBatch, key: PRNGKeyArray) -> tuple["NFGCBC", dict[str, Array]]:
        """Take one maximum-likelihood step."""

        def loss(policy: FlowPolicy) -> tuple[Array, dict[str, Array]]:
            conditions = policy.training_conditions(
                jr.fold_in(key, 0), self.config.condition_dropout, batch.observations, batch.goals
            )
            with rounded_networks():
                log_prob = policy.noisy_log_prob(batch.actions, conditions, key, self.config.noise)
            return -log_prob, {"log_prob": log_prob}

        policy, state, metrics = gradient_step(
            loss, self.policy, self.config.optimizer.build(self.steps), self.optimizer_state
        )
        return NFGCBC(policy, state, self.config, self.steps), metrics

    def validate(self, batch: GoalBatch, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the mean log-density of noisy actions, in nats: the training objective."""
        conditions = self.policy.conditions(batch.observations, batch.goals)
        noise = self.config.noise
        return {"log_prob": self.policy.noisy_log_prob(batch.actions, conditions, key, noise)}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Sample an action, remove the training noise, and clip it to [-1, 1]."""
        noise = self.config.noise if self.config.denoising else 0.0
        return self.policy.act(key, noise, observation, goal, acting=self.config)

    def log_prob(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " goal"],
        action: Float[Array, " action"],
    ) -> Float[Array, ""]:
        """Return the log-density of an action, in nats: that of the data's, noise included."""
        return self.policy.log_prob(action, observation, goal)
