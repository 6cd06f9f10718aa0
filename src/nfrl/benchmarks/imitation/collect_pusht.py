"""PushT demonstrations, planned in the simulator: one push after another, several ways round.

Sampling-based model-predictive control over pushes. A push is a place on the block's outline, a
direction and a length. At each decision many pushes are drawn and simulated from the state at
hand, each until it leaves the block's keypoints nearest to the mark. Of each side of the block the
best push stays, and one of these is taken by chance: a Boltzmann choice over what it leaves, and
how far away it is. The disc then goes round the block, one way or the other, and pushes; then all
is planned anew.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.benchmarks.imitation.pusht import (
    GOAL_POSE,
    SIZE,
    PushT,
    from_pixels,
    keypoints,
    open_physics,
)
from nfrl.collect.recipe import Recipe
from nfrl.environments.episode import Episode, EpisodeRecorder, retry_seeds, seed_everything

KEPT_COVERAGE = 0.9

# The block's outline, in its own frame and in pixels.
OUTLINE = np.array(
    [(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)],
    np.float64,
)
RADIUS = 15.0  # of the disc
CLEARANCE = 6.0  # between disc and block before a push
TRAVEL_SPEED = 30.0  # pixels a step
PUSH_SPEED = 8.0
SETTLING = 3  # steps that the disc lags behind where it is drawn to, roughly

# Corners of a way round the block, which leaves room for cutting them.
RING = OUTLINE + (RADIUS + 10.0) * np.array(
    [(-1, -1), (1, -1), (1, 1), (1, 1), (1, 1), (-1, 1), (-1, 1), (-1, 1)]
)
# Where to go from a place beside the block to be clear of it: the shortest step first.
STEPS_BACK = np.array(
    [
        (length * np.cos(angle), length * np.sin(angle))
        for length in range(2, 60, 2)
        for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ]
)
DETOUR = 60.0  # pixels by which the longer way may be longer and still be taken now and then

CANDIDATES = 96
# What the choice among the sides' best pushes weighs, in pixels of the keypoints' mean distance.
TEMPERATURE = 2.0
WAY_COST = 0.02  # for each pixel to where a push begins
FAR = 20.0  # where the block is as far as this or further, all of these count in full
LONGEST_PUSH = 110.0
SIMULATED_SPEED = 1.5  # pixels a physics step; the block has no momentum, so that speed is nothing


@dataclasses.dataclass(frozen=True)
class Push:
    """Which side is pushed, where the disc starts and stops, and what is left to the mark then.

    All but the side, a number, in pixels; what is left is the keypoints' mean distance.
    """

    side: int
    start: NDArray
    stop: NDArray
    cost: float


class PushTCollector:
    """Plans demonstrations of PushT, all of which end with the block on its mark."""

    def __init__(self, recipe: Recipe):
        """Take the recipe as every collector does; there is nothing in it to choose by."""

    def episode(self, seeds: np.random.SeedSequence, steps: int) -> Episode:
        """Plan one episode; see `nfrl.collect.collectors.Collector`.

        Attempts that do not cover 0.9 of the mark within the steps are thrown away.

        Args:
            seeds: The episode's randomness.
            steps: Rows at most, the final observation included.
        """
        while True:
            episode, coverage = self.attempt(seeds, steps)
            if coverage > KEPT_COVERAGE:
                return episode
            seeds = retry_seeds(seeds)

    def attempt(
        self, seeds: np.random.SeedSequence, steps: int, start: int | None = None
    ) -> tuple[Episode, float]:
        """Plan one episode, good or bad.

        Args:
            seeds: The episode's randomness.
            steps: Rows at most.
            start: Seed of the start; by default one of the episode's.

        Returns:
            The episode and the share of the mark that is covered at its end, in [0, 1].
        """
        rng, reset_seed = seed_everything(seeds)
        environment = PushT()  # new, so that no earlier episode's contacts are remembered
        planner = Planner(rng)
        recorder = EpisodeRecorder()
        observation, info = environment.reset(seed=reset_seed if start is None else start)
        places: list[NDArray] = []
        for step in range(steps):
            if not places:
                places = planner.plan(info["state"])
            action = np.clip(from_pixels(places.pop(0)), -1.0, 1.0)
            velocity = np.array(environment.physics.agent.velocity)
            recorder.add(
                observations=observation, actions=action, qpos=info["state"], qvel=velocity
            )
            if info["success"] or step == steps - 1:
                break
            observation, _, _, _, info = environment.step(action)
        return recorder.episode(), info["score"]


class Planner:
    """Chooses pushes; keeps a simulator to try them in.

    Args:
        rng: What it chooses by.
    """

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._physics: Any = open_physics()
        self._physics._setup()

    def plan(self, state: NDArray) -> list[NDArray]:
        """Return the places that the disc is to be drawn to for the next push, one a step.

        Args:
            state: The disc's x and y and the block's x, y and angle.
        """
        pushes = self._best_pushes(state[2:])
        if not pushes:
            return [self._rng.uniform(0, SIZE, 2)]
        costs = np.array([push.cost for push in pushes])
        # Near the mark only the best will do, wherever it is.
        scale = np.clip(costs.min() / FAR, 0.05, 1.0)
        ways = [np.linalg.norm(push.start - state[:2]) for push in pushes]
        costs = costs / scale + WAY_COST * np.array(ways)
        weights = np.exp((costs.min() - costs) / TEMPERATURE)
        push = pushes[self._rng.choice(len(pushes), p=weights / weights.sum())]
        route = self._route(state[2:], state[:2], push.start)
        return [
            *_walk(state[:2], route, TRAVEL_SPEED),
            *[push.start] * SETTLING,
            *_walk(push.start, [push.stop], PUSH_SPEED),
            *[push.stop] * SETTLING,
        ]

    def _best_pushes(self, pose: NDArray) -> list[Push]:
        """Draw and simulate pushes; return the best of each side that has a good one."""
        best: dict[int, Push] = {}
        for _ in range(CANDIDATES):
            push = self._try(pose, *self._draw())
            if push is not None and (push.side not in best or push.cost < best[push.side].cost):
                best[push.side] = push
        return [best[side] for side in sorted(best)]

    def _draw(self) -> tuple[int, NDArray, NDArray]:
        """Draw a side, a place beside it and a direction of pushing, in the block's frame."""
        sides = np.roll(OUTLINE, -1, axis=0) - OUTLINE
        lengths = np.linalg.norm(sides, axis=1)
        side = self._rng.choice(len(sides), p=lengths / lengths.sum())
        along = sides[side] / lengths[side]
        normal = np.array([along[1], -along[0]])  # outward, as the outline runs anticlockwise
        contact = OUTLINE[side] + self._rng.uniform() * sides[side]
        tilt = self._rng.normal(0.0, 0.2)
        direction = -np.cos(tilt) * normal + np.sin(tilt) * along
        return int(side), contact - (RADIUS + CLEARANCE) * direction, direction

    def _try(self, pose: NDArray, side: int, start: NDArray, direction: NDArray) -> Push | None:
        """Simulate a push, and stop it where it leaves least to the mark."""
        if _distance(start) < RADIUS + CLEARANCE / 2:
            return None
        world, heading = _to_world(pose, start), _rotate(direction, pose[2])
        if not ((world > 0) & (world < SIZE)).all():
            return None
        poses = self._simulate(pose, world, heading)
        errors = np.linalg.norm(keypoints(poses) - keypoints(GOAL_POSE), axis=-1).mean(axis=-1)
        best = int(np.argmin(errors))
        if best == 0:
            return None
        stop = np.clip(world + (best + 1) * SIMULATED_SPEED * heading, 0, SIZE)
        return Push(side, world, stop, float(errors[best]))

    def _simulate(self, pose: NDArray, place: NDArray, heading: NDArray) -> NDArray:
        """Return the block's poses (n, 3), one a physics step, while the disc moves straight on."""
        space, agent, block = self._physics.space, self._physics.agent, self._physics.block
        dt = self._physics.dt
        agent.position, agent.velocity = place.tolist(), (0.0, 0.0)
        block.angle = pose[2]
        block.position, block.velocity, block.angular_velocity = pose[:2].tolist(), (0.0, 0.0), 0.0
        space.reindex_shapes_for_body(agent)
        space.reindex_shapes_for_body(block)
        agent.velocity = (heading * SIMULATED_SPEED / dt).tolist()
        poses = []
        for _ in range(int(LONGEST_PUSH / SIMULATED_SPEED)):
            space.step(dt)
            x, y = block.position
            poses.append((x, y, block.angle))
        return np.array(poses)

    def _route(self, pose: NDArray, start: NDArray, end: NDArray) -> list[NDArray]:
        """Return the corners of a way from one place to another that does not touch the block.

        Round the block one way or the other, by chance where both are about as long.
        """
        start, end = _step_back(_to_block(pose, start)), _to_block(pose, end)
        way = [end]
        if not _is_free(start, end):
            ways = [way for step in (1, -1) if (way := _way_round(start, end, step))] or [[end]]
            lengths = np.array([_length([start, *each]) for each in ways])
            weights = np.exp((lengths.min() - lengths) / DETOUR)
            way = ways[self._rng.choice(len(ways), p=weights / weights.sum())]
        return [_to_world(pose, corner) for corner in [start, *way]]


