"""The conditional normalizing flow; knows nothing of reinforcement learning."""

from nfrl.flows.config import FlowConfig
from nfrl.flows.coupling import Coupling, ExpAffine
from nfrl.flows.denoising import denoise
from nfrl.flows.plu import PLULinear
from nfrl.flows.real_nvp import RealNVP, RealNVPConfig
from nfrl.flows.temperature import sample_at

__all__ = [
    "Coupling",
    "ExpAffine",
    "FlowConfig",
    "PLULinear",
    "RealNVP",
    "RealNVPConfig",
    "denoise",
    "sample_at",
]
