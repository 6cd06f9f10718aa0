"""One file per algorithm, each read top to bottom like its equations."""

from nfrl.agents.bc import BCConfig
from nfrl.agents.configs import agents_that, find_config
from nfrl.agents.crl import CRLConfig
from nfrl.agents.diffusion_bc import DiffusionBCConfig
from nfrl.agents.fm_bc import FMBCConfig
from nfrl.agents.fm_gcbc import FMGCBCConfig
from nfrl.agents.fql import FQLConfig
from nfrl.agents.gaussian_bc import GaussianBCConfig
from nfrl.agents.gcbc import GCBCConfig
from nfrl.agents.gciql import GCIQLConfig
from nfrl.agents.gcivl import GCIVLConfig
from nfrl.agents.hiql import HIQLConfig
from nfrl.agents.idql import IDQLConfig
from nfrl.agents.ifql import IFQLConfig
from nfrl.agents.iql import IQLConfig
from nfrl.agents.nf_bc import NFBCConfig
from nfrl.agents.nf_gcbc import NFGCBCConfig
from nfrl.agents.nf_rlbc import NFRLBCConfig
from nfrl.agents.nf_ugs import NFUGSConfig
from nfrl.agents.nf_waypoints import NFWaypointsConfig, NFWaypointsRLConfig
from nfrl.agents.offline_crl import OfflineCRLConfig
from nfrl.agents.qrl import QRLConfig
from nfrl.agents.rebrac import ReBRACConfig
from nfrl.agents.wrappers.chunked import Chunk
from nfrl.agents.wrappers.options import AgentOptions, GoalOptions
from nfrl.agents.wrappers.partial_goals import ShowGoals
from nfrl.agents.wrappers.standardized import Standardize

__all__ = [
    "AgentOptions",
    "BCConfig",
    "CRLConfig",
    "Chunk",
    "DiffusionBCConfig",
    "FMBCConfig",
    "FMGCBCConfig",
    "FQLConfig",
    "GCBCConfig",
    "GCIQLConfig",
    "GCIVLConfig",
    "GaussianBCConfig",
    "GoalOptions",
    "HIQLConfig",
    "IDQLConfig",
    "IFQLConfig",
    "IQLConfig",
    "NFBCConfig",
    "NFGCBCConfig",
    "NFRLBCConfig",
    "NFUGSConfig",
    "NFWaypointsConfig",
    "NFWaypointsRLConfig",
    "OfflineCRLConfig",
    "QRLConfig",
    "ReBRACConfig",
    "ShowGoals",
    "Standardize",
    "agents_that",
    "find_config",
]
