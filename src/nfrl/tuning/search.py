"""What is searched: for each option a range, or a list of values."""

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nfrl.errors import UserError

Value = bool | int | float | str


@dataclasses.dataclass(frozen=True)
class Range:
    """Every number between two, both included; whole ones, if both of them are."""

    low: float
    high: float
    log: bool = False
    """Whether their logarithms are drawn evenly."""

    def __post_init__(self):
        if not self.low < self.high:
            raise ValueError(f"{self.low} is not below {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithm needs more than 0, not {self.low}")

    def suggest(self, name: str, trial: Any) -> Value:
        """Draw a number, as a trial of Optuna's suggests."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    @property
    def first(self) -> Value:
        """One of them."""
        return self.low


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Value, ...]

    def suggest(self, name: str, trial: Any) -> Value:
        """Draw one, as a trial of Optuna's suggests."""
        return trial.suggest_categorical(name, self.values)

    @property
    def first(self) -> Value:
        """One of them."""
        return self.values[0]


Search = Mapping[str, Range | Choice]
"""What is searched, by the option's name without its dashes: ``agent.discount``."""


def read_search(words: Iterable[str]) -> Search:
    """Read what is searched, of words: ``NAME=LOW..HIGH``, ``NAME=LOW..HIGH:log``, ``NAME=A,B,C``.

    A word without ``=`` is a TOML file of the same: ``discount = "0.95..0.999"`` in the table
    ``[agent]``, and lists for values.

    Raises:
        UserError: A word is none of these, an option stands there twice, or there is none.
    """
    search: dict[str, Range | Choice] = {}
    for name, text in _pairs(words):
        name = name.removeprefix("--").replace("_", "-")
        if name in search:
            raise UserError(f"--search: {name} stands there twice")
        try:
            search[name] = _parse(text)
        except ValueError as error:
            raise UserError(f"--search {name}={text}: {error}") from error
    if not search:
        raise UserError("there is nothing to search: --search agent.discount=0.95..0.999")
    return search


def to_json(search: Search) -> dict[str, Any]:
    """Return what is searched as plain values."""
    return {name: dataclasses.asdict(each) for name, each in search.items()}


def _pairs(words: Iterable[str]) -> Iterable[tuple[str, Any]]:
    for word in words:
        name, equals, text = word.partition("=")
        if equals:
            yield name, text
        else:
            yield from _flat("", _read(Path(word)))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(
            f"--search {path}: neither NAME=VALUES nor a TOML file of them: {error}"
        ) from error


def _flat(prefix: str, table: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield prefix + key, value


def _parse(text: Any) -> Range | Choice:
    if isinstance(text, Sequence) and not isinstance(text, str):
        return Choice(tuple(text))
    low, dots, rest = str(text).partition("..")
    if dots:
        high, colon, kind = rest.partition(":")
        if colon and kind != "log":
            raise ValueError(f"{kind!r} after the colon should be 'log'")
        return Range(_number(low), _number(high), bool(colon))
    return Choice(tuple(map(_value, str(text).split(","))))


def _number(text: str) -> float:
    value = _value(text)
    if isinstance(value, str | bool):
        raise ValueError(f"{text!r} is no number")
    return value


def _value(text: str) -> Value:
    """Return what a word says: a truth, a number, or itself."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
