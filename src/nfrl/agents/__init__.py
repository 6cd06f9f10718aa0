"""One file per algorithm, each read top to bottom like its equations."""

from typing import Any, cast

import numpy as np
from jaxtyping import PRNGKeyArray

from nfrl.agents.bc import BCConfig
from nfrl.agents.crl import CRLConfig
from nfrl.agents.diffusion_bc import DiffusionBCConfig
from nfrl.agents.fm_bc import FMBCConfig
from nfrl.agents.fm_gcbc import FMGCBCConfig
from nfrl.agents.fql import FQLConfig
from nfrl.agents.gaussian_bc import GaussianBCConfig
from nfrl.agents.gcbc import GCBCConfig
from nfrl.agents.idql import IDQLConfig
from nfrl.agents.ifql import IFQLConfig
from nfrl.agents.iql import IQLConfig
from nfrl.agents.nf_bc import NFBCConfig
from nfrl.agents.nf_gcbc import NFGCBCConfig
from nfrl.agents.nf_rlbc import NFRLBCConfig
from nfrl.agents.nf_ugs import NFUGSConfig
from nfrl.agents.rebrac import ReBRACConfig
from nfrl.agents.wrappers.chunked import Chunked
from nfrl.agents.wrappers.partial_goals import GoalSeeking, PartialGoals
from nfrl.agents.wrappers.standardized import Standardized
from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizer, Normalizers
from nfrl.data.samplers import sample_chunk_transitions, sample_goals
from nfrl.interfaces.agent import Agent, AgentConfig
from nfrl.interfaces.imitation import ImitationConfig

GOAL_CONDITIONED: dict[str, type[AgentConfig]] = {
    "nf-gcbc": NFGCBCConfig,
    "gcbc": GCBCConfig,
    "fm-gcbc": FMGCBCConfig,
}
"""Goal-conditioned imitation: agents for tasks with goals."""

OFFLINE_RL: dict[str, type[AgentConfig]] = {
    "nf-rlbc": NFRLBCConfig,
    "bc": BCConfig,
    "rebrac": ReBRACConfig,
    "iql": IQLConfig,
    "ifql": IFQLConfig,
    "idql": IDQLConfig,
    "fql": FQLConfig,
}
"""Offline reinforcement learning: agents for tasks with rewards."""

IMITATION: dict[str, type[ImitationConfig]] = {
    "nf-bc": NFBCConfig,
    "gaussian-bc": GaussianBCConfig,
    "diffusion-bc": DiffusionBCConfig,
    "fm-bc": FMBCConfig,
}
"""Imitation of chunks of actions: agents for tasks with demonstrations."""

EXPLORERS: dict[str, Any] = {
    "nf-ugs": NFUGSConfig,
    "crl-oracle": CRLConfig,
    "crl-uniform": CRLConfig,
    "crl-minmax": CRLConfig,
}
"""Exploration with no goals given: agents for mazes. The last three differ in the goals that they
command."""

AGENTS: dict[str, Any] = {**GOAL_CONDITIONED, **OFFLINE_RL, **IMITATION}
"""The configuration of every agent that learns from data, by the name that the command line knows
it by."""


def build_agent(
    config: AgentConfig | ImitationConfig,
    key: PRNGKeyArray,
    observation_dim: int,
    action_dim: int,
    steps: int,
    dataset: Dataset | None = None,
) -> Any:
    """Build an untrained agent of any kind.

    Args:
        config: What to build.
        key: Random key of the initial weights.
        observation_dim: Width of an observation.
        action_dim: Width of an action.
        steps: Length of the run.
        dataset: What normalisers are fitted to; None where a checkpoint is to be loaded.
    """
    sizes = (observation_dim, action_dim)
    if not isinstance(config, tuple(IMITATION.values())):
        plain = cast(AgentConfig, config)
        agent = plain.build(key, observation_dim, plain.chunk * action_dim, steps)
        if plain.standardize:
            normalizer = (
                Normalizer.identity(observation_dim)
                if dataset is None
                else Normalizer.standard(np.asarray(dataset.observations))
            )
            agent = Standardized(agent, normalizer)
        if isinstance(config, GoalSeeking) and config.goal_columns:
            agent = PartialGoals.of(agent, config.goal_columns, observation_dim)
        if plain.chunk == 1:
            return agent
        seeks_goals = isinstance(config, tuple(GOAL_CONDITIONED.values()))
        sample = sample_goals if seeks_goals else sample_chunk_transitions
        # Those that are blind to rewards have no discount.
        discount = getattr(plain, "discount", 1.0)
        return Chunked.of(agent, plain.chunk, discount, sample, plain.executed)
    if dataset is None:
        normalizers = Normalizers.identity(*sizes)
    else:
        rows = np.asarray(dataset.transitions)
        normalizers = Normalizers.fit(
            np.asarray(dataset.observations), np.asarray(dataset.actions)[rows]
        )
    return cast(ImitationConfig, config).build(key, *sizes, steps, normalizers)


__all__ = [
    "AGENTS",
    "EXPLORERS",
    "GOAL_CONDITIONED",
    "IMITATION",
    "OFFLINE_RL",
    "Agent",
    "AgentConfig",
    "BCConfig",
    "CRLConfig",
    "DiffusionBCConfig",
    "FMBCConfig",
    "FMGCBCConfig",
    "FQLConfig",
    "GCBCConfig",
    "GaussianBCConfig",
    "IDQLConfig",
    "IFQLConfig",
    "IQLConfig",
    "ImitationConfig",
    "NFBCConfig",
    "NFGCBCConfig",
    "NFRLBCConfig",
    "NFUGSConfig",
    "ReBRACConfig",
    "build_agent",
]
