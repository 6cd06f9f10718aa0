"""What "laptop", "paper" and "far-sighted" mean for an agent and a task."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from nfrl.agents import (
    BCConfig,
    CRLConfig,
    DiffusionBCConfig,
    FMBCConfig,
    FMGCBCConfig,
    FQLConfig,
    GaussianBCConfig,
    GCBCConfig,
    GCIQLConfig,
    GCIVLConfig,
    HIQLConfig,
    IDQLConfig,
    IFQLConfig,
    IQLConfig,
    NFBCConfig,
    NFGCBCConfig,
    NFRLBCConfig,
    NFUGSConfig,
    NFWaypointsConfig,
    OfflineCRLConfig,
    QRLConfig,
    ReBRACConfig,
)
from nfrl.agents.parts.goal_values import GoalValueConfig
from nfrl.agents.parts.optimization import AdamW, constant_adam
from nfrl.benchmarks.mazes.maze import SUCCESS_RADIUS
from nfrl.data.samplers import GoalMixture
from nfrl.errors import UserError
from nfrl.flows import RealNVPConfig
from nfrl.interfaces.agent import AgentConfig, ChunkShape
from nfrl.networks.image_encoders import StridedConfig
from nfrl.presets import Preset
from nfrl.task import Task
from nfrl.training.exploring import ExploreTraining
from nfrl.training.offline import OfflineTraining

NAMES: Mapping[str, str] = {
    "laptop": "a result like the paper's on two processor cores in minutes",
    "paper": "the paper's configuration",
    "far-sighted": "beyond the paper: offline RL for tasks of many subtasks, in about an hour; and "
    "goal-conditioned imitation with an arm, five actions at once for goals of what decides "
    "success alone, in three to twenty minutes",
}
BEYOND_PAPER = ("far-sighted",)
"""Presets whose algorithm is not the paper's; records call their runs variants."""

_ANT = "antmaze-large-navigate-v0"
_HUMANOID, _SOCCER = "humanoidmaze-medium-navigate-v0", "antsoccer-arena-navigate-v0"
_CUBE, _SCENE, _PUZZLE = "cube-single-play-v0", "scene-play-v0", "puzzle-3x3-play-v0"
_DOUBLE = "cube-double-play-v0"
_PUSHT = "pusht"
_FAR = {"discount": 0.995}

# What the published runs chose for each environment: Ghugare and Eysenbach (2025) for nf-rlbc, Park
# et al. (2025) for the rivals.
PER_TASK: dict[tuple[type, str], dict[str, Any]] = {
    (NFRLBCConfig, _ANT): {"alpha": 1.0},
    (NFRLBCConfig, _HUMANOID): {"alpha": 1.0},
    (NFRLBCConfig, _SOCCER): {"alpha": 1.0, "aggregate": "mean"},
    (FQLConfig, _CUBE): {"alpha": 300.0},
    (FQLConfig, _SCENE): {"alpha": 300.0},
    (FQLConfig, _PUZZLE): {"alpha": 1000.0},
    (FQLConfig, _ANT): {"alpha": 10.0, "aggregate": "min"},
    (FQLConfig, _HUMANOID): {"alpha": 30.0, **_FAR},
    (FQLConfig, _SOCCER): {"alpha": 10.0, **_FAR},
    (ReBRACConfig, _CUBE): {"alpha_actor": 1.0, "alpha_critic": 0.0},
    (ReBRACConfig, _SCENE): {"alpha_actor": 0.1, "alpha_critic": 0.01},
    (ReBRACConfig, _PUZZLE): {"alpha_actor": 0.3, "alpha_critic": 0.01},
    (ReBRACConfig, _ANT): {"alpha_actor": 0.003, "alpha_critic": 0.01},
    (ReBRACConfig, _HUMANOID): {"alpha_actor": 0.01, "alpha_critic": 0.01, **_FAR},
    (ReBRACConfig, _SOCCER): {"alpha_actor": 0.01, "alpha_critic": 0.01, **_FAR},
    (IQLConfig, _CUBE): {"alpha": 1.0},
    (IQLConfig, _HUMANOID): _FAR,
    (IQLConfig, _SOCCER): {"alpha": 1.0, **_FAR},
    (IFQLConfig, _HUMANOID): _FAR,
    (IFQLConfig, _SOCCER): {"samples": 64, **_FAR},
    (IDQLConfig, _ANT): {"expectile": 0.7},
    (IDQLConfig, _HUMANOID): {"expectile": 0.7, **_FAR},
    (IDQLConfig, _SOCCER): {"expectile": 0.7, **_FAR},
}

