"""The words of a command line before they are parsed: those that decide what can be parsed."""

import argparse
import contextlib
import dataclasses
import io
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nfrl import registry
from nfrl.errors import UserError
from nfrl.flows import FlowConfig
from nfrl.networks.image_encoders import ImageEncoderConfig
from nfrl.reading import one_line, read_text

LARGEST, DEEPEST = 1_000_000, 8
"""Bytes of a configuration's file; tables within one another."""


def early(arguments: Sequence[str], **options: Any) -> argparse.Namespace:
    """Find the values of some options, whatever else stands among the words.

    Args:
        arguments: The words.
        options: For each option ``name`` (``--name``, dots and dashes for double and single
            underscores), what :meth:`argparse.ArgumentParser.add_argument` takes.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name, values in options.items():
        flag = "--" + name.replace("__", ".").replace("_", "-")
        parser.add_argument(flag, dest=name, **values)
    try:
        return parser.parse_known_args(list(arguments))[0]
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from error


def without(arguments: Sequence[str], option: str) -> list[str]:
    """Leave out an option and its one value."""
    left, skip = [], False
    for word in arguments:
        if skip:
            skip = False
        elif word == option:
            skip = True
        elif not word.startswith(f"{option}="):
            left.append(word)
    return left


def with_slots(config: Any, arguments: Sequence[str]) -> tuple[Any, list[str]]:
    """Give an agent the flows and the image encoder that are asked for, and full names to sizes.

    ``--agent.flow NAME`` chooses a flow, as does ``--agent.prior NAME`` where an agent has a second
    one in that field; ``--agent.images.encoder NAME`` an encoder of images.
    ``--agent.channels 128`` is short for ``--agent.flow.channels 128`` where the flow has such a
    value and the agent none.

    Args:
        config: The agent's configuration, with its defaults.
        arguments: The words.

    Returns:
        The configuration, and the words without the names.
    """
    fields = {field.name for field in dataclasses.fields(config)}
    flows = [name for name in fields if isinstance(getattr(config, name), FlowConfig)]
    slots = sorted({*flows, "flow"})
    options: dict[str, Any] = {f"agent__{name}": {} for name in slots}
    found = early(arguments, **options, agent__images__encoder={})
    for name in slots:
        asked = getattr(found, f"agent__{name}")
        if asked is None:
            continue
        if name not in fields:
            raise UserError(f"--agent.flow: {type(config).__name__} has no flow")
        config = dataclasses.replace(config, **{name: _slot("flows", asked, FlowConfig)})
    if found.agent__images__encoder is not None:
        if "images" not in fields:
            raise UserError(f"--agent.images.encoder: {type(config).__name__} sees no images")
        encoder = _slot("encoders", found.agent__images__encoder, ImageEncoderConfig)
        images = dataclasses.replace(config.images, encoder=encoder)
        config = dataclasses.replace(config, images=images)
    words = without(arguments, "--agent.images.encoder")
    for name in slots:
        words = without(words, f"--agent.{name}")
    if "flow" in fields:
        sizes = {field.name for field in dataclasses.fields(config.flow)} - fields
        words = [_full(word, sizes) for word in words]
    return config, words


def _slot(kind: str, name: str, base: type) -> Any:
    """Return the default configuration of a name: of a flow, or of an image encoder."""
    found = registry.find(kind, name)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(
            f"{name} is no configuration of {kind}: it must be a subclass of {base.__name__}"
        )
    return found()


def _full(word: str, sizes: set[str]) -> str:
    name = word.removeprefix("--agent.").partition("=")[0]
    if word.startswith("--agent.") and name.removeprefix("no-").replace("-", "_") in sizes:
        return word.replace("--agent.", "--agent.flow.", 1)
    return word


def from_file(path: Path) -> list[str]:
    """Return the words that a TOML or YAML file stands for.

    Tables are options with dots, ``[training] steps = 100`` is ``--training.steps 100``; the names
    of the agent, of its flows and of its image encoder are ``name`` in their tables.

    Raises:
        UserError: The file is not there, or no such file.
    """
    text = read_text(path, LARGEST)
    try:
        values = tomllib.loads(text) if path.suffix == ".toml" else yaml.load(text, _Loader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as a configuration: {one_line(error)}") from error
    if not isinstance(values, Mapping):
        raise UserError(f"{path}: a configuration is a table of options")
    _check_values(path, values)
    values = dict(values)
    agent = values.pop("agent", None)
    agent = {"name": agent} if isinstance(agent, str) else agent
    if agent is not None and not isinstance(agent, Mapping):
        raise UserError(f"{path}: agent is {one_line(repr(agent))}, no table")
    agent = dict(agent or {})
    name, task = agent.pop("name", None), values.pop("task", None)
    if name is None:
        raise UserError(f'{path}: there is no agent: [agent] name = "nf-bc"')
    for key, value in (("agent", name), ("task", task)):
        if value is not None and not (isinstance(value, str) and value):
            raise UserError(f"{path}: the name of the {key} is {one_line(repr(value))}, no text")
    for slot in [key for key, value in agent.items() if isinstance(value, Mapping)]:
        if "name" in agent[slot]:
            agent = _named(agent, slot)
    if isinstance(images := agent.get("images"), Mapping):
        agent["images"] = _named(images, "encoder")
    words = options_of("", values) + options_of("agent.", agent)
    return [name, *([task] if task else []), *words]


@contextlib.contextmanager
def errors_in_a_line(file: Path) -> Iterator[None]:
    """Say in a line, and of which file, what else would fill a frame with help.

    Raises:
        UserError: A word that stands for what is in the file is refused within.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    except SystemExit as error:
        if not error.code:
            raise
        # Of the frame that tyro draws, what stands above its first line.
        text = re.sub(r"[╭╮╰╯│]", " ", said.getvalue()).strip("─ \n")
        reason = re.split(r"──+|For full help", text.partition("\n")[2])[0]
        raise UserError(f"{file}: {one_line(reason or text)}") from error


