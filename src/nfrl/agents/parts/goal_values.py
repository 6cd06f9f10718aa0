"""What goal-conditioned agents with values have in common (Park et al., 2025, OGBench).

Their values are learned for goals of a mixture: the state itself, a later one of its trajectory,
any one of the data. Their actor is improved for goals of another mixture.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.checks import check_discount, check_expectile
from nfrl.agents.parts.implicit_q import expectile_weight
from nfrl.agents.parts.optimization import AdamW, constant_adam
from nfrl.agents.wrappers.options import GoalOptions
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalMixture, GoalTransitions, sample_goal_transitions


@dataclasses.dataclass(frozen=True)
class GoalValueConfig(GoalOptions):
    """Goals, networks and optimiser; the defaults are OGBench's."""

    hidden: tuple[int, ...] = (512, 512, 512)
    """Hidden widths of an actor, which has no LayerNorm."""
    critic: tuple[int, ...] = (512, 512, 512)
    """Hidden widths of each network of values, with LayerNorm."""
    discount: float = 0.99
    """gamma of values and of geometric goals: 0.995 for humanoidmaze and the giant mazes."""
    value_goals: GoalMixture = GoalMixture(same=0.2, random=0.3)
    """The goals that values are learned for."""
    actor_goals: GoalMixture = GoalMixture(geometric=False)
    """Those that the actor is improved for: half of them random where data are to be stitched."""
    optimizer: AdamW = constant_adam(3e-4)
    """Adam, 3e-4, for each network."""

    def __post_init__(self):
        super().__post_init__()
        check_discount(self.discount)

    def draw(
        self,
        dataset: Dataset,
        key: PRNGKeyArray,
        batch_size: int,
        chunk: int,
        steps_ahead: int | None = None,
    ) -> GoalTransitions:
        """Draw transitions with goals of both mixtures.

        Args:
            dataset: Where to draw from.
            key: Random key.
            batch_size: How many.
            chunk: Actions that are one.
            steps_ahead: k of subgoals; None for none.
        """
        return sample_goal_transitions(
            dataset,
            key,
            batch_size,
            discount=self.discount,
            value_goals=self.value_goals,
            actor_goals=self.actor_goals,
            steps_ahead=steps_ahead,
            chunk=chunk,
        )


@dataclasses.dataclass(frozen=True)
class ImplicitVConfig(GoalValueConfig):
    """Implicit V-learning; the defaults are OGBench's."""

    tau: float = 0.005
    """How far the target values follow in a step."""
    expectile: float = 0.9
    """Of V: 0.5 is the mean of what the data do, 1 their best."""

    def __post_init__(self):
        super().__post_init__()
        check_expectile(self.expectile)


def implicit_v_loss(
    values: Float[Array, "batch members"],
    target_values: Float[Array, "batch members"],
    next_target_values: Float[Array, "batch members"],
    batch: GoalTransitions,
    config: ImplicitVConfig,
) -> Array:
    """Return the loss of an ensemble V_i(s, g), whose gradient reaches ``values`` alone.

        sum_i E |expectile - 1(A < 0)| (y_i - V_i(s, g))^2,  y_i = r + gamma mask Vbar_i(s', g),
        A = min_i y_i - mean_i Vbar_i(s, g)

    The weight is of the targets' advantage, not of each error's own sign (Park et al., 2023).

    Args:
        values: V_i(s, g).
        target_values: Vbar_i(s, g), of the target network.
        next_target_values: Vbar_i(s', g).
        batch: Its rewards and masks.
        config: Discount and expectile.
    """
    rewards, masks = batch.rewards[:, None], batch.masks[:, None]
    target = jax.lax.stop_gradient(rewards + config.discount * masks * next_target_values)
    better = target.min(-1) - jax.lax.stop_gradient(target_values).mean(-1)
    weight = expectile_weight(better, config.expectile)
    return (weight * jnp.square(target - values).sum(-1)).mean()


def towards(
    observations: Float[Array, "*batch observation"], goals: Float[Array, "*batch goal"]
) -> Float[Array, "*batch both"]:
    """Return [s; g]: what is seen, and beside it where to go."""
    return jnp.concatenate((observations, goals), axis=-1)
