"""What "laptop" and "paper" mean for an agent and a task."""

import dataclasses
from typing import Any, Literal, cast, get_args

from nfrl.agents import (
    AGENTS,
    GOAL_CONDITIONED,
    OFFLINE_RL,
    AgentConfig,
    FMGCBCConfig,
    GCBCConfig,
    NFGCBCConfig,
    NFRLBCConfig,
)
from nfrl.agents.optimization import AdamW, constant_adam
from nfrl.errors import UserError, unknown_name
from nfrl.tasks import Task
from nfrl.training.offline import OfflineTraining

PresetName = Literal["laptop", "paper"]
PRESETS: tuple[PresetName, ...] = get_args(PresetName)


@dataclasses.dataclass(frozen=True)
class Preset:
    """A complete choice of values for an agent on a task."""

    agent: AgentConfig
    training: OfflineTraining
    episodes: int | None
    """Episodes of the data set; None for the full number."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a task takes on two processor cores."""

    steps: int = 30_000
    episodes: int | None = 150


# Chosen by single-seed trials of the flow on cube-single (docs/results.md): small networks, a
# higher learning rate for short runs, half the paper's training noise. The rivals have as many
# parameters and the same optimiser, and were not tuned.
LAPTOP_OPTIMIZER = AdamW(learning_rate=1e-3)
LAPTOP_AGENTS: dict[str, AgentConfig] = {
    "nf-gcbc": NFGCBCConfig(
        blocks=4, channels=64, encoder=(256, 256, 256), noise=0.05, optimizer=LAPTOP_OPTIMIZER
    ),
    "gcbc": GCBCConfig(hidden=(304, 304, 304, 304), optimizer=LAPTOP_OPTIMIZER),
    "fm-gcbc": FMGCBCConfig(hidden=(304, 304, 304, 304), optimizer=LAPTOP_OPTIMIZER),
    "nf-rlbc": NFRLBCConfig(
        blocks=4,
        channels=64,
        encoder=(256, 256, 256),
        critic=(256, 256, 256),
        optimizer=constant_adam(3e-4),
    ),
}
# Cube-single's was tried; the others are first guesses.
LAPTOP_BUDGETS = {
    "cube-single-play-v0": Budget(steps=45_000, episodes=400),
    "cube-double-play-v0": Budget(steps=45_000, episodes=300),
    "puzzle-3x3-play-v0": Budget(steps=30_000, episodes=200),
    "scene-play-v0": Budget(steps=60_000, episodes=500),
}


def find_preset(name: PresetName, agent: str, task: Task) -> Preset:
    """Return a preset's values for an agent on a task.

    "paper" is the paper's configuration, on the whole data set. "laptop" is the one that gives
    its result on two processor cores in minutes.

    Raises:
        UserError: There is no such agent, or it does not fit the task; the message names those that
            do.
    """
    if agent not in AGENTS:
        raise unknown_name("agent", agent, AGENTS)
    fitting = OFFLINE_RL if task.rewards else GOAL_CONDITIONED
    if agent not in fitting:
        kind = "has rewards" if task.rewards else "has goals and no rewards"
        raise UserError(f"{task.name} {kind}; agents for it: {', '.join(fitting)}")
    if name == "paper":
        return Preset(_for_task(AGENTS[agent](), task), OfflineTraining(), None)
    budget = LAPTOP_BUDGETS.get(task.dataset, Budget())
    training = OfflineTraining(steps=budget.steps, checkpoint_every=10_000)
    return Preset(_for_task(LAPTOP_AGENTS[agent], task), training, budget.episodes)


def _for_task(config: AgentConfig, task: Task) -> AgentConfig:
    return dataclasses.replace(cast(Any, config), discount=task.discount)
