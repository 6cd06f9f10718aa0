"""``nfrl push RUN user/name``: share a policy on the Hugging Face hub."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from nfrl.errors import UserError
from nfrl.sharing.address import PREFIX, Address, check_repo, check_revision, is_address


@dataclasses.dataclass(frozen=True)
class PushOptions:
    """Share a policy on the Hugging Face hub: weights, configuration, record, model card.

    The card is written from the run's record. Log in once with `hf auth login`, or set HF_TOKEN.
    nfrl.load_policy("hf:user/name") loads it anywhere.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run's folder, or that of a saved policy."""
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="USER/NAME")]
    """Where to: user/name. It is made if it is missing."""
    private: bool = False
    """Nobody else sees it."""
    revision: str = "main"
    """The branch. It is made if it is missing."""
    license: str = ""
    """The licence, as the hub names it: mit, apache-2.0. By default none is stated."""
    dry_run: Path | None = None
    """Write the files into this folder, to look at, and send nothing."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl push`` and do it."""
    options = tyro.cli(PushOptions, args=list(arguments), prog="nfrl push")
    if is_address(options.run):
        raise UserError(f"{options.run} is on the hub already; push takes a folder")
    address = Address(
        check_repo(options.name.removeprefix(PREFIX)), check_revision(options.revision)
    )
    # Imported here, as everything that is slow to start: what is wrong above is said at once.
    from nfrl.sharing import hub

    if options.dry_run is None:
        hub.check_login()
    from nfrl.experiment.load import load_policy
    from nfrl.sharing import push

    policy = load_policy(options.run)
    record = push.record_of(Path(options.run).expanduser())
    if record is None:
        print(f"{options.run} has no record: the card will have no score")
    if options.dry_run is not None:
        files = push.write(options.dry_run, policy, address.repo, record, licence=options.license)
        print(f"{options.dry_run}: {', '.join(files)}; nothing was sent")
        return
    made = push.push(policy, address, record, licence=options.license, private=options.private)
    print(f"{made}\nload it with nfrl.load_policy({str(address)!r})")
