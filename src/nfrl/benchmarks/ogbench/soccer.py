"""Antsoccer data: an ant that dribbles a ball to goals, by two experts and a rule.

Source: OGBench (Park et al., 2025). ``navigate`` walks to the ball and dribbles it to one random
goal after another; ``stitch`` either only walks, with the ball elsewhere, or only dribbles.
"""

import numpy as np
from numpy.typing import NDArray

from nfrl.benchmarks.ogbench.mazes import EXPERT_NOISE, Maze, noisy, unit
from nfrl.collect.expert_policy import load_expert
from nfrl.collect.recipe import Recipe
from nfrl.environments.episode import Episode, EpisodeRecorder, open_environment, seed_everything

# Where the numbers of the ant stand in an observation: positions, then velocities; the ball's
# seven positions lie between them, its six velocities at the end.
QUATERNION = slice(3, 7)
JOINTS, VELOCITIES, BALL_ROTATION_ON = slice(2, 15), slice(22, 36), slice(17, None)

DRIBBLE_DISTANCE = 2.0  # Nearer than this to the ball, the ant dribbles.
LONGEST_PASS = 10.0  # The dribbling expert was trained on goals no farther than that.
STUCK_STEPS, STUCK_RADIUS = 150, 2.0
ARRIVED = 0.5


class SoccerCollector:
    """Collects navigate or stitch data."""

    def __init__(self, recipe: Recipe):
        self._recipe = recipe
        self._environment = open_environment(recipe.environment)
        self._maze = Maze(self._environment)
        # Without walls inside, the straight line is the way.
        self._is_open = not self._environment.maze_map[1:-1, 1:-1].any()
        walker, dribbler = recipe.experts
        self._walker, self._dribbler = load_expert(walker), load_expert(dribbler)

    def episode(self, seeds: np.random.SeedSequence, steps: int) -> Episode:
        """Collect one episode; see `nfrl.collect.collectors.Collector`."""
        rng, reset_seed = seed_everything(seeds)
        environment, cells = self._environment, self._maze.cells
        environment.action_space.seed(reset_seed)  # A reset takes a few random steps.
        dribbles = self._recipe.kind == "navigate" or bool(rng.integers(2))
        agent, ball, goal = (cells[i] for i in rng.choice(len(cells), 3, replace=False))
        if self._recipe.kind == "stitch" and dribbles:
            ball = agent
        task = {"agent_init_ij": agent, "ball_init_ij": ball, "goal_ij": goal}

        recorder, visited = EpisodeRecorder(), []
        detour: NDArray | None = None
        observation, _ = environment.reset(seed=reset_seed, options={"task_info": task})
        for step in range(steps):
            agent_xy, ball_xy = environment.get_agent_ball_xy()
            goal_xy = np.asarray(environment.cur_goal_xy)
            visited.append(agent_xy)
            if detour is not None and np.linalg.norm(detour - agent_xy) <= ARRIVED:
                detour = None
            if self._recipe.kind == "navigate" and detour is None and _is_stuck(visited):
                detour = np.array(environment.ij_to_xy(cells[rng.integers(len(cells))]))
            if detour is not None:
                action = self._walk(observation, detour)
            elif not dribbles:
                action = self._walk(observation, goal_xy)
            elif (
                self._recipe.kind == "navigate"
                and np.linalg.norm(agent_xy - ball_xy) > DRIBBLE_DISTANCE
            ):
                action = self._walk(observation, ball_xy)
            else:
                action = self._dribble(observation, ball_xy, goal_xy)
            action = noisy(action, EXPERT_NOISE, rng)
            data = environment.data
            recorder.add(observations=observation, actions=action, qpos=data.qpos, qvel=data.qvel)
            if step == steps - 1:
                break
            observation, _, _, _, info = environment.step(action)
            if info["success"] and self._recipe.kind == "navigate":
                self._maze.set_goal(cells[rng.integers(len(cells))])
        return recorder.episode()

    def _walk(self, observation: NDArray, goal: NDArray) -> NDArray:
        if observation[QUATERNION][0] < 0:
            # q and -q are the same turn. The walker has seen only w >= 0; dribbling turns the ant
            # round by more than a circle, after which the other sign would stop it.
            observation = observation.copy()
            observation[QUATERNION] *= -1
        position = observation[:2]
        next_stop = goal if self._is_open else self._maze.subgoal(position, goal)
        direction = unit(next_stop - position)
        return self._walker(
            np.concatenate((observation[JOINTS], observation[VELOCITIES], direction))
        )

    def _dribble(self, observation: NDArray, ball: NDArray, goal: NDArray) -> NDArray:
        if not self._is_open:
            target = self._maze.subgoal(ball, goal) - ball
        else:
            target = goal - ball
            target = target * min(1.0, LONGEST_PASS / max(float(np.linalg.norm(target)), 1e-6))
        relative = ball - observation[:2]
        return self._dribbler(
            np.concatenate((observation[JOINTS], observation[BALL_ROTATION_ON], relative, target))
        )


def _is_stuck(visited: list[NDArray]) -> bool:
    """Tell whether the last places are all close to the last of them."""
    if len(visited) <= STUCK_STEPS:
        return False
    recent = np.array(visited[-STUCK_STEPS - 1 :])
    return bool(np.linalg.norm(recent[:-1] - recent[-1], axis=1).max() <= STUCK_RADIUS)
