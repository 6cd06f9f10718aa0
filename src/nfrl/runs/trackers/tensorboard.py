"""TensorBoard: event files in RUN/tensorboard, for ``tensorboard --logdir runs``."""

import datetime
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nfrl.interfaces.tracker import Bookmark, RunDescription

RGB = 3
"""The number of colours in TensorBoard's summaries of images."""
EVERY = 3
"""Of so many frames of a video one goes into its GIF, which is many times as large as the MP4."""


class TensorBoard:
    """Writes event files.

    Args:
        folder: Where event files go, each run in a folder of its name; by default RUN/tensorboard.
            Where the run's files are dropped, it is ./tensorboard.
    """

    requires = ("tensorboardX",)

    def __init__(self, folder: Path | str | None = None):
        self.folder = folder
        self._last = 0

    def start(self, run: RunDescription, resume: Bookmark | None) -> Bookmark:
        from tensorboardX import SummaryWriter

        self._writer: Any = SummaryWriter(
            str(self._place(run)),
            # Readers drop what a killed run wrote after its bookmark, which is written again now.
            purge_step=None if resume is None else resume.step + 1,
            # Two files of one second would have one name, and the later would replace the earlier.
            filename_suffix=f".{time.time_ns()}",
        )
        if resume is None:
            text = json.dumps(run.config, indent=2, default=str)
            self._writer.add_text("config", f"```json\n{text}\n```", 0)
        self._writer.flush()
        self._last = 0 if resume is None else resume.step
        return resume or Bookmark(run.name)

    def metrics(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
        self._last = step

    def image(self, name: str, path: Path, step: int) -> None:
        data = path.read_bytes()
        # A PNG begins with 8 bytes of signature and 8 of its first block; then come its sizes.
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        self._picture(name, data, width, height, step)

    def video(self, name: str, path: Path, step: int) -> None:
        """Take a video; TensorBoard shows GIFs, so MP4 becomes one."""
        data = path.read_bytes() if path.suffix == ".gif" else _gif_of(path)
        width, height = (int.from_bytes(data[at : at + 2], "little") for at in (6, 8))
        self._picture(name, data, width, height, step)

    def finish(self, status: str, summary: Mapping[str, float]) -> None:
        for name, value in summary.items():
            self._writer.add_scalar(f"result/{name}", value, self._last)
        self._writer.close()

    def _place(self, run: RunDescription) -> Path:
        if self.folder is not None:
            return Path(self.folder).expanduser() / run.name
        if run.folder is not None:
            return run.folder / "tensorboard"
        now = datetime.datetime.now().isoformat(timespec="seconds").replace(":", "")
        return Path("tensorboard") / run.name / now

    def _picture(self, name: str, data: bytes, width: int, height: int, step: int) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        image = Summary.Image(encoded_image_string=data, width=width, height=height, colorspace=RGB)
        value = Summary.Value(tag=name, image=image)
        self._writer.file_writer.add_summary(Summary(value=[value]), step)
        self._writer.flush()


def _gif_of(path: Path) -> bytes:
    import imageio.v2 as imageio

    with imageio.get_reader(path) as reader:
        seconds_a_frame = 1 / reader.get_meta_data()["fps"]
        frames = [frame for i, frame in enumerate(reader.iter_data()) if i % EVERY == 0]
    duration = 1000 * EVERY * seconds_a_frame
    return imageio.mimwrite("<bytes>", frames, "gif", duration=duration, loop=0)
