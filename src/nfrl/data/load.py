"""Data from anywhere, by a URI, a path or as arrays: ``nfrl.load``."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nfrl import registry
from nfrl.data.actions import Bounds, action_spec
from nfrl.data.errors import DataError
from nfrl.data.formats.reading import Format, Selection, expand
from nfrl.data.trajectories import Trajectories
from nfrl.errors import unknown_name
from nfrl.spec import Spec

HELD_OUT = 10
"""One in so many trajectories is held out where there are no validation data."""
IN_MEMORY = "arrays"


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """Data to train on and to validate with, and where they came from.

    Attributes:
        training: What to train on.
        validation: What to measure with.
        uri: Names the data: ``minari:D4RL/door/human-v2``, ``zarr:/home/me/a.zarr``; ``arrays``
            where they were given as such.
        path: The file or folder, absolute; None for arrays.
        sha256: Of a file's bytes for .npz, else of the contents; of the part to train on where
            validation data stand beside it.
        origin: Where they come from, in a few words: ``file``, ``made by nfrl (seed 0)``.
        format: The format's name in the registry; ``arrays`` for none.
        notes: What was skipped, passed over or held out, a line each.
    """

    training: Trajectories
    validation: Trajectories
    uri: str
    path: Path | None
    sha256: str
    origin: str
    format: str
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> Spec:
        """What an observation and an action are."""
        return self.training.spec

    @property
    def transitions(self) -> int:
        """How many transitions there are to train on."""
        return self.training.transitions

    def matches(self, sha256: str) -> bool:
        """Whether a hash is that of these data, or that of the same data without their rewards.

        Earlier versions did not read the rewards of Minari's and LeRobot's data.
        """
        return sha256 in (self.sha256, self._sha256_without_rewards())

    def changed(self, change: Callable[[Trajectories], Trajectories]) -> "Data":
        """Return these with both parts changed, and the spec of their actions found anew.

        The hash stays that of what was read.
        """
        return _of_one_spec(
            dataclasses.replace(
                self, training=change(self.training), validation=change(self.validation)
            )
        )

    def within(self, bounds: Bounds) -> "Data":
        """Return these with an environment's bounds of actions.

        Raises:
            DataError: An action lies outside them.
        """
        return _of_one_spec(self, bounds)

    def _sha256_without_rewards(self) -> str:
        if self.path is None or self.training.rewards is None:
            return self.sha256
        parts = (self.training, self.validation)
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("observations", "actions")
        }
        ends = [parts[0].ends, parts[1].ends + parts[0].transitions]
        return Trajectories(**joined, ends=np.concatenate(ends), spec=self.spec).sha256


def load(
    uri: str | Path | Mapping[str, ArrayLike] | Trajectories,
    *,
    observation_keys: Sequence[str] = (),
    action_key: str = "",
    tasks: Sequence[str | int] = (),
) -> Data:
    """Load data of any format.

    Where the data bring none to validate with, a tenth of the trajectories is held out, at least
    one: the last ones. Of a single trajectory it is the last tenth of its rows.

    Args:
        uri: ``NAME:REST`` with the name of a format: ``minari:D4RL/door/human-v2``,
            ``lerobot:lerobot/pusht``, ``ogbench:cube-single-play-v0``, ``zarr:a.zarr``,
            ``hdf5:a.hdf5``, ``npz:a.npz``. Or a path, whose contents tell the format. Or arrays by
            name, as in an .npz file. Or trajectories.
        observation_keys: What makes an observation, in this order: names in the data, with the
            columns wanted where not all are: ``("keypoint", "state[:2]")``, or the height and width
            in which an image is wanted: ``"camera[96x96]"``.
        action_key: The name of the action, where it is not the format's own.
        tasks: Of a LeRobot data set of several tasks those wanted: numbers or words.

    Raises:
        UserError: There is nothing there, nothing that any format recognises, or something is wrong
            with it; the message says what.
    """
    selection = Selection(tuple(observation_keys), action_key, tuple(map(str, tasks)))
    if isinstance(uri, Trajectories):
        if selection != Selection():
            raise DataError(f"{IN_MEMORY}: of trajectories nothing can be chosen by name any more")
        return _data(uri, None, uri=IN_MEMORY, path=None, sha256=uri.sha256)
    if isinstance(uri, Mapping):
        from nfrl.data.formats import npz

        arrays = {key: np.asarray(array) for key, array in uri.items()}
        found = npz.from_arrays(Path(IN_MEMORY), arrays, selection)
        return _data(found, None, uri=IN_MEMORY, path=None, sha256=found.sha256)
    name, form, path, portable = _find(uri)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    path = path.absolute()
    training = form.read(path, selection)
    return _data(
        training,
        form.read_validation(path, selection),
        uri=portable or f"{name}:{path}",
        path=path,
        sha256=form.hash(path) or training.sha256,
        origin=form.origin(path),
        format=name,
    )


def is_uri(text: str) -> bool:
    """Whether a text is ``NAME:REST`` with the name of a format."""
    name, colon, rest = text.partition(":")
    formats = dict(_formats())
    aliases = {alias for form in formats.values() for alias in form.aliases}
    return bool(colon and rest) and name in {*formats, *aliases}


def locate(uri: str | Path) -> Path:
    """Return where the data lie that a URI or a path names.

    Raises:
        UserError: There is no such format, or nothing there.
    """
    return _find(uri)[2].absolute()


def _data(training: Trajectories, validation: Trajectories | None, **further: Any) -> Data:
    """Part training from validation where that is to be done, and make both of the same spec."""
    where = further["path"] or IN_MEMORY
    notes = training.notes
    if training.rewards is not None and training.final_observations is None:
        notes = (*notes, "what each last action led to is not known: its observation is repeated")
    if validation is None:
        training, validation, note = _hold_out(where, training)
        notes = (*notes, note)
    else:
        for kind, ours, theirs in (
            ("observations", training.spec.observation, validation.spec.observation),
            ("actions", training.spec.action_dim, validation.spec.action_dim),
        ):
            if ours != theirs:
                raise DataError(
                    f"{where}: {kind} of the validation data are {_short(theirs)}, but those of "
                    f"the training data {_short(ours)}"
                )
        notes += tuple(f"of the validation data: {note}" for note in validation.notes)
    about = {"origin": IN_MEMORY, "format": IN_MEMORY} | further
    return _of_one_spec(Data(training, validation, **about, notes=notes))


def _of_one_spec(data: Data, bounds: Bounds | None = None) -> Data:
    """Return data whose two parts have the spec of both: a value may be in one of them only."""
    where = data.path or data.uri
    found = action_spec(data.training.actions, data.validation.actions, bounds=bounds, where=where)
    spec = Spec(data.training.spec.observation, found)
    training = dataclasses.replace(data.training, spec=spec)
    validation = dataclasses.replace(data.validation, spec=spec)
    return dataclasses.replace(data, training=training, validation=validation)


def _short(value: Any) -> str:
    """Say how wide something is: a number, or the arrays of an observation."""
    if not isinstance(value, Mapping):
        return f"{value} wide"
    return ", ".join(f"{name} {array.shape}" for name, array in value.items())


def _hold_out(where: object, found: Trajectories) -> tuple[Trajectories, Trajectories, str]:
    count = len(found.ends)
    if count > 1:
        held_out = max(count // HELD_OUT, 1)
        noun = "trajectory is" if held_out == 1 else f"{held_out} trajectories are"
        return *found.split(held_out), f"the last {noun} held out"
    rows = found.transitions
    if rows < 2:
        raise DataError(f"{where}: a single transition is nothing to train on and validate with")
    row = min(max(rows - max(rows // HELD_OUT, 1), 1), rows - 1)
    note = f"there is a single trajectory: its last {rows - row} rows are held out"
    return *found.split_rows(row), note


def _find(uri: str | Path) -> tuple[str, Format, Path, str]:
    """Return a format's name, the format, where the data lie, and a URI that names no folder."""
    formats = dict(_formats())
    name, colon, rest = str(uri).partition(":")
    if isinstance(uri, str) and colon and rest:
        if name in formats:
            path = formats[name].locate(rest)
            is_path = path == expand(rest)
            return name, formats[name], path, "" if is_path else uri
        for own, form in formats.items():
            if name in form.aliases:
                return own, form, form.aliases[name](rest), uri
    path = expand(str(uri))
    if not path.exists() and path.suffix != ".npz":
        if isinstance(uri, str) and colon and name.isidentifier() and len(name) > 1:
            aliases = [alias for form in formats.values() for alias in form.aliases]
            raise unknown_name("format of data", name, [*formats, *aliases])
        raise DataError(f"{path}: there is no such file or folder")
    for own, form in formats.items():
        if form.matches(path):
            return own, form, path, ""
    titles = "; ".join(f"{name}: {form.title}" for name, form in formats.items())
    raise DataError(f"{path}: this is of no format that is known, or damaged ({titles})")


def _formats() -> Iterator[tuple[str, Format]]:
    for name, value in registry.entries("formats"):
        yield name, _as_format(value)


def _as_format(value: Any) -> Format:
    """Return a format that a package announces: a Format, or a module with its functions."""
    if isinstance(value, Format):
        return value
    names = [field.name for field in dataclasses.fields(Format)]
    given: dict[str, Any] = {"title": getattr(value, "__name__", type(value).__name__)}
    given |= {name: getattr(value, name) for name in names if hasattr(value, name)}
    return Format(**given)
