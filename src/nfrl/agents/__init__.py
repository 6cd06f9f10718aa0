"""One file per algorithm, each read top to bottom like its equations."""

from nfrl.agents.agent import Agent, AgentConfig
from nfrl.agents.fm_gcbc import FMGCBCConfig
from nfrl.agents.gcbc import GCBCConfig
from nfrl.agents.nf_gcbc import NFGCBCConfig

AGENTS: dict[str, type[AgentConfig]] = {
    "nf-gcbc": NFGCBCConfig,
    "gcbc": GCBCConfig,
    "fm-gcbc": FMGCBCConfig,
}
"""The configuration of every agent, by the name that the command line knows it by."""

__all__ = ["AGENTS", "Agent", "AgentConfig", "FMGCBCConfig", "GCBCConfig", "NFGCBCConfig"]
