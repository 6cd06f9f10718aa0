"""Demonstrations of two blocks to two places, in both orders: OGBench's scripted oracle."""

from typing import Any

import numpy as np
from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle

from nfrl.benchmarks.imitation.two_blocks import TARGETS, TwoBlocks
from nfrl.collect.recipe import Recipe
from nfrl.environments.episode import Episode, EpisodeRecorder, retry_seeds, seed_everything


class TwoBlocksCollector:
    """Places one block and then the other, in an order drawn for each episode."""

    def __init__(self, recipe: Recipe):
        self._environment = TwoBlocks(terminate_at_goal=False)
        # As in OGBench's play data.
        self._oracle = CubePlanOracle(env=self._environment, noise=0.1, noise_smoothing=0.5)

    def episode(self, seeds: np.random.SeedSequence, steps: int) -> Episode:
        """Collect one episode; see `nfrl.collect.collectors.Collector`.

        Attempts that do not place both blocks within the steps are thrown away.

        Args:
            seeds: The episode's randomness.
            steps: Rows at most, the final observation included.
        """
        while True:
            episode, success = self.attempt(seeds, steps)
            if success:
                return episode
            seeds = retry_seeds(seeds)

    def attempt(self, seeds: np.random.SeedSequence, steps: int) -> tuple[Episode, bool]:
        """Collect one episode, good or bad; it ends when both blocks are placed."""
        rng, reset_seed = seed_everything(seeds)
        environment, oracle = self._environment, self._oracle
        environment.action_space.seed(reset_seed)  # A reset takes a few random steps.
        observation, info = environment.reset(seed=reset_seed, options={"task_id": 1})
        order = [int(block) for block in rng.permutation(2)]
        info |= _target(order[0])
        oracle.reset(observation, info)
        recorder = EpisodeRecorder()
        for step in range(steps):
            action = np.clip(oracle.select_action(observation, info), -1.0, 1.0)
            recorder.add(
                observations=observation, actions=action, qpos=info["qpos"], qvel=info["qvel"]
            )
            if info["success"] or step == steps - 1:
                break
            observation, _, _, _, info = environment.step(action)
            if oracle.done:
                order = order[1:] or order
                oracle.reset(observation, info | _target(order[0]))
            info |= _target(order[0])
        return recorder.episode(), bool(info["success"])


def _target(block: int) -> dict[str, Any]:
    """What the oracle asks of an environment that collects data."""
    return {
        "privileged/target_block": block,
        "privileged/target_block_pos": TARGETS[block],
        "privileged/target_block_yaw": np.zeros(1),
    }