# What OGBench's runs chose for its rivals with values (hyperparameters.sh): the actor's alpha, by
# the body that moves or, where the data are special, by how they were made. GCIVL's is always 10.
GOAL_ALPHAS: dict[type, dict[str, float]] = {
    GCIQLConfig: {
        **{"point": 0.003, "ant": 0.3, "humanoid": 0.1, "soccer": 0.1},
        **{"explore": 0.01, "play": 1.0, "noisy": 0.03},
    },
    QRLConfig: {
        **{"point": 0.0003, "ant": 0.003, "humanoid": 0.001, "soccer": 0.003},
        **{"explore": 0.001, "play": 0.3, "noisy": 0.03},
    },
    OfflineCRLConfig: {
        **{"point": 0.03, "ant": 0.1, "humanoid": 0.1, "soccer": 0.3},
        **{"explore": 0.003, "play": 3.0, "noisy": 0.1},
    },
    HIQLConfig: {"explore": 10.0},
}
# Where a way must be put together of several trajectories, an actor practises for goals elsewhere.
ACTOR_GOALS = {
    "stitch": GoalMixture(random=0.5, geometric=False),
    "explore": GoalMixture(random=1.0, geometric=False),
}
SUBGOAL_STEPS = {"humanoid": 100, "arm": 10}
OGBENCH_BATCH = 1024
"""Of the agents that are published with OGBench: gcbc, and those with values."""

# What the code of NF-BC's paper sets for each task of imitation: history, prediction and execution,
# and passes through the data. The rivals beside it get the same; Diffusion Policy's own chunks on
# PushT are of 16 and 8.
IMITATION: dict[str, tuple[ChunkShape, int]] = {
    _PUSHT: (ChunkShape(2, 8, 4), 100),
    "multimodal-ant": (ChunkShape(100, 8, 8), 500),
    "two-blocks": (ChunkShape(10, 1, 1), 300),
    "kitchen": (ChunkShape(10, 1, 1), 1000),
}
NF_BC: dict[str, dict[str, Any]] = {
    _PUSHT: {
        "flow": RealNVPConfig(24, 512),
        "condition_dim": 256,
        "optimizer": AdamW(learning_rate=1e-3),
    },
    "multimodal-ant": {"condition_dim": 256},
    "two-blocks": {"condition_dim": 256},
    "kitchen": {"condition_dim": 1024},
}


