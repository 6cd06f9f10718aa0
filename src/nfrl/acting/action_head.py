"""A flow as the action head of another model: features in, chunks of actions out.

What a vision-language-action model knows of a scene is a vector of features. The head is NF-BC's
density of a chunk given that vector: exact, and sampled in one pass, where a diffusion head takes
many. It is a pytree, so it trains within any loop of JAX, alone or with the model before it.
"""

import dataclasses
from typing import Self, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from nfrl.acting.policy import Policy
from nfrl.agents.nf_bc import NFBCConfig
from nfrl.agents.parts.optimization import without_optimizer
from nfrl.data.actions import action_spec
from nfrl.data.samplers import ChunkBatch
from nfrl.errors import UserError
from nfrl.interfaces.agent import ChunkShape, LikelihoodAgent
from nfrl.networks import split_trainable
from nfrl.spec import ActionSpec, Spec


class ActionHead(eqx.Module):
    """The density of a chunk of actions given features.

    Train what :func:`nfrl.networks.split_trainable` calls trainable; the rest are constants, which
    no optimiser may move.

    Attributes:
        agent: The head as an agent, whose observations are features.
        config: What it was built from.
        action: What an action is.
        features: Width of the features.
    """

    agent: LikelihoodAgent
    config: NFBCConfig = eqx.field(static=True)
    action: ActionSpec = eqx.field(static=True)
    features: int = eqx.field(static=True)

    @classmethod
    def build(
        cls,
        key: PRNGKeyArray,
        *,
        features: int,
        actions: ArrayLike,
        chunk: int,
        executed: int | None = None,
        config: NFBCConfig | None = None,
    ) -> Self:
        """Build an untrained head.

        Args:
            key: Random key of the initial weights.
            features: Width of the features.
            actions: (rows, action), the data's: their bounds, and columns of few values as a
                gripper's, are found in them.
            chunk: How many actions are predicted at once.
            executed: How many of them a policy executes; all unless told.
            config: Its sizes, its flow and its training noise, by default the paper's; the history
                and the lengths of chunks in it do not count.

        Raises:
            UserError: A size is less than 1.
            DataError: There are no actions.
        """
        if features < 1:
            raise UserError(f"features must be at least 1; got {features}")
        config = dataclasses.replace(
            config or NFBCConfig(), chunks=ChunkShape(1, chunk, executed or chunk)
        )
        action = action_spec(np.asarray(actions))
        spec = dataclasses.replace(Spec.vectors(features, action.dim), action=action)
        agent = cast(LikelihoodAgent, without_optimizer(config.build(key, spec, 1)))
        return cls(agent, config, action, features)

    def loss(
        self,
        features: Float[Array, "batch features"],
        chunks: Float[Array, "batch chunk action"],
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """Return the batch's mean of -log p(a + sigma eps given features), in nats (NF-BC).

        It can be differentiated by the head and by the features.

        Args:
            features: Of each example.
            chunks: The actions that follow, in the data's units.
            key: Of eps.
        """
        trained, constants = split_trainable(self.agent)
        arrays, others = eqx.partition(constants, eqx.is_array)
        agent = eqx.combine(trained, jax.lax.stop_gradient(arrays), others)
        batch = ChunkBatch(features[:, None], chunks)
        return -agent.validate(batch, key)["log_prob"]

    def log_prob(
        self, features: Float[Array, " features"], chunk: Float[Array, "chunk action"]
    ) -> Float[Array, ""]:
        """Return the exact log-density of a chunk, in nats and in the data's units."""
        return self.agent.log_prob(features[None], jnp.zeros(0), chunk)

    def __call__(
        self, features: Float[Array, " features"], key: PRNGKeyArray
    ) -> Float[Array, "chunk action"]:
        """Sample a chunk, in the data's units: one pass of the flow, and one to denoise."""
        return self.agent.act(features[None], jnp.zeros(0), key)

    def policy(self, *, seed: int = 0) -> Policy:
        """Return the head as a policy of features, to be saved, shared and exported.

        Args:
            seed: Of the policy's own random numbers.
        """
        spec = dataclasses.replace(Spec.vectors(self.features, self.action.dim), action=self.action)
        return Policy(self.agent, self.config, "nf-bc", spec, steps=1, seed=seed)
