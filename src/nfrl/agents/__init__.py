"""One file per algorithm, each read top to bottom like its equations."""

from nfrl.agents.agent import Agent, AgentConfig
from nfrl.agents.bc import BCConfig
from nfrl.agents.fm_gcbc import FMGCBCConfig
from nfrl.agents.fql import FQLConfig
from nfrl.agents.gcbc import GCBCConfig
from nfrl.agents.idql import IDQLConfig
from nfrl.agents.ifql import IFQLConfig
from nfrl.agents.iql import IQLConfig
from nfrl.agents.nf_gcbc import NFGCBCConfig
from nfrl.agents.nf_rlbc import NFRLBCConfig
from nfrl.agents.rebrac import ReBRACConfig

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

AGENTS = GOAL_CONDITIONED | OFFLINE_RL
"""The configuration of every agent, by the name that the command line knows it by."""

__all__ = [
    "AGENTS",
    "GOAL_CONDITIONED",
    "OFFLINE_RL",
    "Agent",
    "AgentConfig",
    "BCConfig",
    "FMGCBCConfig",
    "FQLConfig",
    "GCBCConfig",
    "IDQLConfig",
    "IFQLConfig",
    "IQLConfig",
    "NFGCBCConfig",
    "NFRLBCConfig",
    "ReBRACConfig",
]
