"""TensorBoard: event files in RUN/tensorboard, for ``tensorboard --logdir runs``."""

import datetime
import json
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nfrl.interfaces.tracker import Bookmark, RunDescription

VERSION = "brain.Event:2"
"""Of the event files."""
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
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import text

        place = self._place(run)
        place.mkdir(parents=True, exist_ok=True)
        now = time.time_ns()
        # Readers take the files of a run in the order of their names.
        name = f"events.out.tfevents.{now // 10**9}.{socket.gethostname()}.{now}"
        # Not tensorboardX's writer: what that was given waits in a queue, which a kill loses.
        self._file = (place / name).open("wb")
        self._write(Event(wall_time=time.time(), file_version=VERSION))
        if resume is None:
            config = json.dumps(run.config, indent=2, default=str)
            self._summarize(text("config", f"```json\n{config}\n```"), 0)
            return Bookmark(run.name)
        # Readers drop what a killed run wrote after its bookmark, which is written again now.
        session = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=resume.step + 1, session_log=session))
        self._last = resume.step
        return resume

    def metrics(self, step: int, numbers: Mapping[str, float]) -> None:
        self._scalars(numbers, step)
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
        self._scalars({f"result/{name}": summary[name] for name in summary}, self._last)
        self._file.close()

    def _place(self, run: RunDescription) -> Path:
        if self.folder is not None:
            return Path(self.folder).expanduser() / run.name
        if run.folder is not None:
            return run.folder / "tensorboard"
        now = datetime.datetime.now().isoformat(timespec="seconds").replace(":", "")
        return Path("tensorboard") / run.name / now

    def _scalars(self, numbers: Mapping[str, float], step: int) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=numbers[name]) for name in numbers]
        self._summarize(Summary(value=values), step)

    def _picture(self, name: str, data: bytes, width: int, height: int, step: int) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        image = Summary.Image(encoded_image_string=data, width=width, height=height, colorspace=RGB)
        self._summarize(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def _summarize(self, summary: Any, step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Any) -> None:
        """Write a record of TensorFlow's: a length and bytes, each with its checksum."""
        from tensorboardX.record_writer import masked_crc32c

        for data in (struct.pack("<Q", event.ByteSize()), event.SerializeToString()):
            self._file.write(data + struct.pack("<I", masked_crc32c(data)))
        self._file.flush()


def _gif_of(path: Path) -> bytes:
    import imageio.v2 as imageio

    reader: Any = imageio.get_reader(path)
    with reader:
        seconds_a_frame = 1 / reader.get_meta_data()["fps"]
        frames = [frame for i, frame in enumerate(reader.iter_data()) if i % EVERY == 0]
    duration = 1000 * EVERY * seconds_a_frame
    return imageio.mimwrite("<bytes>", frames, "gif", duration=duration, loop=0)