def _width(units: int) -> tuple[int, int, int]:
    return (units,) * 3


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a task takes on two processor cores."""

    steps: int = 30_000
    episodes: int | None = 150


# Chosen by single-seed trials of the flow on cube-single (docs/results.md): small networks, a
# higher learning rate for short runs, half the paper's training noise. The goal-conditioned rivals
# have about as many parameters. GCBC has the same optimiser, and FM-GCBC the network and the rate
# that were chosen for FM-BC.
LAPTOP_OPTIMIZER = AdamW(learning_rate=1e-3)
LAPTOP_ADAM = constant_adam(1e-3)
SMALL, TINY = (256, 256, 256), (128, 128, 128)
LAPTOP_AGENTS: dict[str, AgentConfig] = {
    "nf-gcbc": NFGCBCConfig(
        flow=RealNVPConfig(4, 64), encoder=SMALL, noise=0.05, optimizer=LAPTOP_OPTIMIZER
    ),
    "gcbc": GCBCConfig(hidden=(304, 304, 304, 304), optimizer=LAPTOP_OPTIMIZER),
    "fm-gcbc": FMGCBCConfig(hidden=(200, 200), optimizer=AdamW(learning_rate=3e-3)),
    # With values: about 300,000 trained parameters on cube-single, actors and values together. Adam
    # is constant as in OGBench, at the flow's rate for short runs and not OGBench's 3e-4, which is
    # for a million steps. Neither was tuned.
    "gcivl": GCIVLConfig(hidden=_width(208), critic=_width(208), optimizer=LAPTOP_ADAM),
    "gciql": GCIQLConfig(hidden=_width(176), critic=_width(176), optimizer=LAPTOP_ADAM),
    "qrl": QRLConfig(hidden=_width(184), critic=_width(184), latent_dim=128, optimizer=LAPTOP_ADAM),
    "crl": OfflineCRLConfig(
        hidden=_width(144), critic=_width(144), latent_dim=64, optimizer=LAPTOP_ADAM
    ),
    "hiql": HIQLConfig(hidden=_width(160), critic=_width(160), optimizer=LAPTOP_ADAM),
    # Offline RL: critics and hidden layers of one size for all, Adam at 3e-4 (docs/offline-rl.md).
    "nf-rlbc": NFRLBCConfig(
        flow=RealNVPConfig(4, 32),
        encoder=TINY,
        condition_dim=32,
        critic=TINY,
        optimizer=constant_adam(3e-4),
    ),
    "bc": BCConfig(hidden=TINY),
    "rebrac": ReBRACConfig(hidden=TINY, critic=TINY),
    "iql": IQLConfig(hidden=TINY, critic=TINY),
    "ifql": IFQLConfig(hidden=TINY, critic=TINY),
    "idql": IDQLConfig(width=128, critic=TINY),
    "fql": FQLConfig(hidden=TINY, critic=TINY),
    # Imitation: about 400,000 parameters each on PushT. There the two that denoise learned faster
    # at a higher rate, in single-seed trials (docs/imitation.md).
    "nf-bc": NFBCConfig(
        flow=RealNVPConfig(6, 64), encoder=SMALL, condition_dim=64, optimizer=LAPTOP_OPTIMIZER
    ),
    "gaussian-bc": GaussianBCConfig(hidden=(352, 352, 352, 352), optimizer=LAPTOP_OPTIMIZER),
    "diffusion-bc": DiffusionBCConfig(
        network="mlp", hidden=(256, 256), time_dim=64, optimizer=AdamW(learning_rate=3e-3)
    ),
    "fm-bc": FMBCConfig(hidden=(256, 256), optimizer=AdamW(learning_rate=3e-3)),
}
# Cube-single's was tried; the others are first guesses. With 200 demonstrations the imitating
# agents overfitted early, on PushT and on two blocks (docs/imitation.md).
LAPTOP_BUDGETS = {
    _CUBE: Budget(steps=45_000, episodes=400),
    _DOUBLE: Budget(steps=45_000, episodes=300),
    _PUZZLE: Budget(steps=30_000, episodes=400),
    _SCENE: Budget(steps=60_000, episodes=500),
    # The whole data set takes minutes here: running ants are cheap to simulate.
    "antmaze-large-navigate-v0": Budget(steps=40_000, episodes=None),
    "antmaze-medium-stitch-v0": Budget(steps=40_000, episodes=None),
    "multimodal-ant": Budget(steps=20_000, episodes=1000),
    "pusht": Budget(steps=20_000, episodes=1000),
    "two-blocks": Budget(steps=20_000, episodes=1000),
}
LAPTOP_OFFLINE_RL = OfflineTraining(steps=50_000, batch_size=128, checkpoint_every=10_000)
# The rivals' discount: values settle in half the steps that the paper's 0.995 takes; but in scene
# it would make standing still worth more than the task (docs/offline-rl.md). Rewards in scene and
# puzzle are several times those of cube-single, and so is Q beside alpha.
LAPTOP_NF_RLBC: dict[str, dict[str, Any]] = {
    _CUBE: {"discount": 0.99, "alpha": 3.0},
    _PUZZLE: {"discount": 0.99},
}
# Beyond the paper, forty to fifty minutes of one core, for tasks of many subtasks: which value
# settles what is told in docs/offline-rl.md, "Far-sighted agents".
FAR_SIGHTED: dict[str, Any] = {
    "flow": RealNVPConfig(4, 64),
    "encoder": SMALL,
    "condition_dim": 64,
    "chunk": 10,
    "executed": 2,
    "candidates": 16,
    "acting_candidates": 64,
    "likely": 0.5,
    "imitate_first": 20_000,
    "critic_unit": 300.0,
    "discount": 0.998,
    "tau": 0.02,
    "alpha": 100.0,
    "optimizer": dataclasses.replace(constant_adam(1e-3), final_learning_rate=1e-5),
}
# The rivals on equal terms: what of this their methods can use, with about as many parameters.
FAR_SIGHTED_RIVALS: dict[str, Any] = {
    "hidden": (304, 304, 304, 304),
    "width": 192,
    "samples": 64,
    **{
        name: FAR_SIGHTED[name]
        for name in ("chunk", "executed", "critic_unit", "discount", "tau", "optimizer")
    },
}
FAR_SIGHTED_TRAINING = OfflineTraining(
    steps=100_000, batch_size=128, checkpoint_every=10_000, evaluate_every=20_000
)
FAR_SIGHTED_EPISODES = {_SCENE: 500, _CUBE: 400}
# Beyond the paper too, three to twenty minutes of one core, for what is imitated on an arm's tasks:
# five actions at once, goals of what decides success alone, and samples near their modes
# (docs/goals.md, "Beyond the paper: what it takes").
IMITATORS_OF_GOALS = ("nf-gcbc", "gcbc", "fm-gcbc")
FAR_SIGHTED_CHUNK = 5
FAR_SIGHTED_TEMPERATURE = 0.3
FAR_SIGHTED_BUDGETS = {
    _CUBE: Budget(24_000, 150),
    _SCENE: Budget(200_000, 500),
    _DOUBLE: Budget(100_000, None),
}
# Plans of waypoints: in mazes over the graph of places; an arm's shows where the gripper is and
# whether it is open (columns 12 to 14 and 17), closer together, with learned values.
WAYPOINTS_STEPS = 60_000
WAYPOINTS_ARM: dict[str, Any] = {
    "values": "learned",
    "steps_ahead": 15,
    "shown_columns": (12, 13, 14, 17),
}
# From pixels: most of an update is the encoder's, so small batches, an encoder that is fast on a
# processor, and few demonstrations (docs/pixels.md).
LAPTOP_ENCODER = StridedConfig()
LAPTOP_EYES = LAPTOP_OPTIMIZER
LAPTOP_PIXELS = OfflineTraining(steps=6000, batch_size=64, log_every=100, checkpoint_every=1000)
PIXELS_EPISODES = {_PUSHT: 200}
VISUAL_EPISODES = 20
"""Of OGBench's images, if there is no file of all: drawing them takes long without a GPU."""
# In mazes a position's tens stand beside a joint's tenths. Single-seed trials of the flow on
# antmaze-medium-stitch: docs/ants.md.
LAPTOP_ANTMAZE = {"standardize": True}
LAPTOP_ANTMAZE_GOALS = {**LAPTOP_ANTMAZE, "optimizer": AdamW(learning_rate=3e-3)}


