"""Many data sets as one, in a folder that is mapped into memory: ``nfrl data join``."""

import os
from collections.abc import Sequence
from pathlib import Path

from nfrl.data.errors import DataError
from nfrl.data.formats import npy
from nfrl.data.formats.ogbench import validation_path
from nfrl.data.load import load
from nfrl.errors import UserError
from nfrl.files import make_folder, not_written, temporary_folder
from nfrl.progress import progress


def join(
    out: Path,
    uris: Sequence[str | Path],
    *,
    observation_keys: Sequence[str] = (),
    action_key: str = "",
    tasks: Sequence[str] = (),
    show: bool = True,
) -> None:
    """Write data of any format, one after the other, into one folder.

    One of them is in memory at a time. The folder is there when all are in it, and not before.

    Args:
        out: The folder; it must not exist.
        uris: What :func:`nfrl.data.load.load` takes, in order. Each brings its validation data, or
            has a part held out. ``NAME-val.npz`` is passed over beside ``NAME.npz``, with which it
            is read: OGBench's large sets are folders of such files.
        observation_keys: What makes an observation, where it is chosen.
        action_key: The name of the action, where it is chosen.
        tasks: Which of the data's tasks, where they are chosen.
        show: Whether to show progress.

    Raises:
        UserError: The folder exists, the disk is full, or data are damaged or of several kinds.
    """
    out = Path(out).expanduser().absolute()
    if not uris:
        raise DataError("there is nothing to join: name data sets after the folder")
    if os.path.lexists(out):
        raise DataError(f"{out} exists: take it away, or name another folder")
    make_folder(out.parent)
    beside = {str(validation_path(uri)) for uri in uris}
    uris = [uri for uri in uris if str(uri) not in beside]
    names = [str(uri) for uri in uris]
    with temporary_folder(f".{out.name}.joining-", str(out.parent)) as place:
        with (
            npy.Writer(place / out.name, names) as training,
            npy.Writer(place / out.name / npy.VALIDATION, names) as validation,
            progress(f"joining into {out.name}", len(uris), "data sets", show=show) as update,
        ):
            for count, uri in enumerate(uris):
                data = load(
                    uri, observation_keys=observation_keys, action_key=action_key, tasks=tasks
                )
                training.add(data.training, f"{uri}")
                validation.add(data.validation, f"{uri}, its validation data")
                update(count + 1)
        try:
            os.rename(place / out.name, out)
        except OSError as error:
            raise UserError(not_written(out, error)) from error
