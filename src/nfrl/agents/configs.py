"""Configurations of agents by name, and as plain JSON."""

from functools import partial
from typing import Any

import cattrs

from nfrl import registry
from nfrl.errors import UserError
from nfrl.flows import FlowConfig, RealNVPConfig
from nfrl.interfaces.agent import AgentConfig
from nfrl.networks.image_encoders import ImageEncoderConfig

# A value that this version does not know must not be dropped in silence.
_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


def find_config(name: str) -> AgentConfig:
    """Return the default configuration of an agent.

    Args:
        name: One that a package announces, or ``package.module:name``: a configuration, or a class
            of them.

    Raises:
        UserError: There is none; the message gives the nearest.
    """
    found = registry.find("agents", name)
    config = found() if isinstance(found, type) else found
    if not hasattr(config, "build") or not hasattr(config, "capabilities"):
        raise UserError(f"{name} is no configuration of an agent: it needs build and capabilities")
    return config


def agents_that(**needs: bool) -> list[str]:
    """Name the announced agents of some capabilities: ``agents_that(goals=True)``."""
    return [
        name
        for name in registry.names("agents")
        if all(getattr(find_config(name).capabilities, need) is has for need, has in needs.items())
    ]


def to_json(config: AgentConfig) -> dict[str, Any]:
    """Return a configuration as plain JSON; a flow in it says its name."""
    return _CONVERTER.unstructure(config)


def from_json(name: str, value: dict[str, Any]) -> AgentConfig:
    """Read a configuration back.

    Args:
        name: The agent's.
        value: What :func:`to_json` returned, or what versions before 0.2 wrote, where the sizes of
            the flow stand among the agent's.

    Raises:
        UserError: It is not of this agent, or of another version.
    """
    found = registry.find("agents", name)
    kind = found if isinstance(found, type) else type(found)
    try:
        return _CONVERTER.structure(_with_flow(kind, value), kind)
    except (TypeError, ValueError, KeyError, cattrs.BaseValidationError) as error:
        cause = _cause(error)
        if isinstance(cause, UserError):
            raise cause from error
        raise UserError(
            f"the configuration is not one of this version's {name}: {cause}"
        ) from error


def slot_to_json(kind: str, value: Any) -> dict[str, Any]:
    """Return the configuration that fills a slot, a flow or an image encoder, with its name.

    Args:
        kind: Of the registry: "flows", "encoders".
        value: The configuration.
    """
    values = cattrs.Converter().unstructure(value, unstructure_as=type(value))
    return {"name": registry.name_of(kind, type(value)), **values}


def slot_from_json(kind: str, value: dict[str, Any]) -> Any:
    """Read the configuration that fills a slot back."""
    fields = dict(value)
    found = registry.find(kind, fields.pop("name"))
    return cattrs.Converter(forbid_extra_keys=True).structure(fields, found)


def agent_to_json(config: AgentConfig) -> dict[str, Any]:
    """Return the configuration of an agent within a wrapper, with its name."""
    return {"name": registry.name_of("agents", type(config)), **_CONVERTER.unstructure(config)}


def agent_from_json(value: dict[str, Any]) -> AgentConfig:
    """Read the configuration of an agent within a wrapper back."""
    fields = dict(value)
    return from_json(fields.pop("name"), fields)


def _cause(error: BaseException) -> BaseException:
    """Return the first of the errors that cattrs gathers, however deep."""
    while causes := getattr(error, "exceptions", ()):
        error = causes[0]
    return error


def _with_flow(kind: type, value: dict[str, Any]) -> dict[str, Any]:
    """Gather the sizes of a flow that stand among the agent's own."""
    fields = getattr(kind, "__dataclass_fields__", {})
    if "flow" not in fields or "flow" in value:
        return value
    sizes = [name for name in RealNVPConfig.__dataclass_fields__ if name not in fields]
    flow = {"name": "real-nvp"} | {name: value[name] for name in sizes if name in value}
    return {name: v for name, v in value.items() if name not in sizes} | {"flow": flow}


def _register_slot(base: type, kind: str) -> None:
    _CONVERTER.register_unstructure_hook_func(
        lambda each: isinstance(each, type) and issubclass(each, base), partial(slot_to_json, kind)
    )
    _CONVERTER.register_structure_hook_func(
        lambda each: each is base, lambda value, _: slot_from_json(kind, value)
    )


_register_slot(FlowConfig, "flows")
_register_slot(ImageEncoderConfig, "encoders")
_CONVERTER.register_unstructure_hook_func(lambda kind: kind is AgentConfig, agent_to_json)
_CONVERTER.register_structure_hook_func(
    lambda kind: kind is AgentConfig, lambda value, _: agent_from_json(value)
)
