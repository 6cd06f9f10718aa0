"""A point robot: a position, a velocity, and walls that stop it."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.benchmarks.mazes.layouts import CELL, Layout

CLEARANCE = 1e-3
"""How far from a wall's face the robot comes to rest: more than rounding can bridge."""
START_NOISE = 0.1
"""Half the side of the square about the start that an episode begins in."""


class PointState(NamedTuple):
    """Where the robot is and how it moves."""

    position: Float[Array, "2"]
    velocity: Float[Array, "2"]


@dataclasses.dataclass(frozen=True)
class PointRobot:
    """Newton's law with linear drag, one step of ``step_seconds`` at a time.

        v <- v + dt (acceleration a - drag v),  x <- x + dt v

    The axes move one after the other. An axis that would enter a wall stops at its face and loses
    its speed, so the robot slides along walls. A step is shorter than a cell, whatever the speed,
    so no wall is passed.

    With the default values the top speed is 0.2 units (a twentieth of a cell) a step. It crosses
    the largest maze in an episode, but noise, whose reach grows with the root of time alone, stays
    near the start: which goals are tried then decides what is seen.
    """

    layout: Layout
    acceleration: float = 4.0
    """Of a full action along one axis, in units/s^2."""
    drag: float = 2.0
    """Deceleration by speed, in 1/s."""
    step_seconds: float = 0.1
    """dt."""
    episode_length: int = 400
    """Steps of an episode."""

    observation_dim: ClassVar[int] = 4
    action_dim: ClassVar[int] = 2

    def reset(self, key: PRNGKeyArray) -> PointState:
        """Begin near the start cell's centre, at rest."""
        start = jnp.asarray(self.layout.centres((self.layout.start,))[0])
        noise = jr.uniform(key, (2,), minval=-START_NOISE, maxval=START_NOISE)
        return PointState(start + noise, jnp.zeros(2))

    def step(self, state: PointState, action: Float[Array, "2"]) -> PointState:
        """Move for one step under an action, clipped to [-1, 1]."""
        dt, limit = self.step_seconds, (1 - 1e-3) * CELL / self.step_seconds
        thrust = self.acceleration * jnp.clip(action, -1, 1)
        velocity = state.velocity + dt * (thrust - self.drag * state.velocity)
        velocity = jnp.clip(velocity, -limit, limit)
        position = state.position
        for axis in range(2):
            position, velocity = self._move(position, velocity, axis)
        return PointState(position, velocity)

    def observation(self, state: PointState) -> Float[Array, "4"]:
        """Return (x, y, vx, vy)."""
        return jnp.concatenate(state)

    def _move(self, position: Array, velocity: Array, axis: int) -> tuple[Array, Array]:
        """Move along one axis, as far as the next wall."""
        moved = position.at[axis].add(self.step_seconds * velocity[axis])
        row, column = self.layout.cell_of(moved)
        blocked = jnp.asarray(self.layout.walls)[row, column]
        centre = CELL * self.layout.cell_of(position)[axis]
        face = centre + jnp.sign(velocity[axis]) * (CELL / 2 - CLEARANCE)
        stopped = position.at[axis].set(face)
        return (
            jnp.where(blocked, stopped, moved),
            jnp.where(blocked, velocity.at[axis].set(0), velocity),
        )
