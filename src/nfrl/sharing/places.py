"""Taking out of a record what only this machine means: paths become the names of their files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nfrl.runs.records import Record

_REST = r"[^\s'\"<>|,;)]+"
_PATH = re.compile(
    rf"file:/+{_REST}|(?<![\w.~/])(?:~[\w.-]*)?/(?!/){_REST}|(?<!\w)[A-Za-z]:\\{_REST}"
)
# A text that is a path and nothing else, maybe with spaces, maybe after the name of a format.
_ALL_PATH = re.compile(r"((?:[A-Za-z]\w+:)?)((?:~[\w.-]*)?/(?!/).*|[A-Za-z]:\\.*)", re.DOTALL)


def is_path(text: str) -> bool:
    """Whether a text is an absolute path, be it after a format's name: ``npz:/data/a.npz``."""
    return _ALL_PATH.fullmatch(text) is not None


def without_places(record: Record) -> Record:
    """Return a record without the absolute paths of this machine."""
    return Record.from_json(_clean(record.to_json()), "the record to share")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, Mapping):
        return {_clean_text(key): _clean(entry) for key, entry in value.items()}
    return [_clean(entry) for entry in value] if isinstance(value, list | tuple) else value


def _clean_text(text: str) -> str:
    if found := _ALL_PATH.fullmatch(text):
        return found[1] + _name(found[2])
    for place in (Path.cwd(), Path.home()):
        if place != Path(place.anchor):
            text = text.replace(f"{place}/", "")
    return _PATH.sub(lambda found: _name(found[0]), text)


def _name(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]