def find_preset(name: str, agent: str, config: Any, task: Task) -> Preset | None:
    """Return a preset's values for an agent on a task; None for an agent of another package."""
    if agent in ("nf-ugs", "crl-oracle", "crl-uniform", "crl-minmax"):
        return _exploring(name, agent, config)
    if agent in ("nf-waypoints", "nf-waypoints-rl"):
        return _waypoints(name, config, task)
    if agent not in LAPTOP_AGENTS:
        return None
    if name == "paper":
        return _paper(config, task)
    laptop = dataclasses.replace(
        _for_task(LAPTOP_AGENTS[agent], task), **_laptop_values(agent, task)
    )
    if name == "far-sighted":
        return _far_sighted(laptop, agent, task)
    if "pixels" in task.tags:
        images = dataclasses.replace(laptop.images, encoder=LAPTOP_ENCODER, optimizer=LAPTOP_EYES)
        episodes = PIXELS_EPISODES.get(task.dataset, VISUAL_EPISODES)
        return Preset(dataclasses.replace(laptop, images=images), LAPTOP_PIXELS, episodes)
    budget = LAPTOP_BUDGETS.get(task.dataset, Budget())
    training = OfflineTraining(steps=budget.steps, checkpoint_every=10_000)
    return Preset(laptop, LAPTOP_OFFLINE_RL if task.rewards else training, budget.episodes)


