"""Where a policy stands on the hub: ``hf:user/name``, or ``hf:user/name@revision``."""

import dataclasses
import re

from nfrl.errors import UserError

PREFIX = "hf:"
"""What an address begins with, where a path could stand, too."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
_NEVER = ("..", "--", "//")


@dataclasses.dataclass(frozen=True)
class Address:
    """A model on the hub.

    Attributes:
        repo: ``user/name``; an organization counts as a user.
        revision: A branch, a tag or a commit.
    """

    repo: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + ("" if self.revision == "main" else f"@{self.revision}")


def is_address(text: object) -> bool:
    """Whether something is meant for the hub, and is no path."""
    return isinstance(text, str) and text.startswith(PREFIX)


def parse(text: str) -> Address:
    """Read ``hf:user/name@revision``; ``hf:`` and the revision may be left out.

    Raises:
        UserError: It is malformed.
    """
    repo, at, revision = text.removeprefix(PREFIX).partition("@")
    address = Address(check_repo(repo))
    return dataclasses.replace(address, revision=check_revision(revision)) if at else address


def check_repo(repo: str) -> str:
    """Return a model's name, ``user/name``.

    Raises:
        UserError: It is none.
    """
    parts = repo.split("/")
    fits = len(parts) == 2 and all(_PART.fullmatch(part) for part in parts)
    if not fits or _is_odd(repo) or any(part[-1] in ".-" for part in parts):
        raise UserError(
            f"{repo!r} is no name on the hub: write user/name, of letters, digits, '-', '_' and '.'"
        )
    return repo


def check_revision(revision: str) -> str:
    """Return the name of a branch or tag, or a commit.

    Raises:
        UserError: It is none.
    """
    if not _REVISION.fullmatch(revision) or _is_odd(revision) or revision[-1] in "./":
        raise UserError(f"{revision!r} is no branch, tag or commit")
    return revision


def _is_odd(text: str) -> bool:
    return any(each in text for each in _NEVER) or text.endswith((".git", ".lock", ".ipynb"))
