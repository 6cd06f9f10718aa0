"""What goes wrong for reasons that lie with the input, said in one line."""

import difflib
from collections.abc import Iterable

_PACKAGES = {"PIL": "pillow", "mlflow": "mlflow-skinny"}


class UserError(Exception):
    """An error whose cause and cure a user can act on.

    The command line prints its message as one line and exits with status 2, without a traceback.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Build the error for a name that does not exist, naming the nearest that do.

    Args:
        kind: What the name was to be: "task", "agent", ...
        name: The name that was given.
        known: Every name that would have done.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:5]
    return UserError(f"unknown {kind} {name!r}; did you mean {', '.join(near)}?")


def package_of(module: str) -> str:
    """Return what pip calls the package that a module is of: the one that our extras install."""
    name = module.partition(".")[0]
    return _PACKAGES.get(name, name)
