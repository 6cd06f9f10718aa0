"""NF-GCBC: goal-conditioned imitation with a flow policy (Ghugare and Eysenbach, 2025, 5.2).

max E_{(s, a) ~ D, g = s_{t + Delta}} log pi(a + sigma eps | s, g)
"""

import dataclasses
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import optax
from flowjax.distributions import AbstractDistribution
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.optimization import AdamW, gradient_step, initial_state
from nfrl.data.samplers import GoalBatch
from nfrl.flows import RealNVP, denoise
from nfrl.networks import MLP


@dataclasses.dataclass(frozen=True)
class NFGCBCConfig:
    """NF-GCBC with the paper's values."""

    blocks: int = 6
    """Blocks of the flow: a linear flow and a coupling each."""
    channels: int = 256
    """Width c of the coupling networks (the code; the paper's table says 512)."""
    encoder: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of the encoder of observation and goal."""
    condition_dim: int = 64
    """Width k of the encoded condition."""
    transformer: Literal["affine", "spline"] = "affine"
    """What a coupling does to a coordinate; "spline" is rational-quadratic."""
    mixing: Literal["plu", "reverse", "none"] = "plu"
    """The linear flow between couplings; "none" is the paper's ablation."""
    layer_norm: bool = True
    """LayerNorm in the coupling networks; False is the paper's ablation."""
    noise: float = 0.1
    """sigma of the training noise on the actions."""
    denoising: bool = True
    """Remove the noise when acting, by one score step; False is the paper's ablation."""
    optimizer: AdamW = AdamW()
    """AdamW, 3e-4, weight decay 1e-6, warm-up 500, cosine to 1e-6."""

    def build(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "NFGCBC":
        """Build an untrained agent.

        Args:
            key: Random key of the initial weights.
            observation_dim: Width of an observation, and of a goal.
            action_dim: Width of an action.
            steps: Length of the run, which the learning-rate schedule spans.
        """
        encoder_key, flow_key = jr.split(key)
        policy = FlowPolicy(
            MLP(encoder_key, 2 * observation_dim, self.encoder, self.condition_dim),
            RealNVP(
                flow_key,
                dim=action_dim,
                cond_dim=self.condition_dim,
                blocks=self.blocks,
                channels=self.channels,
                transformer=self.transformer,
                mixing=self.mixing,
                layer_norm=self.layer_norm,
            ),
        )
        return NFGCBC(policy, initial_state(self.optimizer.build(steps), policy), self, steps)


class FlowPolicy(eqx.Module):
    """pi(a | s, g): an encoder of the condition and a density, any conditional flowjax one."""

    encoder: MLP
    flow: AbstractDistribution

    def condition(
        self, observation: Float[Array, " observation"], goal: Float[Array, " observation"]
    ) -> Float[Array, " condition"]:
        """Encode one observation and goal."""
        return self.encoder(jnp.concatenate((observation, goal)))


class NFGCBC(eqx.Module):
    """The agent: a policy, its optimiser's state, its configuration."""

    policy: FlowPolicy
    optimizer_state: optax.OptState
    config: NFGCBCConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    def update(self, batch: GoalBatch, key: PRNGKeyArray) -> tuple["NFGCBC", dict[str, Array]]:
        """Take one maximum-likelihood step."""

        def loss(policy: FlowPolicy) -> tuple[Array, dict[str, Array]]:
            log_prob = _noisy_log_prob(policy, batch, key, self.config.noise)
            return -log_prob, {"log_prob": log_prob}

        policy, state, metrics = gradient_step(
            loss, self.policy, self.config.optimizer.build(self.steps), self.optimizer_state
        )
        return NFGCBC(policy, state, self.config, self.steps), metrics

    def validate(self, batch: GoalBatch, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the mean log-density of noisy actions, in nats: the training objective."""
        return {"log_prob": _noisy_log_prob(self.policy, batch, key, self.config.noise)}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Sample an action, remove the training noise, and clip it to [-1, 1]."""
        condition = self.policy.condition(observation, goal)
        action = self.policy.flow.sample(key, (), condition)
        if self.config.denoising:
            action = denoise(self.policy.flow, action, condition, self.config.noise)
        return jnp.clip(action, -1, 1)


def _noisy_log_prob(policy: FlowPolicy, batch: GoalBatch, key: PRNGKeyArray, noise: float) -> Array:
    actions = batch.actions + noise * jr.normal(key, batch.actions.shape)
    conditions = eqx.filter_vmap(policy.condition)(batch.observations, batch.goals)
    return policy.flow.log_prob(actions, conditions).mean()
