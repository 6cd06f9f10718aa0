"""A flow as a policy: pi(a | y), with y an encoding of whatever the action depends on."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from flowjax.distributions import AbstractDistribution
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from nfrl.agents.parts.checks import check_positive, check_temperature
from nfrl.errors import UserError
from nfrl.flows import FlowConfig, RealNVPConfig, denoise, guide, refine, sample_at
from nfrl.networks import MLP


@dataclasses.dataclass(frozen=True)
class LikelihoodActing:
    """What a policy does with its likelihood when it acts, and what it must learn for that.

    All but ``condition_dropout`` may change after training: ``nfrl eval RUN --agent.best-of 16``.
    """

    condition_dropout: float = 0.0
    """Share of training examples that are not shown what to seek, for guidance: the goal, where
    there is one, else all that the action depends on. TarFlow: 0.1."""
    guidance: float = 0.0
    """w, how far actions are moved away from those of a policy that is not shown what to seek;
    needs condition-dropout and the flow "autoregressive"."""
    temperature: float = 1.0
    """What the latents of a sample are multiplied by when acting: with less than 1 actions stay
    nearer the middle of each mode. 1 in the paper."""
    best_of: int = 1
    """Samples N of which the one of highest likelihood acts (NF-P); 1 is the paper's."""
    refine_steps: int = 0
    """Steps K of gradient ascent on the likelihood of the action that is to act (NF-P)."""
    refine_rate: float = 0.005
    """Length of those steps. Up to the square of the training noise they are safe: no density of
    noisy actions is narrower."""

    def __post_init__(self):
        check_positive(self, "best_of")
        check_temperature(self.temperature)
        if not 0 <= self.condition_dropout < 1:
            raise UserError(f"condition-dropout must lie in [0, 1); got {self.condition_dropout}")
        if self.guidance and not self.condition_dropout:
            raise UserError(
                "guidance needs a policy that was trained with --agent.condition-dropout, 0.1 say"
            )
        if self.refine_steps < 0 or not self.refine_rate > 0:
            raise UserError(
                "refine-steps must be at least 0, and refine-rate more than 0; got "
                f"{self.refine_steps} and {self.refine_rate}"
            )


class FlowPolicy(eqx.Module):
    """An encoder of the condition and a density, any conditional flowjax one.

    Attributes:
        encoder: Of the inputs, joined.
        flow: The density of actions.
        droppable: Whether the last input may be left out. The encoder then has one input more,
            which says whether it is.
    """

    encoder: MLP
    flow: AbstractDistribution
    droppable: bool = eqx.field(static=True, default=False)

    def condition(
        self, *inputs: Float[Array, " width"], shown: bool | Bool[Array, ""] = True
    ) -> Float[Array, " condition"]:
        """Encode one example's inputs, joined: the observation, or observation and goal.

        Args:
            inputs: The inputs.
            shown: Whether the last one is shown, where it may be left out.
        """
        if self.droppable:
            *others, last = inputs
            hidden = jnp.where(shown, 0.0, 1.0)
            inputs = (*others, jnp.where(shown, last, 0.0), hidden[None])
        return self.encoder(jnp.concatenate(inputs))

    def conditions(self, *inputs: Float[Array, "batch width"]) -> Float[Array, "batch condition"]:
        """Encode a batch."""
        return eqx.filter_vmap(self.condition)(*inputs)

    def training_conditions(
        self, key: PRNGKeyArray, dropout: float, *inputs: Float[Array, "batch width"]
    ) -> Float[Array, "batch condition"]:
        """Encode a batch, a share of which is not shown its last input.

        Args:
            key: Random key.
            dropout: The share, in [0, 1); 0 for a policy whose inputs may not be left out.
            inputs: The inputs.
        """
        if not dropout:
            return self.conditions(*inputs)
        shown = jr.bernoulli(key, 1 - dropout, inputs[0].shape[:1])
        return eqx.filter_vmap(lambda shown, *each: self.condition(*each, shown=shown))(
            shown, *inputs
        )

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
        acting: LikelihoodActing = LikelihoodActing(),
    ) -> Float[Array, " action"]:
        """Sample an action, remove training noise of size ``noise``, and clip to [-1, 1].

        Of several samples the likeliest is taken, and then refined, as ``acting`` says.
        """
        flow, condition = self.flow, self.condition(*inputs)
        if acting.guidance:
            flow = guide(flow, acting.guidance)
            condition = jnp.concatenate([condition, self.condition(*inputs, shown=False)])
        count = () if acting.best_of == 1 else (acting.best_of,)
        action = sample_at(acting.temperature, flow, key, condition, count)
        action = denoise(flow, action, condition, noise)
        if count:
            action = action[jnp.argmax(flow.log_prob(action, condition))]
        action = refine(flow, action, condition, acting.refine_steps, acting.refine_rate)
        return jnp.clip(action, -1, 1)


@dataclasses.dataclass(frozen=True)
class FlowPolicyConfig:
    """The sizes of a flow policy; the defaults are the paper's for OGBench."""

    flow: FlowConfig = RealNVPConfig()
    """The density of actions."""
    encoder: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of the encoder of what the action depends on."""
    condition_dim: int = 64
    """Width k of the encoded condition."""

    def build_policy(
        self,
        key: PRNGKeyArray,
        inputs: int,
        action_dim: int,
        *,
        chunk: int = 1,
        acting: LikelihoodActing = LikelihoodActing(),
    ) -> FlowPolicy:
        """Build an untrained policy.

        Args:
            key: Random key of the initial weights.
            inputs: Width of what the action depends on.
            action_dim: Width of an action, or of a chunk laid out as one.
            chunk: How many actions a chunk is of: the tokens of a flow of sequences.
            acting: How it is to act.

        Raises:
            UserError: It is to be guided, and the flow cannot.
        """
        encoder_key, flow_key = jr.split(key)
        droppable = acting.condition_dropout > 0
        flow = self.flow.build_sequence(
            flow_key, tokens=chunk, width=action_dim // chunk, cond_dim=self.condition_dim
        )
        if acting.guidance:
            guide(flow, acting.guidance)  # refuses now what acting would refuse after the training
        encoder = MLP(encoder_key, inputs + droppable, self.encoder, self.condition_dim)
        return FlowPolicy(encoder, flow, droppable)
