"""Presets: what "laptop" or "paper" means for an agent on a task.

A package announces presets by a module (entry point group ``nfrl.presets``) with

    NAMES         what each preset is, by its name
    BEYOND_PAPER  those whose algorithm is not the paper's
    find_preset   of (name, agent, config, task) to a Preset, or None where it has none

The first module that answers is believed. An agent that nobody knows has its own defaults.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from nfrl import registry
from nfrl.agents.configs import agents_that, find_config
from nfrl.errors import UserError, unknown_name
from nfrl.interfaces.agent import AgentConfig, Capabilities
from nfrl.task import FAMILIES, Task
from nfrl.training.exploring import ExploreTraining
from nfrl.training.offline import OfflineTraining

Training = OfflineTraining | ExploreTraining

DEFAULT = "laptop"
_NEEDS: Mapping[str, dict[str, bool]] = {
    "gcbc": {"explores": False, "goals": True},
    "offline-rl": {"rewards": True},
    "imitation": {"explores": False, "goals": False, "rewards": False},
    "exploration": {"explores": True},
}
"""What an agent for a family of tasks needs and can do."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """A complete choice of values for an agent on a task."""

    agent: AgentConfig
    training: Training
    episodes: int | None = None
    """Episodes of the data set, where it is made here; None for the full number."""


def preset_names() -> dict[str, str]:
    """Return what each preset is, by its name."""
    return {name: text for module in _modules() for name, text in module.NAMES.items()}


def beyond_paper(name: str) -> bool:
    """Whether a preset's algorithm is not the paper's; records call its runs variants."""
    return any(name in module.BEYOND_PAPER for module in _modules())


def family_of(capabilities: Capabilities) -> Any:
    """Return the family of tasks that an agent is for."""
    return next(
        family
        for family, needs in _NEEDS.items()
        if all(getattr(capabilities, need) is has for need, has in needs.items())
    )


def check_fits(agent: str, config: AgentConfig, task: Task) -> None:
    """Refuse an agent that does not fit a task.

    Raises:
        UserError: It is such a one; the message names those that do.
    """
    family = family_of(config.capabilities)
    if family != task.family:
        fitting = ", ".join(agents_that(**_NEEDS[task.family]))
        raise UserError(f"{task.name} {FAMILIES[task.family]}; agents for it: {fitting}")


def find_preset(name: str, agent: str, task: Task) -> Preset:
    """Return a preset's values for an agent on a task.

    Raises:
        UserError: There is no such agent or preset, or they do not fit the task.
    """
    config = find_config(agent)
    check_fits(agent, config, task)
    if name not in preset_names():
        raise unknown_name("preset", name, preset_names())
    for module in _modules():
        found = module.find_preset(name, agent, config, task)
        if found is not None:
            return found
    training: Training = OfflineTraining(steps=30_000, checkpoint_every=10_000)
    if config.capabilities.explores:
        training = ExploreTraining()
    return Preset(config, training)


def _modules() -> list[Any]:
    return [module for _, module in registry.entries("presets")]
