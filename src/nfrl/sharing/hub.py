"""The hub itself: sending files, fetching files, and its errors in a line.

A token is found by huggingface_hub alone (``hf auth login``, HF_TOKEN). It is never printed here.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from nfrl.errors import UserError
from nfrl.reading import one_line
from nfrl.sharing.address import Address

_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TRANSPORT = ("httpx", "httpx2", "httpcore", "requests", "urllib3")


def library() -> ModuleType:
    """Import huggingface_hub, which only sharing needs.

    Raises:
        UserError: It is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise UserError(
            "the hub needs the package huggingface_hub: pip install 'nfrl[hub]'"
        ) from error
    return huggingface_hub


def endpoint() -> str:
    """Return the address of the hub: HF_ENDPOINT, or huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or str(library().constants.ENDPOINT)).rstrip("/")


def check_login() -> None:
    """Be sure that there is a token to write with.

    Raises:
        UserError: There is none.
    """
    if library().get_token() is None:
        raise UserError(f"you are not logged in at {endpoint()}: {_LOGIN}")


def upload(
    address: Address,
    files: Mapping[str, Path],
    *,
    message: str,
    private: bool = False,
    forget: Sequence[str] = (),
) -> str:
    """Send files in one commit; the model and the branch are made if they are missing.

    Args:
        address: Where to.
        files: The files by their names there.
        message: Of the commit.
        private: Whether nobody else may see the model.
        forget: Files of an earlier upload that must go, if they are there.

    Returns:
        The address of the commit.

    Raises:
        UserError: The hub cannot be reached, or refuses.
    """
    hub = library()
    check_login()
    api, repo, revision = hub.HfApi(endpoint=endpoint()), address.repo, address.revision
    with _errors(address, writing=True):
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise UserError(f"{repo} is there already, and public: make it private on its page")
        if revision != "main":
            api.create_branch(repo, branch=revision, exist_ok=True)
        operations: list[Any] = [
            hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=path)
            for name, path in files.items()
        ]
        operations += [
            hub.CommitOperationDelete(path_in_repo=name)
            for name in forget
            if api.file_exists(repo, name, revision=revision)
        ]
        made = api.create_commit(repo, operations, commit_message=message, revision=revision)
    return str(made.commit_url)


def download(address: Address, limits: Mapping[str, int]) -> Path:
    """Fetch some files of a model into huggingface_hub's cache; from there alone if it is away.

    Nothing but these files is asked for.

    Args:
        address: Where from.
        limits: The files' names, and the most bytes of each.

    Returns:
        The folder that holds them, all of the same commit.

    Raises:
        UserError: The hub cannot be reached and the cache has them not; the model or a file is not
            there; a file is too large, or not where it should be.
    """
    hub = library()
    folder, revision = None, address.revision
    for name, most in limits.items():
        with _errors(address):
            away = _is_away(address, revision, name, most)
            path = hub.hf_hub_download(
                address.repo,
                name,
                revision=revision,
                endpoint=endpoint(),
                local_files_only=away,
            )
        place = Path(path)
        folder = folder or place.parent
        # The files that follow are of the commit that the first is of.
        revision = folder.name
        if place.parent != folder or not _COMMIT.fullmatch(revision):
            raise UserError(f"{address}: {name} came to {place}, where it should not be")
    assert folder is not None, "there is something to fetch"
    check_folder(folder, limits, folder.parents[1], str(address))
    return folder


def check_folder(folder: Path, limits: Mapping[str, int], root: Path, what: str) -> None:
    """Be sure that files are ordinary, not too large, and within a folder.

    Args:
        folder: Where they are.
        limits: Their names, and the most bytes of each.
        root: What links in the folder must not lead out of.
        what: What to call it.

    Raises:
        UserError: They are not.
    """
    for name, most in limits.items():
        path = (folder / name).resolve()
        if not path.is_relative_to(root.resolve()) or not path.is_file():
            raise UserError(f"{what}: {name} is no file of its own, but leads elsewhere")
        _check_size(what, name, path.stat().st_size, most)


def _is_away(address: Address, revision: str, name: str, most: int) -> bool:
    """Ask for a file's size; return whether the hub did not answer."""
    hub = library()
    url = hub.hf_hub_url(address.repo, name, revision=revision, endpoint=endpoint())
    try:
        found = hub.get_hf_file_metadata(url)
    except Exception as error:
        if _is_unreachable(error) or _status(error) >= 500:
            return True
        raise
    # These two name files in the cache.
    if not _COMMIT.fullmatch(found.commit_hash or "") or not _ETAG.fullmatch(found.etag or ""):
        raise UserError(f"{address}: {endpoint()} does not answer as the hub does")
    if found.size is not None:
        _check_size(str(address), name, found.size, most)
    return False


def _check_size(what: str, name: str, size: int, most: int) -> None:
    if size > most:
        raise UserError(f"{what}: {name} has {size} bytes; the most that is taken is {most}")


@contextlib.contextmanager
def _errors(address: Address, *, writing: bool = False) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line, with its cure."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = _said(error, address, writing)
        if said is None:
            raise
        raise UserError(said) from error


def _said(error: Exception, address: Address, writing: bool) -> str | None:
    errors, status, repo = library().errors, _status(error), address.repo
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"{address}: no connection to {endpoint()}, and the cache does not hold it"
    if _is_unreachable(error):
        return f"{address}: no connection to {endpoint()}: {type(error).__name__}; try again later"
    if isinstance(error, errors.GatedRepoError):
        return f"{repo} is gated: ask for access on its page, {endpoint()}/{repo}, and {_LOGIN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no branch, tag or commit {address.revision!r}"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{address} holds no policy that nfrl saved: a file is missing"
    if status == 401 and writing:
        return f"{endpoint()} does not accept your login: {_LOGIN} with a token that may write"
    if status == 403:
        may = "write to" if writing else "read"
        return f"your login may not {may} {repo}: check the name, and what its token may do"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return f"{endpoint()} has no model {repo}; if it is private, {_LOGIN}"
    if status == 413:
        return f"{repo}: a file is too large for {endpoint()}"
    if status == 429:
        return f"{endpoint()} had too many requests: try again later"
    if status >= 500:
        return f"{endpoint()} has a problem of its own ({status}): try again later"
    if isinstance(error, errors.HfHubHTTPError | ValueError | OSError):
        return f"{address}: {one_line(error)}"
    return None


def _status(error: Exception) -> int:
    """Return the status of a hub's answer; 0 if there was none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _is_unreachable(error: Exception) -> bool:
    """Whether the hub did not answer at all. Which package asked it depends on the version."""
    if _status(error):
        return False
    asked = type(error).__module__.partition(".")[0]
    return asked in _TRANSPORT or isinstance(error, ConnectionError | TimeoutError)
