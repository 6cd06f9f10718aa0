"""A policy as a folder: weights as safetensors, and JSON that says how to read them. No pickle.

policy.json          the agent's name and configuration, what it observes and does
policy.safetensors   its weights
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import cattrs
import jax.random as jr

from nfrl.acting.policy import DESCRIPTION, SCHEMA, WEIGHTS, Policy
from nfrl.agents import configs
from nfrl.agents.parts.optimization import without_optimizer
from nfrl.errors import UserError
from nfrl.runs import checkpoints
from nfrl.spec import Spec


def is_policy(path: Path) -> bool:
    """Whether a folder holds a saved policy."""
    return (path / DESCRIPTION).is_file()


def load(path: Path | str, *, seed: int = 0) -> Policy:
    """Read a policy that :meth:`Policy.save` wrote.

    Args:
        path: Its folder.
        seed: Of the policy's own random numbers.

    Raises:
        UserError: Something is missing or damaged, or made by a newer version.
    """
    path = Path(path).expanduser()
    found = _read(path / DESCRIPTION)
    try:
        name, steps = found["agent"], int(found["steps"])
        config = configs.from_json(name, found["config"])
        spec = cattrs.structure(found["spec"], Spec)
    except (KeyError, TypeError, ValueError, cattrs.BaseValidationError) as error:
        raise UserError(f"{path / DESCRIPTION} does not describe a policy: {error!r}") from error
    if "weights" in found and found["weights"] != _sha256(path / WEIGHTS):
        raise UserError(
            f"{path / WEIGHTS} is not what {DESCRIPTION} describes: one of the two was cut off, "
            "changed, or saved by another; save or fetch both again"
        )
    like = checkpoints.outline(lambda: without_optimizer(config.build(jr.key(0), spec, steps)))
    agent = checkpoints.load(path / WEIGHTS, like, cure="save or fetch it again")
    return Policy(agent, config, name, spec, steps=steps, seed=seed)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold a JSON object")
    schema = value.get("schema")
    if schema != SCHEMA:
        raise UserError(f"{path} is of schema {schema}; this version of nfrl reads {SCHEMA}")
    return value
