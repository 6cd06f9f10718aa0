"""Conditional normalizing flows; they know nothing of reinforcement learning."""

from nfrl.flows.autoregressive import Autoregressive, AutoregressiveConfig, guide
from nfrl.flows.config import FlowConfig
from nfrl.flows.coupling import Coupling, ExpAffine
from nfrl.flows.denoising import denoise, score
from nfrl.flows.float32 import rounded_networks
from nfrl.flows.gaussian import GaussianConfig
from nfrl.flows.masked_autoregressive import MaskedAutoregressiveConfig
from nfrl.flows.neural_spline import NeuralSplineConfig
from nfrl.flows.plu import PLULinear
from nfrl.flows.real_nvp import RealNVP, RealNVPConfig
from nfrl.flows.refinement import refine
from nfrl.flows.temperature import sample_at
from nfrl.flows.transformer_coupling import TransformerCoupling, TransformerCouplingConfig

__all__ = [
    "Autoregressive",
    "AutoregressiveConfig",
    "Coupling",
    "ExpAffine",
    "FlowConfig",
    "GaussianConfig",
    "MaskedAutoregressiveConfig",
    "NeuralSplineConfig",
    "PLULinear",
    "RealNVP",
    "RealNVPConfig",
    "TransformerCoupling",
    "TransformerCouplingConfig",
    "denoise",
    "guide",
    "refine",
    "rounded_networks",
    "sample_at",
    "score",
]
