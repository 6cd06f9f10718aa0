"""Demonstrations of the four corner targets in random orders, by the ant expert."""

import numpy as np

from nfrl.benchmarks.imitation.multimodal_ant import TARGETS, MultimodalAnt
from nfrl.benchmarks.ogbench.mazes import EXPERT_NOISE, noisy, unit
from nfrl.collect.expert_policy import load_expert
from nfrl.collect.recipe import Recipe
from nfrl.environments.episode import Episode, EpisodeRecorder, retry_seeds, seed_everything
from nfrl.errors import UserError

ATTEMPTS = 50


class MultimodalAntCollector:
    """Runs to the targets in an order drawn for each episode."""

    def __init__(self, recipe: Recipe):
        self._environment = MultimodalAnt(terminate_at_goal=False)
        (expert,) = recipe.experts
        self._policy = load_expert(expert)

    def episode(self, seeds: np.random.SeedSequence, steps: int) -> Episode:
        """Collect one episode; see `nfrl.collect.collectors.Collector`.

        Attempts that do not reach all targets, in the order drawn, within the steps are thrown
        away: the orders' frequencies are those of chance.

        Args:
            seeds: The episode's randomness.
            steps: Rows at most, the final observation included.

        Raises:
            UserError: No attempt succeeds: the expert is no good, or the steps are too few.
        """
        for _ in range(ATTEMPTS):
            episode, success = self.attempt(seeds, steps)
            if success:
                return episode
            seeds = retry_seeds(seeds)
        raise UserError(
            f"the ant expert reached the four targets in none of {ATTEMPTS} attempts of {steps} "
            "steps; give it more steps, or train it longer"
        )

    def attempt(self, seeds: np.random.SeedSequence, steps: int) -> tuple[Episode, bool]:
        """Collect one episode, good or bad; it ends when all targets are reached.

        Returns:
            The episode, and whether it reached them in the order drawn.
        """
        rng, reset_seed = seed_everything(seeds)
        environment = self._environment
        order = [int(target) for target in rng.permutation(len(TARGETS))]
        recorder = EpisodeRecorder()
        observation, info = environment.reset(seed=reset_seed)
        for step in range(steps):
            ahead = [target for target in order if target not in info["order"]]
            goal = TARGETS[ahead[0]] if ahead else environment.get_xy()
            direction = unit(goal - environment.get_xy())
            action = self._policy(np.concatenate((observation[2:29], direction)))
            action = noisy(action, EXPERT_NOISE, rng)
            data = environment.data
            recorder.add(observations=observation, actions=action, qpos=data.qpos, qvel=data.qvel)
            if info["success"] or step == steps - 1:
                break
            observation, _, _, _, info = environment.step(action)
        return recorder.episode(), info["order"] == tuple(order)