def _way_round(start: NDArray, end: NDArray, step: int) -> list[NDArray]:
    """Return the shortest way along the ring in one direction; empty if there is none."""
    enter = [i for i in range(len(RING)) if _is_free(start, RING[i])]
    leave = [i for i in range(len(RING)) if _is_free(RING[i], end)]
    ways = [
        [*(RING[(i + step * k) % len(RING)] for k in range((step * (j - i)) % len(RING) + 1)), end]
        for i in enter
        for j in leave
    ]
    return min(ways, key=lambda way: _length([start, *way]), default=[])


def _step_back(place: NDArray) -> NDArray:
    """Return the nearest place that is clear of the block, in the block's frame."""
    places = place + np.concatenate([np.zeros((1, 2)), STEPS_BACK])
    clear = _distance(places) > RADIUS + CLEARANCE / 2
    return places[np.argmax(clear)]


def _length(places: list[NDArray]) -> float:
    return float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())


def _is_free(start: NDArray, end: NDArray) -> bool:
    """Whether the disc can go straight from one place to another, in the block's frame."""
    share = np.linspace(0, 1, 24)[:, None]
    return bool((_distance(start + share * (end - start)) > RADIUS + CLEARANCE / 4).all())


def _walk(start: NDArray, corners: list[NDArray], speed: float) -> list[NDArray]:
    """Return places along a path, ``speed`` apart or a little less, its corners among them."""
    places: list[NDArray] = []
    for end in corners:
        count = max(1, int(np.ceil(np.linalg.norm(end - start) / speed)))
        places += [start + (end - start) * (i + 1) / count for i in range(count)]
        start = end
    return places


def _rotate(vector: NDArray, angle: float) -> NDArray:
    cos, sin = np.cos(angle), np.sin(angle)
    return vector @ np.array([[cos, sin], [-sin, cos]])


def _to_world(pose: NDArray, place: NDArray) -> NDArray:
    return _rotate(place, pose[2]) + pose[:2]


def _to_block(pose: NDArray, place: NDArray) -> NDArray:
    return _rotate(place - pose[:2], -pose[2])


def _distance(places: NDArray) -> NDArray:
    """Return how far places (..., 2) in the block's frame are from the block, in pixels."""
    low = np.array([(-60, 0), (-15, 30)])
    high = np.array([(60, 30), (15, 120)])
    places = places[..., None, :]
    outside = np.maximum(np.maximum(low - places, places - high), 0)
    return np.linalg.norm(outside, axis=-1).min(axis=-1)
