"""A flow as a policy: pi(a | y), with y an encoding of whatever the action depends on."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from flowjax.distributions import AbstractDistribution
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.flows import FlowConfig, RealNVPConfig, denoise, sample_at
from nfrl.networks import MLP


class FlowPolicy(eqx.Module):
    """An encoder of the condition and a density, any conditional flowjax one."""

    encoder: MLP
    flow: AbstractDistribution

    def condition(self, *inputs: Float[Array, " width"]) -> Float[Array, " condition"]:
        """Encode one example's inputs, joined: the observation, or observation and goal."""
        return self.encoder(jnp.concatenate(inputs))

    def conditions(self, *inputs: Float[Array, "batch width"]) -> Float[Array, "batch condition"]:
        """Encode a batch."""
        return eqx.filter_vmap(self.condition)(*inputs)

    def noisy_log_prob(
        self,
        actions: Float[Array, "batch action"],
        conditions: Float[Array, "batch condition"],
        key: PRNGKeyArray,
        noise: float,
    ) -> Array:
        """Return the batch's mean of log pi(a + sigma eps | y), in nats.

        Args:
            actions: The actions.
            conditions: Each one's y, encoded.
            key: Of eps ~ N(0, I).
            noise: sigma, in the units of the actions.
        """
        noisy = actions + noise * jr.normal(key, actions.shape)
        return self.flow.log_prob(noisy, conditions).mean()

    def log_prob(
        self, action: Float[Array, " action"], *inputs: Float[Array, " width"]
    ) -> Float[Array, ""]:
        """Return log pi(a | y) of one action, in nats."""
        return self.flow.log_prob(action, self.condition(*inputs))

    def act(
        self,
        key: PRNGKeyArray,
        noise: float,
        *inputs: Float[Array, " width"],
        temperature: float = 1.0,
    ) -> Float[Array, " action"]:
        """Sample one action, remove training noise of size ``noise``, and clip to [-1, 1].

        ``temperature`` multiplies the latents of the sample (:func:`nfrl.flows.sample_at`).
        """
        condition = self.condition(*inputs)
        action = sample_at(temperature, self.flow, key, condition)
        return jnp.clip(denoise(self.flow, action, condition, noise), -1, 1)


@dataclasses.dataclass(frozen=True)
class FlowPolicyConfig:
    """The sizes of a flow policy; the defaults are the paper's for OGBench."""

    flow: FlowConfig = RealNVPConfig()
    """The density of actions."""
    encoder: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of the encoder of what the action depends on."""
    condition_dim: int = 64
    """Width k of the encoded condition."""

    def build_policy(self, key: PRNGKeyArray, inputs: int, action_dim: int) -> FlowPolicy:
        """Build an untrained policy.

        Args:
            key: Random key of the initial weights.
            inputs: Width of what the action depends on.
            action_dim: Width of an action.
        """
        encoder_key, flow_key = jr.split(key)
        return FlowPolicy(
            MLP(encoder_key, inputs, self.encoder, self.condition_dim),
            self.flow.build(flow_key, dim=action_dim, cond_dim=self.condition_dim),
        )
