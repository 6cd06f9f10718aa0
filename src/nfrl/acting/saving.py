"""A policy as a folder: weights as safetensors, and JSON that says how to read them. No pickle.

policy.json          the agent's name and configuration, what it observes and does
policy.safetensors   its weights
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import cattrs
import jax.random as jr

from nfrl.acting.policy import DESCRIPTION, SCHEMA, WEIGHTS, Policy
from nfrl.agents import configs
from nfrl.agents.parts.optimization import without_optimizer
from nfrl.errors import UserError
from nfrl.reading import one_line, read_json
from nfrl.runs import checkpoints
from nfrl.spec import Spec


def is_policy(path: Path) -> bool:
    """Whether a folder holds a saved policy."""
    return os.path.lexists(path / DESCRIPTION)


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
        like = checkpoints.outline(lambda: without_optimizer(config.build(jr.key(0), spec, steps)))
    except UserError as error:
        raise UserError(f"{path / DESCRIPTION}: {error}") from error
    except Exception as error:  # Whatever odd values make of what is built from them.
        raise UserError(
            f"{path / DESCRIPTION} does not describe a policy that can be built: "
            f"{one_line(repr(error))}"
        ) from error
    agent = checkpoints.load(path / WEIGHTS, like, cure="save or fetch it again")
    if "weights" in found and found["weights"] != _sha256(path / WEIGHTS):
        raise UserError(
            f"{path / WEIGHTS}: these are not the weights that {DESCRIPTION} describes: one of the "
            "two was changed, or saved by another; save or fetch both again"
        )
    return Policy(agent, config, name, spec, steps=steps, seed=seed)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Any]:
    value = read_json(path)
    schema = value.get("schema")
    if schema != SCHEMA:
        said = one_line(repr(schema))
        raise UserError(f"{path} is of schema {said}; this version of nfrl reads {SCHEMA}")
    return value
