"""What can be wrong with a file, whatever it holds: each spoils one that was sound."""

import json
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Spoil = Callable[[Path, random.Random], object]
FLIPS = 16
"""Places of a file in which a bit is flipped, one after the other."""
HUGE = 10**12
"""Rows that are promised and not there."""


def _written(change: Callable[[bytes, random.Random], bytes]) -> Spoil:
    return lambda file, rng: file.write_bytes(change(file.read_bytes(), rng))


def _instead(make: Callable[[Path], object]) -> Spoil:
    def spoil(file: Path, rng: random.Random) -> None:
        file.unlink()
        make(file)

    return spoil


def _zeroed(data: bytes, rng: random.Random) -> bytes:
    width = max(len(data) // 4, 1)
    begin = rng.randrange(max(len(data) - width, 1))
    return data[:begin] + bytes(width) + data[begin + width :]


ANY_FILE: dict[str, Spoil] = {
    "missing": lambda file, rng: file.unlink(),
    "empty": _written(lambda data, rng: b""),
    "noise": _written(lambda data, rng: rng.randbytes(len(data) or 100)),
    "cut to a tenth": _written(lambda data, rng: data[: len(data) // 10]),
    "cut to a half": _written(lambda data, rng: data[: len(data) // 2]),
    "last byte missing": _written(lambda data, rng: data[:-1]),
    "a quarter zeroed": _written(_zeroed),
    "grown to 20 GB": lambda file, rng: os.truncate(file, 20 * 10**9),
    "a folder": _instead(lambda file: file.mkdir()),
    "a FIFO": _instead(os.mkfifo),
    "a link to itself": _instead(lambda file: file.symlink_to(file.name)),
    "a link to /dev/zero": _instead(lambda file: file.symlink_to("/dev/zero")),
}
"""Of every file of every format."""


def flipped(data: bytes, place: float, rng: random.Random) -> bytes:
    """Return bytes of which a bit is another, at a share of their length."""
    changed = bytearray(data)
    changed[min(int(place * len(data)), len(data) - 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def text(content: str | bytes) -> Spoil:
    """Write a text, a whole line, in place of a file's."""
    data = content if isinstance(content, bytes) else f"{content}\n".encode()
    return lambda file, rng: file.write_bytes(data)


ANY_TEXT: dict[str, Spoil] = {
    "Latin-1": _written(lambda data, rng: data.replace(b"a", b"\xe4")),
    "UTF-16": _written(lambda data, rng: data.decode().encode("utf-16")),
    "zero bytes in it": _written(lambda data, rng: data.replace(b"e", b"\0")),
}
ANY_JSON: dict[str, Spoil] = {
    **ANY_TEXT,
    "a list": text("[]"),
    "a number": text("1"),
    "an object of nothing": text("{}"),
    "lists 100000 deep": text("[" * 100_000),
    "objects 100000 deep": text('{"a":' * 100_000),
    "a number of 100000 digits": _written(lambda data, rng: b'{"n": %s}\n' % (b"9" * 100_000)),
    "deep in one field": lambda file, rng: edit_json(file, extra=nested(800)),
}


def nested(depth: int) -> object:
    """Return lists in lists."""
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def edit_json(file: Path, **values: object) -> None:
    """Give the first object of a file other values; ``a__b`` is b in a; None takes it away."""
    first, *rest = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
    found = json.loads(first)
    for name, value in values.items():
        *path, last = name.split("__")
        place = found
        for part in path:
            place = place[int(part) if isinstance(place, list) else part]
        place[last] = value
    file.write_text("\n".join([json.dumps(found), *rest]) + "\n")


def edits(**values: object) -> Spoil:
    """Give the first object of a file other values."""
    return lambda file, rng: edit_json(file, **values)


# Archives


def npy(shape: str, dtype: str = "'<f4'", data: bytes = b"") -> bytes:
    """Return an .npy file with a header that promises what it likes."""
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


NPY_SPOILS: dict[str, Spoil] = {
    "a terabyte promised": lambda file, rng: file.write_bytes(npy(f"({HUGE}, 2)")),
    "a negative shape": lambda file, rng: file.write_bytes(npy("(-1, 2)")),
    "a single number": lambda file, rng: np.save(file, np.float32(1)),
    "texts": lambda file, rng: np.save(file, np.full((18, 2), "up")),
    "Python objects": lambda file, rng: file.write_bytes(npy("(18, 2)", "'|O'", bytes(288))),
    "NaN": lambda file, rng: np.save(file, np.full((18, 2), np.nan, np.float32)),
    "rows too few": lambda file, rng: np.save(file, np.load(file)[1:]),
    "three axes": lambda file, rng: np.save(file, np.zeros((18, 2, 2), np.float32)),
}
"""Of a lone .npy file."""


def with_members(file: Path, members: Mapping[str, bytes], double: bool = False) -> None:
    """Replace members of a zip archive; ``double`` keeps those that they have the names of."""
    with zipfile.ZipFile(file) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in kept.items():
            if double or name not in members:
                archive.writestr(name, data)
        for name, data in members.items():
            archive.writestr(name, data)


def bomb(file: Path, name: str, head: bytes, gigabytes: int = 8) -> None:
    """Replace a member of a zip archive by zeros that take a thousandth of their size."""
    mega = 1 << 20
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin = deflate.compress(head) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(bytes(mega)) + deflate.flush(zlib.Z_FULL_FLUSH)
    data = begin + block * (1024 * gigabytes) + deflate.flush()
    size = len(head) + 1024 * gigabytes * mega
    with_members(file, {name: b""})
    with zipfile.ZipFile(file) as archive:
        kept = {each: archive.read(each) for each in archive.namelist() if each != name}
    with zipfile.ZipFile(file, "w") as archive:
        for each, content in kept.items():
            archive.writestr(each, content)
        archive.writestr(name, data)
        info = archive.getinfo(name)
        # Only the table of contents says how it is compressed; that is what readers go by.
        info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, size


def patched(find: bytes, put: bytes) -> Spoil:
    """Replace bytes wherever they stand."""
    return _written(lambda data, rng: data.replace(find, put))


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> Spoil:
    """Write a safetensors file with a header that promises what it likes."""
    coded = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = struct.pack("<Q", len(coded) if length is None else length)
    return lambda file, rng: file.write_bytes(size + coded + data)


# What only one format can have wrong


def _members(**members: bytes) -> Spoil:
    named = {f"{name}.npy": data for name, data in members.items()}
    return lambda file, rng: with_members(file, named)


def _npz(**arrays: Any) -> Spoil:
    """Replace arrays of an archive; those that are None are left out."""

    def spoil(file: Path, rng: random.Random) -> None:
        with np.load(file) as archive:
            kept = {name: archive[name] for name in archive.files}
        found = {name: array for name, array in (kept | arrays).items() if array is not None}
        np.savez(file, allow_pickle=True, **found)

    return spoil


def _encrypted(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    file.write_bytes(data)


def _unknown_compression(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(b"PK\x01\x02") + 10] = 77
    file.write_bytes(data)


NPZ_SPOILS: dict[str, Spoil] = {
    "rows that are not there": _members(observations=npy(f"({HUGE}, 3)")),
    "2^70 rows": _members(observations=npy(f"({2**70}, 3)")),
    "-1 rows": _members(observations=npy("(-1, 3)")),
    "a shape of text": _members(observations=npy("'all of them'")),
    "a header 5000 deep": _members(observations=npy("(" * 5000)),
    "an unknown type": _members(observations=npy("(18, 3)", "'<q99'")),
    "objects": _npz(observations=np.array([{}] * 22)),
    "an archive in the archive": _members(observations=b"PK\x03\x04" * 100),
    "a name twice": lambda file, rng: with_members(
        file, {"actions.npy": npy("(1, 1)", data=bytes(4))}, double=True
    ),
    "a member that unpacks to 8 GB": lambda file, rng: bomb(
        file, "observations.npy", npy(f"({8 * 2**30 // 12}, 3)")
    ),
    "a member of no array that unpacks to 8 GB": lambda file, rng: bomb(file, "notes.txt", b""),
    "encrypted": _encrypted,
    "unknown compression": _unknown_compression,
    "a lone array": lambda file, rng: file.write_bytes(npy("(2,)", data=bytes(8))),
    "a pickle": text(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94."),
    "NaN": _npz(observations=np.full((22, 3), np.nan, np.float32)),
    "infinite": _npz(actions=np.full((22, 2), np.inf)),
    "beyond float32": _npz(observations=np.full((22, 3), 1e300)),
    "complex": _npz(observations=np.zeros((22, 3), complex)),
    "text": _npz(actions=np.full((22, 2), "up")),
    "dates": _npz(observations=np.zeros((22, 3), "M8[s]")),
    "records": _npz(observations=np.zeros(22, [("a", "f4"), ("b", "f4")])),
    "discrete": _npz(actions=np.zeros((22, 2), int)),
    "differing lengths": _npz(actions=np.zeros((21, 2))),
    "no rows": _npz(observations=np.zeros((0, 3)), actions=np.zeros((0, 2)), terminals=[]),
    "no columns": _npz(observations=np.zeros((22, 0))),
    "a lone number": _npz(observations=np.float32(1)),
    "no terminals": _npz(terminals=None),
    "no actions": _npz(actions=None),
    "NaN in rewards": _npz(rewards=np.full(22, np.nan)),
}


ZARRAY_SPOILS: dict[str, Spoil] = {
    "rows that are not there": edits(shape=[HUGE, 3]),
    "2^70 rows": edits(shape=[2**70, 3]),
    "-1 rows": edits(shape=[-1, 3]),
    "rows of text": edits(shape=["all", 3]),
    "no shape": edits(shape=None),
    "chunks of a terabyte": edits(chunks=[HUGE, 3]),
    "chunks of nothing": edits(chunks=[0, 3]),
    "other chunks": edits(chunks=[5, 3]),
    "pickled objects": edits(dtype="|O", filters=[{"id": "pickle"}]),
    "an unknown type": edits(dtype="<q99"),
    "another type": edits(dtype="<f8"),
    "an unknown compressor": edits(compressor={"id": "none such"}),
    "another compressor": edits(compressor={"id": "zlib", "level": 1}),
    "no compressor": edits(compressor=None),
    "an order of neither": edits(order="Z"),
    "a fill of text": edits(fill_value="up"),
    "format 99": edits(zarr_format=99),
}
ZARR_JSON_SPOILS: dict[str, Spoil] = {
    "rows that are not there": edits(shape=[HUGE, 3]),
    "-1 rows": edits(shape=[-1, 3]),
    "chunks of a terabyte": edits(chunk_grid__configuration__chunk_shape=[HUGE, 3]),
    "chunks of nothing": edits(chunk_grid__configuration__chunk_shape=[0, 3]),
    "other chunks": edits(chunk_grid__configuration__chunk_shape=[5, 3]),
    "an unknown type": edits(data_type="float99"),
    "unknown codecs": edits(codecs=[{"name": "none such"}]),
    "no codecs": edits(codecs=[]),
    "a group": edits(node_type="group"),
    "no node": edits(node_type="neither"),
}
ENDS_SPOILS: dict[str, Spoil] = {
    "as fractions": edits(dtype="<f8"),
    "rows that are not there": edits(shape=[HUGE]),
}


def _hdf5(change: Callable[[Any], object]) -> Spoil:
    def spoil(file: Path, rng: random.Random) -> None:
        import h5py

        with h5py.File(file, "a") as opened:
            change(opened)

    return spoil


def _put(name: str, **options: Any) -> Spoil:
    """Replace an array of an HDF5 file."""

    def change(file: Any) -> None:
        if name in file:
            del file[name]
        file.create_dataset(name, **options)

    return _hdf5(change)


def _linked(name: str, kind: str) -> Spoil:
    import h5py

    links = {"soft": h5py.SoftLink(f"/{name}"), "external": h5py.ExternalLink("other.h5", "/a")}

    def change(file: Any) -> None:
        del file[name]
        file[name] = links[kind]

    return _hdf5(change)


def hdf5_spoils(actions: str, observations: str, rows: int) -> dict[str, Spoil]:
    """Return what can be wrong with two arrays of an HDF5 file, of so many rows."""
    return {
        "rows that are not there": _put(actions, shape=(HUGE, 2), chunks=(1000, 2), dtype="f4"),
        "observations that are not there": _put(
            observations, shape=(HUGE, 3), chunks=(1000, 3), dtype="f4"
        ),
        "chunks of 4 GB": _put(
            actions, shape=(rows, 2), maxshape=(None, 2), chunks=(2**28, 2), dtype="f4"
        ),
        "in another file": _put(
            actions, shape=(rows, 2), dtype="f4", external=[("/dev/zero", 0, rows * 8)]
        ),
        "a link in a circle": _linked(actions, "soft"),
        "a link to another file": _linked(actions, "external"),
        "NaN": _put(observations, data=np.full((rows, 3), np.nan)),
        "infinite": _put(actions, data=np.full((rows, 2), np.inf)),
        "text": _put(actions, data=np.full((rows, 2), b"up")),
        "complex": _put(actions, data=np.zeros((rows, 2), complex)),
        "discrete": _put(actions, data=np.zeros((rows, 2), int)),
        "differing lengths": _put(actions, data=np.zeros((rows - 1, 2))),
        "no rows": _put(actions, data=np.zeros((0, 2))),
        "a lone number": _put(actions, data=1.0),
        "null": _put(actions, dtype="f4"),
        "a group": _hdf5(lambda file: (file.__delitem__(actions), file.create_group(actions))),
        "missing array": _hdf5(lambda file: file.__delitem__(actions)),
    }


INFO_SPOILS: dict[str, Spoil] = {
    "a million million episodes": edits(total_episodes=HUGE),
    "-1 episodes": edits(total_episodes=-1),
    "episodes of text": edits(total_episodes="four"),
    "a fraction of frames": edits(total_frames=1.5),
    "features in a list": edits(features=[1]),
    "features of text": edits(features={"observation.image": "video"}),
}
VIDEO_SPOILS: dict[str, Spoil] = {
    "no frames a second": edits(fps=0),
    "frames of text": edits(fps="ten"),
    "infinitely many frames": edits(fps=float("inf")),
    "a path to the root": edits(video_path="/etc/{video_key}.mp4"),
    "a path outside": edits(video_path="../../{video_key}.mp4"),
    "a path of other things": edits(video_path="{episode_index.__class__}"),
    "an unknown place": edits(video_path="{where}.mp4"),
    "chunks of nothing": edits(chunks_size=-1),
}


def _parquet(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Change the columns of a parquet file."""

    def spoil(file: Path, rng: random.Random) -> None:
        import pyarrow
        from pyarrow import parquet

        columns = parquet.read_table(file).to_pydict()
        change(columns)
        parquet.write_table(pyarrow.table(columns), file)

    return spoil


def _column(name: str, value: Callable[[list[Any]], object]) -> Spoil:
    return _parquet(lambda columns: columns.update({name: value(columns[name])}))


def _million_rows(file: Path, rng: random.Random) -> None:
    """Write rows that are all the same: a few bytes stand for gigabytes."""
    import pyarrow
    from pyarrow import parquet

    schema = parquet.read_schema(file)
    one = parquet.read_table(file).slice(0, 1)
    some = pyarrow.table({name: [one[name][0].as_py()] * 1_000_000 for name in schema.names
                          if name != "observation.image"})  # fmt: skip
    some = some.append_column("zeros", pyarrow.array(np.zeros(1_000_000)))
    parquet.write_table(pyarrow.concat_tables([some] * 5), file, compression="zstd")


PARQUET_SPOILS: dict[str, Spoil] = {
    "5 million rows in little": _million_rows,
    "NaN": _column("observation.state", lambda rows: [[float("nan")] * 3] * len(rows)),
    "infinite": _column("action", lambda rows: [[float("inf")] * 2] * len(rows)),
    "a list of another length": _column("action", lambda rows: [[0.0], *rows[1:]]),
    "an empty list": _column("action", lambda rows: [[], *rows[1:]]),
    "a value missing": _column("action", lambda rows: [None, *rows[1:]]),
    "text": _column("action", lambda rows: ["up"] * len(rows)),
    "discrete": _column("action", lambda rows: [[0, 1]] * len(rows)),
    "no column": _parquet(lambda columns: columns.pop("action")),
    "no rows": _parquet(lambda columns: columns.update({n: [] for n in columns})),
    "no image": _column("observation.image", lambda rows: [None] * len(rows)),
    "an image of text": _column("observation.image", lambda rows: ["a picture"] * len(rows)),
    "an image that is none": _column(
        "observation.image", lambda rows: [{"bytes": b"no image", "path": "a"}] * len(rows)
    ),
    "an image of 20000 x 20000": _column(
        "observation.image",
        lambda rows: [{"bytes": _large_png(20_000), "path": "a"}] * len(rows),
    ),
    "an image of 7000 x 7000": _column(
        "observation.image", lambda rows: [{"bytes": _large_png(7000), "path": "a"}] * len(rows)
    ),
    "an image at the root": _column(
        "observation.image", lambda rows: [{"bytes": None, "path": "/etc/hostname"}] * len(rows)
    ),
    "an image outside": _column(
        "observation.image", lambda rows: [{"bytes": None, "path": "../../a.png"}] * len(rows)
    ),
}


def _large_png(side: int) -> bytes:
    """Return an image of zeros, a thousandth of its size."""
    line = bytes(1 + (side + 7) // 8)
    data = zlib.compress(line * side, 9)
    head = struct.pack(">2I5B", side, side, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(each)) + kind + each + struct.pack(">I", zlib.crc32(kind + each))
        for kind, each in chunks
    )


def _tensor(dtype: str = "F32", shape: Sequence[int] = (8,), end: int = 32) -> dict[str, object]:
    return {".none": {"dtype": dtype, "shape": list(shape), "data_offsets": [0, end]}}


SAFETENSORS_SPOILS: dict[str, Spoil] = {
    "a header of 2^60 bytes": safetensors(b"{}", length=2**60),
    "a header of 99 MB": safetensors(b"{}", length=99_000_000),
    "a header 100000 deep": safetensors(b'{"a":' * 100_000),
    "a header in Latin-1": safetensors(b'{"\xe4": 1}'),
    "a header that is a list": safetensors([]),
    "no tensors": safetensors({}),
    "tensors past the end": safetensors(_tensor(shape=(HUGE,), end=4 * HUGE)),
    "a shape of 2^63": safetensors(_tensor(shape=(2**63, 2)), bytes(32)),
    "an unknown type": safetensors(_tensor("F99"), bytes(32)),
    "another type": safetensors(_tensor("BF16", (16,)), bytes(32)),
    "a negative offset": safetensors(_tensor(end=-1), bytes(32)),
    "another network's": safetensors(_tensor(), bytes(32)),
}
POLICY_SPOILS: dict[str, Mapping[str, Spoil]] = {
    "policy/policy.json": {
        "schema 99": edits(schema=99),
        "a schema of lists": edits(schema=nested(50)),
        "an unknown agent": edits(agent="gausian-bc"),
        "an agent that is a number": edits(agent=1),
        "code as an agent": edits(agent="os:system"),
        "steps of text": edits(steps="many"),
        "infinitely many steps": edits(steps=float("inf")),
        "an unknown value": edits(config__surprise=1),
        "a wrong value": edits(config__hidden="wide"),
        "another width": edits(config__hidden=[9]),
        "a width of a million million": edits(config__hidden=[HUGE]),
        "a width below nothing": edits(config__hidden=[-8]),
        "observations of a million million": edits(spec__observation__observation__shape=[HUGE]),
        "observations of text": edits(spec__observation__observation__shape="wide"),
        "no observations": edits(spec__observation={}),
        "no action": edits(spec__action={"low": [], "high": []}),
        "bounds of differing lengths": edits(spec__action__low=[0.0]),
    },
    "policy/policy.safetensors": SAFETENSORS_SPOILS,
}
RESULT_SPOILS: dict[str, Spoil] = {
    "schema 99": edits(schema=99),
    "an unknown field": edits(surprise=1),
    "a score of NaN": edits(score=float("nan")),
    "a score beyond floats": edits(score=10**400),
    "a score of 2": edits(score=2.0, measure="success rate"),
    "a seed of text": edits(seed="one"),
    "a seed of a fraction": edits(seed=0.5),
    "scores of text": edits(scores="many"),
    "an interval of three": edits(interval=[0, 1, 2]),
    "a curve of numbers": edits(curve=[1, 2]),
    "data as a list": edits(dataset=[]),
    "a task of a million letters": edits(task=["a" * 1_000_000]),
}
METRICS_SPOILS: dict[str, Spoil] = {
    "a step of NaN": edits(step=float("nan")),
    "a step beyond floats": edits(step=10**400),
    "a step of text": edits(step="one"),
    "a step below nothing": edits(step=-1),
}
EVALUATION_SPOILS: dict[str, Spoil] = {
    "three dimensions": _npz(successes=np.zeros((2, 5, 1))),
    "objects": _npz(successes=np.array([[{}]])),
    "rows that are not there": _members(successes=npy(f"({HUGE}, 3)")),
    "a member that unpacks to 8 GB": lambda file, rng: bomb(
        file, "successes.npy", npy(f"(2, {2**30})")
    ),
}
TOML_SPOILS: dict[str, Spoil] = {
    "no agent": text("steps = 3"),
    "an agent that is a number": text("agent = 1"),
    "a name that is a list": text('[agent]\nname = ["nf-bc"]'),
    "a task that is a number": text('task = 1\n[agent]\nname = "nf-bc"'),
    "an unknown agent": text('agent = "nf-cb"'),
    "an unknown option": text('agent = "gaussian-bc"\ndata = "data.npz"\nsurprise = 1'),
    "steps of text": text('agent = "gaussian-bc"\ndata = "data.npz"\nsteps = "many"'),
    "a list of lists": text('agent = "gaussian-bc"\nseeds = [[1], [2]]'),
    "tables 50 deep": text(f"[{'.'.join(['a'] * 50)}]\nb = 1"),
    "lists 100000 deep": text("a = " + "[" * 100_000),
    "a name twice": text('agent = "a"\nagent = "b"'),
    "a date": text('agent = "gaussian-bc"\ndata = "data.npz"\nsteps = 2020-01-01'),
}