def _paper(config: Any, task: Task) -> Preset:
    if isinstance(config, GCBCConfig):
        config = dataclasses.replace(config, goals="uniform", optimizer=constant_adam(3e-4))
    if isinstance(config, GCBCConfig | GoalValueConfig):
        return Preset(_for_task(config, task), OfflineTraining(batch_size=OGBENCH_BATCH))
    if task.dataset not in IMITATION:
        return Preset(_for_task(config, task), OfflineTraining())
    chunks, epochs = IMITATION[task.dataset]
    own = NF_BC[task.dataset] if isinstance(config, NFBCConfig) else {}
    agent = dataclasses.replace(_for_task(config, task), chunks=chunks, **own)
    return Preset(agent, OfflineTraining(epochs=epochs))


def _waypoints(name: str, config: NFWaypointsConfig, task: Task) -> Preset:
    if name != "laptop":
        raise UserError(f"nf-waypoints is ours and in no paper: it has no preset {name}")
    values: dict[str, Any] = {"goal_columns": task.goal_columns}
    if "maze" not in task.tags:  # places cannot be told apart by distance alone: see docs
        values |= WAYPOINTS_ARM
    elif task.place_columns != task.goal_columns:  # the ball's place, and that of who moves it
        values |= {"values": "learned", "shown_columns": task.place_columns}
    budget = LAPTOP_BUDGETS.get(task.dataset, Budget(episodes=None))
    training = OfflineTraining(steps=WAYPOINTS_STEPS, checkpoint_every=10_000)
    return Preset(dataclasses.replace(config, **values), training, budget.episodes)


def _far_sighted(laptop: Any, agent: str, task: Task) -> Preset:
    if laptop.capabilities.rewards:
        values = FAR_SIGHTED if agent == "nf-rlbc" else FAR_SIGHTED_RIVALS
        names = _fields(laptop)
        config = dataclasses.replace(laptop, **{n: v for n, v in values.items() if n in names})
        return Preset(config, FAR_SIGHTED_TRAINING, FAR_SIGHTED_EPISODES.get(task.dataset))
    if "arm" in task.tags and agent in IMITATORS_OF_GOALS:
        config = dataclasses.replace(
            laptop, goal_columns=task.goal_columns, chunk=FAR_SIGHTED_CHUNK
        )
        if "temperature" in _fields(config):  # the Gaussian acts by its mean
            config = dataclasses.replace(config, temperature=FAR_SIGHTED_TEMPERATURE)
        laptops = LAPTOP_BUDGETS.get(task.dataset, Budget())
        budget = FAR_SIGHTED_BUDGETS.get(task.dataset, Budget(100_000, laptops.episodes))
        training = OfflineTraining(steps=budget.steps, checkpoint_every=10_000)
        return Preset(config, training, budget.episodes)
    raise _not_far_sighted(f"{agent} on {task.name}")


def _not_far_sighted(what: str) -> UserError:
    seekers = ", ".join(IMITATORS_OF_GOALS)
    return UserError(
        f"the preset far-sighted is for offline RL, and for {seekers} with an arm (cube, scene, "
        f"puzzle); {what} has: " + ", ".join(name for name in NAMES if name not in BEYOND_PAPER)
    )


