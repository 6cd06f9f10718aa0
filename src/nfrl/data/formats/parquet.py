"""Parquet files, read as LeRobot's data sets store them: whole tables, and what they promise."""

from pathlib import Path
from typing import Any

from nfrl.data.errors import DataError
from nfrl.reading import check_file, check_promise, foreign

WIDEST = 8
"""Bytes of a number."""


def read_table(file: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """Return the rows of a file.

    Args:
        file: The file.
        columns: Which to read; None for all.

    Raises:
        DataError: It is damaged, or has no such column.
    """
    from pyarrow import parquet

    check_file(file, kind=DataError)
    with foreign(file, "pyarrow", kind=DataError):
        metadata = parquet.read_metadata(file)
        check_parquet(file, metadata)
        have = metadata.schema.to_arrow_schema().names
        if lacking := [name for name in columns or () if name not in have]:
            raise DataError(f"{file}: there is no column {lacking[0]!r}")
        rows: list[dict[str, Any]] = parquet.read_table(file, columns=columns).to_pylist()
    return rows


def check_parquet(file: Path, metadata: Any) -> None:
    """Refuse a file whose rows would take far more memory than it has bytes.

    Args:
        file: The file.
        metadata: What pyarrow says of it.
    """
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    values = max(sum(column.num_values for column in columns), metadata.num_rows)
    check_promise(file, WIDEST * values, file.stat().st_size, kind=DataError)
    sizes = sum(column.total_uncompressed_size for column in columns)
    check_promise(file, sizes, file.stat().st_size, kind=DataError)