class _Loader(yaml.SafeLoader):
    """YAML without references: a few lines of them can stand for more than fits into memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.YAMLError(f"line {mark.line + 1} refers to another: write its values out")
        return super().compose_node(parent, index)


def _check_values(path: Path, values: Any, name: str = "", depth: int = 0) -> None:
    """Refuse what no option can be: tables in tables in tables, or a list of lists."""
    if depth > DEEPEST:
        raise UserError(f"{path}: {one_line(name)} is too deep: tables in tables in tables")
    for key, value in values.items():
        whole = f"{name}.{key}" if name else f"{key}"
        if isinstance(value, Mapping):
            _check_values(path, value, whole, depth + 1)
        elif isinstance(value, list) and any(isinstance(each, list | Mapping) for each in value):
            raise UserError(f"{path}: {one_line(whole)} is a list of lists or tables, no option")


def _named(table: Mapping[str, Any], slot: str) -> dict[str, Any]:
    """Return a table in which what fills a slot is a name, and values with dots."""
    filled = dict(table)
    if isinstance(value := filled.get(slot), Mapping):
        value = dict(value)
        filled[slot] = value.pop("name", None)
        filled |= {f"{slot}.{key}": each for key, each in value.items()}
    return filled


def options_of(prefix: str, values: Mapping[str, Any]) -> list[str]:
    """Return values as words, options whose names begin with a prefix; what is None is left out."""
    words: list[str] = []
    for key, value in values.items():
        name = prefix + str(key).replace("_", "-")
        if isinstance(value, Mapping):
            words += options_of(f"{name}.", value)
        elif isinstance(value, bool):
            path, dot, last = name.rpartition(".")
            words.append(f"--{path}{dot}{'' if value else 'no-'}{last}")
        elif isinstance(value, list | tuple):
            words += [f"--{name}", *map(str, value)]
        elif value is not None:
            words += [f"--{name}", str(value)]
    return words