def _laptop_values(agent: str, task: Task) -> dict[str, Any]:
    """Return what a laptop's budget changes for a kind of task."""
    if "ant" in task.tags and "pixels" not in task.tags:
        return LAPTOP_ANTMAZE_GOALS if agent in IMITATORS_OF_GOALS else LAPTOP_ANTMAZE
    if task.dataset == _PUSHT:
        return {"chunks": IMITATION[_PUSHT][0]}
    return LAPTOP_NF_RLBC.get(task.dataset, {}) if agent == "nf-rlbc" else {}


def _for_task(config: Any, task: Task) -> Any:
    """Set the values that the papers choose for each task."""
    names = _fields(config)
    values = dict(PER_TASK.get((type(config), task.dataset), {}))
    if isinstance(config, GoalValueConfig):
        values |= _goal_values(config, task)
    if "discount" in names:
        # The rivals' papers have a discount of their own.
        own = task.rewards and type(config) is not NFRLBCConfig
        values.setdefault("discount", config.discount if own else task.discount)
    if task.partial_goals:
        values["goal_columns"] = task.goal_columns
    return dataclasses.replace(config, **values)


def _goal_values(config: GoalValueConfig, task: Task) -> dict[str, Any]:
    """Return what OGBench chooses for an agent with values on a task, beside its defaults."""
    kind = task.dataset.removesuffix("-v0").rpartition("-")[2]
    far = "humanoid" in task.tags or "giant" in task.dataset
    values: dict[str, Any] = {"discount": 0.995 if far else config.discount}
    if kind in ACTOR_GOALS:
        values["actor_goals"] = ACTOR_GOALS[kind]
    alphas = GOAL_ALPHAS.get(type(config), {})
    alpha = next((alphas[word] for word in (kind, *task.tags) if word in alphas), None)
    if isinstance(config, HIQLConfig):
        ahead = [SUBGOAL_STEPS[tag] for tag in task.tags if tag in SUBGOAL_STEPS]
        values |= {"steps_ahead": ahead[0]} if ahead else {}
        values |= {} if alpha is None else {"high_alpha": alpha, "low_alpha": alpha}
    elif alpha is not None:
        values["alpha"] = alpha
    return values


def _fields(config: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(config)}


# Small networks at one rate, for what takes time are the updates. The flow's goals are in units of
# about the mazes' radius, and its training noise is the radius of success: with the paper's 0.05 it
# fits ripples in p(g), and chases those. Few robots have many episodes one after the other, whose
# goals are chosen by what the earlier ones saw; the buffer holds the whole run (docs/exploring.md).
_EXPLORER = {"encoder": (128, 128), "actor_hidden": (128, 128), "learning_rate": 1e-3}
LAPTOP_EXPLORING = ExploreTraining(
    environment_steps=1_500_000,
    environments=16,
    unroll=50,
    updates=10,
    batch_size=256,
    buffer_steps=100_000,
    prefill=1600,
    log_every=32,
    checkpoint_every=320,
)


def _exploring(name: str, agent: str, config: NFUGSConfig | CRLConfig) -> Preset:
    if name in BEYOND_PAPER:
        raise _not_far_sighted(agent)
    if name == "paper":
        if isinstance(config, CRLConfig):
            config = dataclasses.replace(
                config,
                represent_goals=True,
                minmax_by_mode=True,
                contrast="forward" if config.goals == "oracle" else "backward",
            )
        training = ExploreTraining(command_every="round", candidate_goals="hindsight")
        return Preset(config, training)
    values: dict[str, Any] = dict(_EXPLORER)
    if agent == "nf-ugs":
        values |= {
            "flow": RealNVPConfig(4, 32),
            "noise": SUCCESS_RADIUS,
            "flow_learning_rate": 1e-3,
            "goal_scale": 10.0,
        }
    return Preset(dataclasses.replace(config, **values), LAPTOP_EXPLORING)
