"""A graph over the places that the data have been at: how many steps lie between any two.

Places are the columns of an observation that decide success, such as x and y. Landmarks are places
spread over the data; an edge says that some trajectory went from near one landmark to near another
in so many steps. Shortest paths join pieces of different trajectories, and, unlike a smooth value
network of x and y, never lead through a wall.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from paramax import NonTrainable

NEAREST = 3
"""Landmarks that a place is told by."""
EDGE_COST = 3.0
"""Steps added to every edge: a path of many short edges counts as longer than one of few, since
each edge may begin anywhere near its landmark."""
FAR = 1e5
"""Steps between landmarks that no path joins."""
JUMP = 10.0
"""A step this many times as long as most is a jump, such as a teleporter's. Where it leads is
chance, so no edge goes through it: else every place that it may lead to would seem near."""


class PlaceGraph(eqx.Module):
    """Landmarks, the steps between any two, and how many steps a unit of distance takes."""

    _landmarks: NonTrainable[Float[Array, "landmarks place"]]
    _steps: NonTrainable[Float[Array, "landmarks landmarks"]]
    _steps_per_unit: NonTrainable[Float[Array, ""]]

    @classmethod
    def empty(cls, landmarks: int, width: int) -> "PlaceGraph":
        """Return a graph of this shape, to load a saved one into."""
        return cls(
            NonTrainable(jnp.zeros((landmarks, width))),
            NonTrainable(jnp.zeros((landmarks, landmarks))),
            NonTrainable(jnp.zeros(())),
        )

    @classmethod
    def of(
        cls,
        places: Float[np.ndarray, "rows place"],
        last: Int[np.ndarray, " rows"],
        *,
        landmarks: int,
        reach: int,
    ) -> "PlaceGraph":
        """Build the graph of a data set.

        Args:
            places: Where each row is.
            last: For each row, the index of its trajectory's last row.
            landmarks: How many; at most as many as there are distinct places.
            reach: The longest edge, in steps.
        """
        places = np.asarray(places, np.float32)
        chosen = spread(places, landmarks)
        nearest = _nearest(places, chosen)
        steps = np.full((landmarks, landmarks), FAR, np.float32)
        np.fill_diagonal(steps, 0.0)
        rows = np.arange(len(places))
        jumps = _jumps_before(places, last)
        for length in _edge_lengths(reach):
            begins = rows[rows + length <= last]
            begins = begins[jumps[begins] == jumps[begins + length]]
            pairs = nearest[begins], nearest[begins + length]
            np.minimum.at(steps, pairs, np.float32(length + EDGE_COST))
        for middle in range(landmarks):  # Floyd and Warshall
            np.minimum(steps, steps[:, middle, None] + steps[None, middle], out=steps)
        begins = rows[rows + reach <= last]
        moved = np.linalg.norm(places[begins + reach] - places[begins], axis=1)
        speed = max(float(np.quantile(moved, 0.9)) / reach, 1e-6)
        return cls(
            NonTrainable(jnp.asarray(chosen)),
            NonTrainable(jnp.asarray(steps)),
            NonTrainable(jnp.asarray(1 / speed, jnp.float32)),
        )

    def steps_between(
        self, places: Float[Array, "places place"], goal: Float[Array, " place"]
    ) -> Float[Array, " places"]:
        """Return about how many steps lie between places and a goal; ``FAR`` where no path is."""
        landmarks, steps = self._landmarks.tree, self._steps.tree
        to_goal = self._approach(goal)
        index = jax.lax.top_k(-to_goal, NEAREST)[1]
        from_landmark = (steps[:, index] + to_goal[index]).min(1)

        def one(place: Array) -> Array:
            here = self._approach(place)
            near = jax.lax.top_k(-here, NEAREST)[1]
            return (here[near] + from_landmark[near]).min()

        direct = self._steps_per_unit.tree * jnp.linalg.norm(places - goal, axis=-1)
        gap = self._steps_per_unit.tree * jnp.linalg.norm(landmarks[index[0]] - goal)
        through = jax.vmap(one)(places)
        # Nearer to the goal than its landmarks are, the straight way is the shorter one.
        return jnp.where(direct <= gap, direct, through)

    def _approach(self, place: Float[Array, " place"]) -> Float[Array, " landmarks"]:
        """Return the steps to every landmark as the crow flies."""
        return self._steps_per_unit.tree * jnp.linalg.norm(self._landmarks.tree - place, axis=-1)


def spread(
    places: Float[np.ndarray, "rows place"], count: int, *, considered: int = 20_000
) -> Float[np.ndarray, "count place"]:
    """Choose places that are far from each other: each is the farthest from those before it.

    Args:
        places: All of them.
        count: How many to choose.
        considered: Of how many, evenly spread over the rows.
    """
    pool = places[np.linspace(0, len(places) - 1, min(considered, len(places))).astype(int)]
    chosen = np.empty((count, places.shape[1]), np.float32)
    chosen[0] = pool[0]
    distance = np.full(len(pool), np.inf, np.float32)
    for i in range(1, count):
        distance = np.minimum(distance, np.square(pool - chosen[i - 1]).sum(1))
        chosen[i] = pool[int(distance.argmax())]
    return chosen


def jump_distance(
    places: Float[np.ndarray, "rows place"], last: Int[np.ndarray, " rows"]
) -> float | None:
    """Return how far a step must go to be a jump; None where no step of the data does.

    Steps that stay where they are say nothing of it.
    """
    moved = _moved(places, last)
    moving = moved[moved > 0]
    if not len(moving):
        return None
    distance = JUMP * float(np.quantile(moving, 0.9))
    return distance if moving.max() > distance else None


def _moved(
    places: Float[np.ndarray, "rows place"], last: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, " steps"]:
    """Return how far each step went, from each row to the next; 0 between trajectories."""
    within = np.arange(len(places) - 1) < last[:-1]
    return np.linalg.norm(np.diff(places, axis=0), axis=1) * within


def _jumps_before(
    places: Float[np.ndarray, "rows place"], last: Int[np.ndarray, " rows"]
) -> Int[np.ndarray, " rows"]:
    """Return how many jumps lie before each row, all trajectories laid end to end."""
    distance = jump_distance(places, last)
    jumps = np.zeros(len(places) - 1) if distance is None else _moved(places, last) > distance
    return np.concatenate([[0], np.cumsum(jumps)])


def _nearest(places: np.ndarray, landmarks: np.ndarray, at_once: int = 50_000) -> np.ndarray:
    """Return the index of the landmark nearest to each place."""
    squares = np.square(landmarks).sum(1)
    parts = [
        (squares - 2 * places[i : i + at_once] @ landmarks.T).argmin(1)
        for i in range(0, len(places), at_once)
    ]
    return np.concatenate(parts)


def _edge_lengths(reach: int) -> list[int]:
    """Return the lengths of edges, in steps: the reach, and shorter ones."""
    return sorted({max(reach * part // 5, 1) for part in (1, 2, 3, 4, 5)})
