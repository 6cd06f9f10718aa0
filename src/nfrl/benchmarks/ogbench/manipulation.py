"""Manipulation data (cube, scene, puzzle): OGBench's scripted oracles, one target after another.

Source: OGBench (Park et al., 2025), section on data collection; the oracles are the package's own.
"""

import numpy as np
from numpy.typing import NDArray
from ogbench.manipspace.envs.cube_env import CubeEnv
from ogbench.manipspace.envs.puzzle_env import PuzzleEnv
from ogbench.manipspace.envs.scene_env import SceneEnv
from ogbench.manipspace.oracles.markov.button_markov import ButtonMarkovOracle
from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle
from ogbench.manipspace.oracles.markov.drawer_markov import DrawerMarkovOracle
from ogbench.manipspace.oracles.markov.window_markov import WindowMarkovOracle
from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

from nfrl.collect.recipe import Recipe
from nfrl.environments.episode import (
    Episode,
    EpisodeRecorder,
    open_environment,
    retry_seeds,
    seed_everything,
)

PLAN_ORACLES = {
    "cube": CubePlanOracle,
    "button": ButtonPlanOracle,
    "drawer": DrawerPlanOracle,
    "window": WindowPlanOracle,
}
MARKOV_ORACLES = {
    "cube": CubeMarkovOracle,
    "button": ButtonMarkovOracle,
    "drawer": DrawerMarkovOracle,
    "window": WindowMarkovOracle,
}

# The noisy data's action noise, per dimension (x, y, z, yaw, gripper), times the episode's level.
NOISE_FACTORS = np.array([1.0, 1.0, 1.0, 3.0, 10.0])
MAX_NOISE_LEVEL = 0.1

# The probability that a target is on top of another cube: its range over episodes, by the number
# of cubes where there is nothing else.
STACK_RANGES = {1: (0.0, 0.0), 2: (0.0, 0.25), 3: (0.05, 0.35), 4: (0.1, 0.5)}
DEFAULT_STACK_RANGE = (0.5, 0.5)


class ManipulationCollector:
    """Collects play data (plans, open loop) or noisy data (closed loop, disturbed)."""

    def __init__(self, recipe: Recipe):
        self._recipe = recipe
        self._environment = open_environment(recipe.environment, mode="data_collection")
        self._is_scene = isinstance(self._environment, SceneEnv)
        self._is_puzzle = isinstance(self._environment, PuzzleEnv)
        cubes = self._environment._num_cubes if isinstance(self._environment, CubeEnv) else 0
        self._stack_range = STACK_RANGES.get(cubes, DEFAULT_STACK_RANGE)

    def episode(self, seeds: np.random.SeedSequence, steps: int) -> Episode:
        """Collect one episode; see `nfrl.collect.collectors.Collector`.

        In the scene, an episode whose cube gets out of reach is thrown away and redone with the
        next attempt's randomness.
        """
        while True:
            episode = self._attempt(seeds, steps)
            if not self._is_scene or cube_in_reach(episode["qpos"]):
                return episode
            seeds = retry_seeds(seeds)

    def _attempt(self, seeds: np.random.SeedSequence, steps: int) -> Episode:
        rng, reset_seed = seed_everything(seeds)
        environment, noisy = self._environment, self._recipe.kind == "noisy"
        oracles = self._oracles()
        p_stack = rng.uniform(*self._stack_range)
        noise = rng.uniform(0.0, MAX_NOISE_LEVEL) * NOISE_FACTORS
        p_random = 0.2 if self._is_puzzle else 0.1

        recorder = EpisodeRecorder()
        observation, info = environment.reset(seed=reset_seed)
        oracle = oracles[info["privileged/target_task"]]
        oracle.reset(observation, info)
        for step in range(steps):
            action = oracle.select_action(observation, info)
            if noisy and rng.uniform() < p_random:
                action = rng.uniform(-1.0, 1.0, size=5)
            elif noisy:
                action = np.clip(action + noise * rng.standard_normal(5), -1.0, 1.0)
            row = {key: info[key] for key in ("qpos", "qvel", "button_states") if key in info}
            recorder.add(observations=observation, actions=action, **row)
            if step == steps - 1:
                return recorder.episode()
            observation, _, _, _, info = environment.step(action)
            if oracle.done:
                target_observation, target_info = environment.set_new_target(p_stack=p_stack)
                oracle = oracles[target_info["privileged/target_task"]]
                oracle.reset(target_observation, target_info)
                # Only the target differs: what was observed stays what it was.
                info = {**info, **target_info}
        raise AssertionError("an episode has at least one step")

    def _oracles(self) -> dict:
        environment = self._environment
        gripper = {"gripper_always_closed": self._is_puzzle}
        noisy = self._recipe.kind == "noisy"
        settings = {"min_norm": 0.4} if noisy else {"noise": 0.1, "noise_smoothing": 0.5}
        return {
            task: oracle(env=environment, **settings, **(gripper if task == "button" else {}))
            for task, oracle in (MARKOV_ORACLES if noisy else PLAN_ORACLES).items()
        }


def cube_in_reach(qpos: NDArray) -> bool:
    """Tell whether the scene's cube stayed where the arm can get at it.

    Args:
        qpos: An episode's positions, (rows, nq); the cube's x, y, z in metres at 14:17.
    """
    y, z = qpos[:, 15], qpos[:, 16]
    in_drawer = (z >= 0.06) & (z <= 0.08)
    return not np.any((y >= 0.29) | ((y <= -0.3) & ~in_drawer))
