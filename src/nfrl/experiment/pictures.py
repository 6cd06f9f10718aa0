"""The figures of one run, for what follows it."""

import re
from pathlib import Path

from nfrl.files import write_atomically
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import Record
from nfrl.runs.results import Run


def draw(folder: RunFolder, record: Record, place: Path) -> dict[str, Path]:
    """Draw what a report of one run shows; nothing where matplotlib is not installed.

    Args:
        folder: The run's folder.
        record: What came out.
        place: The folder to write to; made if missing.

    Returns:
        The PNG files, each by its figure's name: ``learning``.
    """
    try:
        # Imported here: it draws, which a run that nothing follows does not need.
        from nfrl.reports.page import make_pictures
        from nfrl.reports.tables import find_task
    except ModuleNotFoundError:
        return {}
    # The task's name begins each figure's name, since a report may show several.
    prefix = re.sub(r"[^a-z0-9]+", "-", record.task.lower()).strip("-") + "-"
    files: dict[str, Path] = {}
    for picture in make_pictures([record], [Run(folder, record)], find_task):
        path = place / f"{picture.name.removeprefix(prefix)}.png"
        write_atomically(path, lambda file, data=picture.data: file.write(data))  # type: ignore[misc]
        files[path.stem] = path
    return files
