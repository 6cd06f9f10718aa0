"""One file per algorithm, each read top to bottom like its equations."""

from nfrl.agents.agent import Agent, AgentConfig
from nfrl.agents.fm_gcbc import FMGCBCConfig
from nfrl.agents.gcbc import GCBCConfig
from nfrl.agents.nf_gcbc import NFGCBCConfig
from nfrl.agents.nf_rlbc import NFRLBCConfig

GOAL_CONDITIONED: dict[str, type[AgentConfig]] = {
    "nf-gcbc": NFGCBCConfig,
    "gcbc": GCBCConfig,
    "fm-gcbc": FMGCBCConfig,
}
"""Goal-conditioned imitation: agents for tasks with goals."""

OFFLINE_RL: dict[str, type[AgentConfig]] = {
    "nf-rlbc": NFRLBCConfig,
}
"""Offline reinforcement learning: agents for tasks with rewards."""

AGENTS = GOAL_CONDITIONED | OFFLINE_RL
"""The configuration of every agent, by the name that the command line knows it by."""

__all__ = [
    "AGENTS",
    "GOAL_CONDITIONED",
    "OFFLINE_RL",
    "Agent",
    "AgentConfig",
    "FMGCBCConfig",
    "GCBCConfig",
    "NFGCBCConfig",
    "NFRLBCConfig",
]
