"""Sharing a policy: what goes into the folder, and the folder to the hub.

policy.json          the agent's name and configuration, what it observes and does
policy.safetensors   its weights
record.json          the run's record, without the paths of this machine
README.md            the model card
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nfrl.acting.policy import DESCRIPTION, WEIGHTS, Policy
from nfrl.agents import configs
from nfrl.errors import UserError
from nfrl.files import names_in, temporary_folder, write_bytes, write_json
from nfrl.reading import read_text
from nfrl.registry import is_reference
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import Record, check_record, parse_record
from nfrl.sharing import card, hub
from nfrl.sharing.address import Address, check_repo
from nfrl.sharing.load import LIMITS, OWN
from nfrl.sharing.places import is_path, without_places

RECORD, CARD = "record.json", "README.md"
FILES = (DESCRIPTION, WEIGHTS, RECORD, CARD)
"""All that is ever sent."""

_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def push(
    policy: Policy,
    address: Address,
    record: Record | None = None,
    *,
    licence: str = "",
    private: bool = False,
) -> str:
    """Send a policy to the hub, in one commit.

    Args:
        policy: The policy.
        address: Where to; the model and the branch are made if they are missing.
        record: Of the run that trained it.
        licence: As the hub names it: ``mit``; empty if none is stated.
        private: Whether nobody else may see it.

    Returns:
        The address of the commit.

    Raises:
        UserError: See :func:`write`; or the hub cannot be reached, or refuses.
    """
    with temporary_folder("nfrl-push-") as place:
        files = write(place / "files", policy, address.repo, record, licence=licence)
        return hub.upload(
            address,
            files,
            message=f"nfrl: {policy.name}" + ("" if record is None else f" on {record.task}"),
            private=private,
            forget=[name for name in FILES if name not in files],
        )


def write(
    folder: Path, policy: Policy, repo: str, record: Record | None = None, *, licence: str = ""
) -> dict[str, Path]:
    """Write what would be sent into a folder.

    Args:
        folder: The folder; what was written there before is replaced.
        policy: The policy.
        repo: Where it is to be found: ``user/name``.
        record: Of the run that trained it.
        licence: As the hub names it; empty if none is stated.

    Returns:
        The files by their names.

    Raises:
        UserError: The folder holds something else; a name is malformed; the configuration holds a
            path of this machine; a file is too large.
    """
    check_repo(repo)
    if licence and not _LICENCE.fullmatch(licence):
        raise UserError(f"{licence!r} is no licence as the hub names them: mit, apache-2.0, ...")
    folder = folder.expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: choose another folder")
    if folder.is_dir() and (other := names_in(folder) - set(FILES)):
        raise UserError(f"{folder} holds something else, {min(other)}: choose another folder")
    values = {"name": policy.name, **configs.to_json(policy.config)}
    if path := next(filter(is_path, _texts(values)), None):
        raise UserError(f"the agent's configuration would be public, and holds the path {path}")
    policy.save(folder)
    if record is None:
        (folder / RECORD).unlink(missing_ok=True)
    else:
        record = without_places(record)
        write_json(folder / RECORD, check_record(record, "the record to share"))
    text = card.write(
        record,
        repo=repo,
        agent=policy.name,
        goals=policy.agent.capabilities.goals,
        code=_code(values),
        licence=licence,
    )
    write_bytes(folder / CARD, text.encode())
    files = {name: folder / name for name in FILES if (folder / name).is_file()}
    for name, most in LIMITS.items():
        if (size := files[name].stat().st_size) > most:
            raise UserError(f"{name} has {size} bytes; a shared policy's may have {most}")
    return files


def record_of(folder: Path) -> Record | None:
    """Read the record of a run, or the one that came with a shared policy; None without one.

    Raises:
        UserError: It is malformed.
    """
    shared = folder / RECORD
    if not shared.is_file():
        return RunFolder(folder).read_result()
    return parse_record(read_text(shared), str(shared))


def _code(values: dict[str, Any]) -> list[str]:
    """Return the modules that a configuration's references are of, but nfrl's own."""
    modules = {text.partition(":")[0] for text in _texts(values) if is_reference(text)}
    return sorted(each for each in modules if not each.startswith(tuple(f"{own}." for own in OWN)))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)
