"""How agents follow a gradient."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from nfrl.errors import UserError
from nfrl.networks import split_trainable

Model = TypeVar("Model")
Agent = TypeVar("Agent")


@dataclasses.dataclass(frozen=True)
class AdamW:
    """AdamW with a linear warm-up and a cosine decay (paper, appendix)."""

    learning_rate: float = 3e-4
    """Peak learning rate."""
    weight_decay: float = 1e-6
    """Decoupled weight decay, of every parameter."""
    warmup_steps: int = 500
    """Steps of linear warm-up from zero."""
    final_learning_rate: float = 1e-6
    """Learning rate at the end of the cosine decay."""
    clip_norm: float | None = None
    """Global norm that gradients are clipped to; None for no clipping (the paper's)."""

    def __post_init__(self):
        if self.learning_rate < 0 or self.final_learning_rate < 0:
            raise UserError(
                "learning-rate and final-learning-rate must be at least 0; got "
                f"{self.learning_rate} and {self.final_learning_rate}"
            )

    def build(self, steps: int) -> optax.GradientTransformation:
        """Build the optimiser for a run of so many steps."""
        warmup = min(self.warmup_steps, max(steps // 10, 1))
        schedule = optax.warmup_cosine_decay_schedule(
            init_value=0.0,
            peak_value=self.learning_rate,
            warmup_steps=warmup,
            decay_steps=max(steps, warmup + 1),
            end_value=self.final_learning_rate,
        )
        clip = (
            optax.identity()
            if self.clip_norm is None
            else optax.clip_by_global_norm(self.clip_norm)
        )
        # One long vector in place of a hundred small arrays, each of which costs a call of its own.
        return optax.flatten(
            optax.chain(clip, optax.adamw(schedule, weight_decay=self.weight_decay))
        )


def constant_adam(learning_rate: float) -> AdamW:
    """Return plain Adam: no weight decay, no warm-up, no decay of the learning rate."""
    return AdamW(learning_rate, 0.0, 0, learning_rate)


def gradient_step(
    loss: Callable[[Model], tuple[Array, dict[str, Array]]],
    model: Model,
    optimizer: optax.GradientTransformation,
    state: optax.OptState,
) -> tuple[Model, optax.OptState, dict[str, Array]]:
    """Take one step down the gradient of a loss with respect to the model's floats.

    Args:
        loss: Maps the model to (loss, metrics).
        model: Any pytree; its integer arrays are constants.
        optimizer: From :meth:`AdamW.build`.
        state: Its state.

    Returns:
        The new model, the new state, and the metrics with ``loss`` and ``grad_norm`` added.
    """
    parameters, constants = split_trainable(model)

    def loss_of(parameters: Any) -> tuple[Array, dict[str, Array]]:
        return loss(eqx.combine(parameters, constants))

    (value, metrics), gradient = jax.value_and_grad(loss_of, has_aux=True)(parameters)
    updates, state = optimizer.update(gradient, state, parameters)
    # Of the one long vector that the optimiser makes anyway: on a GPU, every small array more is a
    # call more.
    grad_norm = jnp.linalg.norm(ravel_pytree(gradient)[0])
    metrics = {"loss": value, "grad_norm": grad_norm, **metrics}
    return eqx.combine(optax.apply_updates(parameters, updates), constants), state, metrics


def follow(average: Model, online: Model, tau: float | Array) -> Model:
    """Move an average's floats by tau towards those of the network that is trained."""
    parameters, constants = split_trainable(average)
    trained, _ = split_trainable(online)
    return eqx.combine(optax.incremental_update(trained, parameters, tau), constants)


def zero_gradient_step(
    model: Model, optimizer: optax.GradientTransformation, state: optax.OptState
) -> tuple[Model, optax.OptState]:
    """Take a step with a gradient of zero, in which Adam moves on by what it remembers."""
    parameters, constants = split_trainable(model)
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    updates, state = optimizer.update(zeros, state, parameters)
    return eqx.combine(optax.apply_updates(parameters, updates), constants), state


def initial_state(optimizer: optax.GradientTransformation, model: Any) -> optax.OptState:
    """Return the optimiser's state for a model's floats."""
    return optimizer.init(split_trainable(model)[0])


def join_metrics(**parts: dict[str, Array]) -> dict[str, Array]:
    """Join the metrics of gradient steps that make up one update.

    Returns:
        The sum of the losses as ``loss`` with each as ``PART_loss``, the joint ``grad_norm``, and
        all other metrics under their own names.
    """
    joined: dict[str, Array] = {
        "loss": sum((part["loss"] for part in parts.values()), jnp.zeros(())),
        "grad_norm": optax.tree.norm([part["grad_norm"] for part in parts.values()]),
    }
    for name, part in parts.items():
        others = {key: value for key, value in part.items() if key not in ("loss", "grad_norm")}
        joined |= {f"{name}_loss": part["loss"], **others}
    return joined


def mean_metrics(metrics: dict[str, Array]) -> dict[str, Array]:
    """Average metrics over their first axis."""
    return jax.tree.map(lambda value: value.mean(0), metrics)


def without_optimizer(agent: Agent) -> Agent:
    """Return an agent that can act and be scored, but holds no optimiser's state."""

    def held(agent: Any) -> list[Any]:
        return jax.tree.leaves(agent.optimizer_state)

    return eqx.tree_at(held, agent, [None] * len(held(agent)))
