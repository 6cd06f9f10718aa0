"""LeRobot's data sets (Cadene et al., 2024): a folder of parquet files, ``meta`` and ``data``.

Of both layouts: a file an episode (version 2), and many episodes in a file (version 3). Pictures
and videos are not read.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nfrl.data.demonstrations import Demonstrations, choose, demonstrations
from nfrl.data.formats.ogbench import DataError
from nfrl.errors import UserError


def read_lerobot(path: Path, observation_keys: Sequence[str] | None = None) -> Demonstrations:
    """Read ``action`` and what makes an observation, by episode and frame.

    Args:
        path: The data set's folder, with ``meta/info.json`` and ``data/**/*.parquet``.
        observation_keys: By default every column of numbers whose name begins with
            ``observation.``, in the order of their names: the environment's state first, then the
            robot's.

    Raises:
        UserError: A file or a column is missing or damaged, or pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{path} needs pyarrow ({error}): pip install 'nfrl[imitation]'") from None
    files = sorted((path / "data").rglob("*.parquet"))
    if not files:
        raise DataError(f"{path}: there is no data/**/*.parquet")
    try:
        tables = [parquet.read_table(file, partitioning=None) for file in files]
        table = pyarrow.concat_tables(tables)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read by pyarrow ({error})") from error
    columns = {name: table.column(name) for name in table.column_names}
    for name in ("action", "episode_index", "frame_index"):
        if name not in columns:
            raise DataError(f"{path}: there is no column {name!r}")
    if observation_keys is None:
        observation_keys = [
            name
            for name in sorted(columns)
            if name.startswith("observation.") and _is_numeric(columns[name].type)
        ]
    wanted = {key.split("[")[0] for key in observation_keys} & columns.keys()
    arrays = {name: _rows(columns[name]) for name in wanted}
    if not arrays:
        raise DataError(f"{path}: there is no column observation.* of numbers")
    episode, frame = (_rows(columns[name]) for name in ("episode_index", "frame_index"))
    order = np.lexsort((frame, episode))
    _, counts = np.unique(episode, return_counts=True)
    actions = _rows(columns["action"])
    return demonstrations(
        path,
        choose(path, arrays, observation_keys)[order],
        actions.reshape(len(actions), -1)[order],
        np.cumsum(counts),
    )


def _is_numeric(kind: object) -> bool:
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type  # type: ignore[attr-defined]
    return types.is_floating(kind) or types.is_integer(kind)


def _rows(column: object) -> NDArray:
    """Return a column of numbers, or of lists of the same length, as (rows,) or (rows, width)."""
    return np.array(column.to_pylist())  # type: ignore[attr-defined]
