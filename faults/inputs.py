"""What every reader makes of what is no input of its: a refusal in a line, in little time and room.

A ``Reader`` names sound input, the files of it that are spoiled one after the other, and what reads
it. Every file is spoiled in the ways of :mod:`faults.malformed`; what only one format can have
wrong stands in the tables below.
"""

import dataclasses
import json
import os
import random
import resource
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faults import malformed
from faults.case import Case
from faults.malformed import ANY_FILE, ANY_JSON, ANY_TEXT, Spoil
from faults.processes import Answer, call, nfrl
from faults.shared import shared

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import data_sets

MEGABYTES = 765.0
"""What a process may take: 600 MB more than one that has imported nfrl and does nothing."""
SECONDS = 60.0
WORST = 3 * 10**9
"""Bytes after which the system refuses more, so that what goes wrong harms nothing else."""
LINE = 1200
"""The most characters of a refusal."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader, and sound input for it.

    Attributes:
        kind: For the table: ``zarr``.
        layout: Which of the kind's: ``v2``.
        make: Writes sound input into a folder.
        files: What is spoiled; and what a refusal must name of it.
        read: Reads the input, from the working folder; returns what flipped bits must not change.
        command: The words that read it for the user; none where only ``read`` does.
        passes: Ways to spoil a file that may leave it sound, as ``FILE: WAY``.
        spoils: Ways to spoil it that only this input knows, by file.
        whole: What a refusal may name instead where a file says nothing: the data set.
        only: Ways of ``ANY_FILE`` that are possible; all by default.
    """

    kind: str
    layout: str
    make: Callable[[Path], object]
    files: Mapping[str, str]
    read: Callable[[], object]
    command: tuple[str, ...] = ()
    passes: frozenset[str] = frozenset()
    spoils: Mapping[str, Mapping[str, Spoil]] = dataclasses.field(default_factory=dict)
    whole: str = ""
    only: Sequence[str] = tuple(ANY_FILE)

    @property
    def name(self) -> str:
        """Kind and layout."""
        return f"{self.kind} {self.layout}".strip()

    def place(self) -> None:
        """Put sound input into the working folder."""
        resource.setrlimit(resource.RLIMIT_DATA, (WORST, WORST))

        def make(folder: Path) -> None:
            (folder / "it").mkdir()
            os.chdir(folder / "it")
            call(lambda: self.make(Path())).succeeded()
            Path("output.log").unlink()

        name = self.make.__name__ if self.make is _run else self.name
        shutil.copytree(shared(name, make) / "it", ".", dirs_exist_ok=True, symlinks=True)

    def answer(self) -> Answer:
        """Read the input, in a process of its own."""
        return nfrl(*self.command) if self.command else call(self.read)

    def ways(self, file: str) -> dict[str, Spoil]:
        """Return every way to spoil a file."""
        kind = Path(file).suffix
        texts = {".json": ANY_JSON, ".jsonl": ANY_JSON, ".toml": ANY_TEXT, ".txt": ANY_TEXT}
        generic = {way: ANY_FILE[way] for way in self.only}
        return {**generic, **texts.get(kind, {}), **self.spoils.get(file, {})}


def check_line(line: str, words: Sequence[str]) -> None:
    """Assert that a refusal is one line, not too long, and names what is wrong."""
    assert line.isprintable(), line
    assert len(line) < LINE, line
    assert any(word in line for word in words), f"{words} is not named: {line}"


def refused(answer: Answer, *words: str) -> str:
    """Return the line of a refusal, which is the last that is printed."""
    line = answer.error
    assert answer.text.rstrip().splitlines()[-1] == f"nfrl: {line}", answer.text
    check_line(line, words)
    return line


def cases(seed: int) -> list[Case]:
    """Return every case."""
    _import_readers()
    found = [case for reader in READERS for case in _cases_of(reader, seed)]
    return found


def _import_readers() -> None:
    """Import the libraries that read, once for all processes."""
    import av  # noqa: F401
    import h5py  # noqa: F401
    import minari  # noqa: F401
    import PIL.Image  # noqa: F401
    import safetensors.numpy  # noqa: F401
    import zarr.storage  # noqa: F401
    from pyarrow import dataset, parquet  # noqa: F401


def _cases_of(reader: Reader, seed: int) -> Iterable[Case]:
    def case(name: str, run: Callable[[Path], str | None]) -> Case:
        file, _, way = name.rpartition(": ")
        short = way in SHORT and reader.kind in QUICK and file == next(iter(reader.files))
        return Case(reader.kind, f"{reader.layout} {name}".strip(), run, short, SECONDS, MEGABYTES)

    def sound(folder: Path) -> None:
        reader.place()
        reader.answer().succeeded()
        call(reader.read).succeeded()

    yield case("sound", sound)
    for file, word in reader.files.items():
        for way, spoil in reader.ways(file).items():
            yield case(f"{file}: {way}", _spoiled(reader, file, word, way, spoil, seed))
        if "a FIFO" in reader.only:
            yield case(f"{file}: bits flipped", _flipped(reader, file, word, seed))


def _spoiled(
    reader: Reader, file: str, word: str, way: str, spoil: Spoil, seed: int
) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        reader.place()
        call(lambda: spoil(Path(file), random.Random(seed))).succeeded()
        answer = reader.answer()
        if answer.status == 0 and f"{file}: {way}" in reader.passes:
            return "read as before"
        # Only with the rest of the input can it be seen that something is wrong with these.
        says_nothing = way in (
            "missing",
            "a folder",
            "an object of nothing",
            *reader.spoils.get(file, ()),
        )
        return refused(answer, word, *([reader.whole] if says_nothing and reader.whole else []))

    return run


def _flipped(reader: Reader, file: str, word: str, seed: int) -> Callable[[Path], str]:
    """Flip bits one after the other: each time it is refused, or what is read has its shape."""
    from nfrl.errors import UserError

    def run(folder: Path) -> str:
        reader.place()
        rng = random.Random(seed)
        data = Path(file).read_bytes()

        def flip() -> None:
            expected = reader.read()
            for index in range(malformed.FLIPS):
                place = index / malformed.FLIPS
                Path(file).write_bytes(malformed.flipped(data, place, rng))
                try:
                    found = reader.read()
                except UserError as error:
                    print(f"at {place}: {error}")
                    check_line(str(error), [word, reader.whole or word])
                else:
                    assert found == expected, f"at {place}: {found} in place of {expected}"
                    print(f"at {place}: read with the same shape")

        said = call(flip).succeeded().text
        return f"{said.count('same shape')} of {malformed.FLIPS} read with the same shape"

    return run


# Data sets

LENGTHS = (6, 4, 5, 3)


def _episodes() -> list[data_sets.Episode]:
    return data_sets.episodes_of(LENGTHS)


def _load(uri: str, *keys: str) -> Callable[[], object]:
    def load() -> object:
        from nfrl.data.load import load

        found = load(uri, observation_keys=keys)
        return found.spec.width, found.spec.action_dim

    return load


def _data(
    kind: str,
    layout: str,
    make: Callable[[Path], object],
    uri: str,
    *files: str,
    keys: Sequence[str] = (),
    passes: Sequence[str] = (),
    spoils: Mapping[str, Mapping[str, Spoil]] | None = None,
    word: str = "",
) -> Reader:
    """Return a reader of data; a refusal names ``word``, else the file that was spoiled."""
    return Reader(
        kind,
        layout,
        make,
        {file: word or Path(file).name for file in files},
        _load(uri, *keys),
        ("data", "check", uri, *(("--observation-keys", *keys) if keys else ())),
        frozenset(passes),
        spoils or {},
        uri,
    )


def _npz_and_validation(folder: Path) -> None:
    for name, lengths in (("train.npz", LENGTHS), ("train-val.npz", (4, 3))):
        data_sets.npz(data_sets.episodes_of(lengths), folder)
        (folder / "data.npz").rename(name)


def _joined(folder: Path) -> None:
    from nfrl.data.join import join

    data_sets.npz(_episodes(), folder)
    join(folder / "joined", [folder / "data.npz"], show=False)
    (folder / "data.npz").unlink()


def _zarr(version: int) -> Callable[[Path], object]:
    return lambda folder: data_sets.zarr(_episodes(), folder, version)


def _zarr_zip(folder: Path) -> None:
    data_sets.zarr(_episodes(), folder)
    shutil.make_archive("v2.zarr", "zip", "v2.zarr")
    shutil.rmtree("v2.zarr")


def _minari(folder: Path) -> None:
    os.environ["MINARI_DATASETS_PATH"] = str(folder.absolute())
    data_sets.minari(_episodes(), folder)


def _lerobot(version: str, stored: str) -> Callable[[Path], object]:
    images = np.random.default_rng(0).integers(0, 256, (sum(LENGTHS), 16, 24, 3), np.uint8)
    return lambda folder: data_sets.lerobot(
        _episodes(), folder, version, images=images, stored=stored
    )


def _in_chunk(file: str) -> list[str]:
    """Return what zarr cannot tell: what is not stored is all the same; there are no checksums."""
    return [f"{file}: {way}" for way in ("missing", "a folder", "a quarter zeroed")]


PICTURES = ("observation.image", "observation.state")

DATA = [
    _data("npz", "", lambda f: data_sets.npz(_episodes(), f), "data.npz", "data.npz",
          spoils={"data.npz": malformed.NPZ_SPOILS}),
    _data("npz", "validation", _npz_and_validation, "train.npz", "train-val.npz",
          passes=["train-val.npz: missing"]),
    _data("npy", "", _joined, "joined", "joined/arrays.json", "joined/actions.npy",
          "joined/ends.npy", "joined/validation/rewards.npy", word="joined",
          passes=["joined/arrays.json: last byte missing",
                  *(f"joined/{name}.npy: a quarter zeroed"
                    for name in ("actions", "validation/rewards"))],
          spoils={"joined/actions.npy": malformed.NPY_SPOILS,
                  "joined/ends.npy": malformed.NPY_SPOILS}),
    _data("zarr", "v2", _zarr(2), "v2.zarr", "v2.zarr/.zgroup", "v2.zarr/data/.zgroup",
          "v2.zarr/data/state/.zarray", "v2.zarr/data/state/0.0",
          "v2.zarr/meta/episode_ends/.zarray", "v2.zarr/meta/episode_ends/0", word="v2.zarr",
          passes=_in_chunk("v2.zarr/data/state/0.0"),
          spoils={"v2.zarr/data/state/.zarray": malformed.ZARRAY_SPOILS,
                  "v2.zarr/meta/episode_ends/.zarray": malformed.ENDS_SPOILS}),
    _data("zarr", "v3", _zarr(3), "v3.zarr", "v3.zarr/zarr.json", "v3.zarr/data/state/zarr.json",
          "v3.zarr/data/state/c/0/0", word="v3.zarr",
          passes=["v3.zarr/zarr.json: UTF-16", "v3.zarr/zarr.json: an object of nothing",
                  "v3.zarr/data/state/zarr.json: UTF-16",
                  *_in_chunk("v3.zarr/data/state/c/0/0")],
          spoils={"v3.zarr/data/state/zarr.json": malformed.ZARR_JSON_SPOILS}),
    _data("zarr", "zip", _zarr_zip, "v2.zarr.zip", "v2.zarr.zip"),
    _data("HDF5", "robomimic", lambda f: data_sets.robomimic_hdf5(_episodes(), f),
          "robomimic.hdf5", "robomimic.hdf5", passes=["robomimic.hdf5: grown to 20 GB"],
          spoils={"robomimic.hdf5": malformed.hdf5_spoils(
              "data/demo_1/actions", "data/demo_1/obs/top", LENGTHS[1])}),
    _data("HDF5", "D4RL", lambda f: data_sets.d4rl_hdf5(_episodes(), f), "d4rl.hdf5", "d4rl.hdf5",
          passes=["d4rl.hdf5: grown to 20 GB"],
          spoils={"d4rl.hdf5": malformed.hdf5_spoils("actions", "observations", sum(LENGTHS))}),
    _data("Minari", "", _minari, "room/test-v0", "room/test-v0/data/metadata.json",
          "room/test-v0/data/main_data.hdf5",
          passes=["room/test-v0/data/main_data.hdf5: grown to 20 GB"],
          spoils={"room/test-v0/data/main_data.hdf5": malformed.hdf5_spoils(
              "episode_1/actions", "episode_1/observations", LENGTHS[1])},
          word="room/test-v0"),
    _data("LeRobot", "v2.1", _lerobot("v2.1", "bytes"), "lerobot-v2.1",
          "lerobot-v2.1/meta/info.json", "lerobot-v2.1/meta/tasks.jsonl",
          "lerobot-v2.1/data/chunk-000/episode_000001.parquet", keys=PICTURES,
          passes=[f"lerobot-v2.1/meta/tasks.jsonl: {way}"
                  for way in ("missing", "empty", "cut to a half", "last byte missing")],
          spoils={"lerobot-v2.1/meta/info.json": malformed.INFO_SPOILS,
                  "lerobot-v2.1/data/chunk-000/episode_000001.parquet": malformed.PARQUET_SPOILS},
          word="lerobot-v2.1"),
    _data("LeRobot", "v3.0", _lerobot("v3.0", "path"), "lerobot-v3.0",
          "lerobot-v3.0/meta/info.json", "lerobot-v3.0/meta/tasks.parquet",
          "lerobot-v3.0/data/chunk-000/file-001.parquet",
          "lerobot-v3.0/images/frame_000003.png", keys=PICTURES,
          passes=["lerobot-v3.0/meta/tasks.parquet: missing",
                  "lerobot-v3.0/images/frame_000003.png: last byte missing"]),
    _data("LeRobot", "video", _lerobot("v3.0", "video"), "lerobot-v3.0",
          "lerobot-v3.0/meta/info.json",
          "lerobot-v3.0/meta/episodes/chunk-000/file-000.parquet",
          "lerobot-v3.0/videos/observation.image/chunk-000/file-001.mp4", keys=PICTURES,
          passes=[f"lerobot-v3.0/videos/observation.image/chunk-000/file-001.mp4: {way}"
                  for way in ("last byte missing", "grown to 20 GB")],
          spoils={"lerobot-v3.0/meta/info.json": malformed.VIDEO_SPOILS}, word="lerobot-v3.0"),
]  # fmt: skip

# Policies, in whatever form


def _policy() -> Any:
    """Return a small policy that was never trained."""
    import jax.random as jr

    from nfrl.acting.policy import Policy
    from nfrl.agents import GaussianBCConfig
    from nfrl.spec import Spec

    config, spec = GaussianBCConfig(hidden=(8,)), Spec.vectors(3, 2)
    return Policy(config.build(jr.key(0), spec, 1), config, "gaussian-bc", spec, steps=1)


def _acted(policy: Callable[[Any], Any]) -> object:
    return policy(np.zeros(3, np.float32)).shape


def _load_policy(place: str) -> Callable[[], object]:
    def load() -> object:
        import nfrl

        return _acted(nfrl.load_policy(place))

    return load


def _load_exported() -> object:
    from nfrl.errors import UserError
    from nfrl.exporting.exported_policy import ExportedPolicy

    try:
        return _acted(ExportedPolicy("export"))
    except ValueError as error:  # It stands alone, and knows no error of nfrl's.
        raise UserError(str(error)) from error


def _load_expert() -> object:
    from nfrl.collect.expert_policy import read_expert

    return _acted(read_expert(Path("expert.safetensors")))


def _expert(folder: Path) -> None:
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    shapes = {"0.weight": (3, 8), "0.bias": (8,), "1.weight": (8, 4), "1.bias": (4,)}
    arrays = {name: rng.normal(size=shape).astype("f") for name, shape in shapes.items()}
    save_file(arrays, folder / "expert.safetensors")


def _load_shared() -> object:
    """Load a policy from a hub on this machine, which offers what stands in the folder."""
    import huggingface_hub.constants
    from hub import Hub, serving

    import nfrl

    hub = Hub()
    hub.commit("ada/pusht", {each.name: each.read_bytes() for each in Path("policy").iterdir()})
    huggingface_hub.constants.HF_HUB_CACHE = str(Path("cache").absolute())
    with serving(hub) as where:
        os.environ["HF_ENDPOINT"] = where
        return _acted(nfrl.load_policy("hf:ada/pusht"))


def _run(folder: Path) -> None:
    """Train a small policy on data alone; its record then says a score."""
    data_sets.npz(data_sets.episodes_of((60, 50, 40)), folder)
    words = ("train", "gaussian-bc", "--data", "data.npz", "--runs", "runs", "--workers", "1")
    sizes = ("--steps", "3", "--training.batch-size", "8", "--training.validation-batches", "1")
    nfrl(*words, *sizes, "--agent.hidden", "8").succeeded()
    os.rename(next(folder.glob("runs/*/*/seed-0")), "seed-0")
    shutil.rmtree("runs")
    Path("runs/data/gaussian-bc").mkdir(parents=True)
    os.rename("seed-0", RUN)
    malformed.edit_json(Path(RUN, "result.json"), score=0.5, scores=[0.4, 0.6], episodes=5)
    rng = np.random.default_rng(0)
    np.savez(
        Path(RUN, "evaluation.npz"),
        successes=rng.random((2, 5)) < 0.5,
        lengths=np.full((2, 5), 7),
    )
    np.savez(
        Path(RUN, "policy_samples.npz"),
        actions=rng.normal(size=(4, 8, 2)),
        data_actions=rng.normal(size=(4, 2)),
    )


RUN = "runs/data/gaussian-bc/seed-0"


def _report() -> object:
    from nfrl.reports.page import write_report

    return bool(write_report([Path("runs")], Path("report")).tables)


def _plan() -> object:
    from nfrl.cli.train import plan

    return type(plan(["--config", f"{RUN}/run.toml"]).experiment.agent_config).__name__


def _suite(folder: Path) -> None:
    (folder / "suite.txt").write_text(
        "# runs\ngaussian-bc --data npz:data.npz --seeds 0\n"
        "gaussian-bc --data npz:data.npz --seeds 1  # again\n"
    )


def _jobs() -> object:
    from nfrl.launch.jobs import read_suite

    return bool(read_suite(Path("suite.txt")))


RECORD = {
    **{"schema": 1, "task": "cube-single-play-v0", "agent": "nf-gcbc", "preset": "laptop"},
    **{"variant": "", "seed": 0, "steps": 30, "measure": "success rate", "score": 0.6},
    **{"scores": [0.6, 0.6], "interval": [0.5, 0.7], "episodes": 5, "date": "2026-01-01"},
    **{"dataset": {"name": "cube", "transitions": 10}, "config": {"agent": {"hidden": [8]}}},
    **{"curve": [{"step": 1, "seconds": 1.0, "score": 0.5}], "extra": {"note": "a"}},
}


def _records(folder: Path) -> None:
    lines = [json.dumps({**RECORD, "seed": seed}) for seed in range(3)]
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")


def _load_records() -> object:
    from nfrl.runs.records import load_records

    return bool(load_records([Path("records.jsonl")]))


CONTENTS = tuple(way for way in ANY_FILE if not way.startswith(("a ", "grown")))
"""What a hub can serve: files, whatever is in them."""

SOUND = (
    "policy/policy.json: last byte missing",
    *("export/export.json: last byte missing", "export/export.json: deep in one field"),
    *("export/programs.json: deep in one field", "export/programs.json: last byte missing"),
    *("export/weights.safetensors: a quarter zeroed", "suite.txt: last byte missing"),
)
"""What is no harm: an end of line, a field that nobody reads, weights that are other numbers."""

RUN_SOUND = [
    *(f"{RUN}/{file}: missing" for file in
      ("metrics.jsonl", "evaluation.npz", "policy_samples.npz")),
    *(f"{RUN}/metrics.jsonl: {way}" for way in
      ("empty", "last byte missing", "cut to a tenth", "cut to a half", "UTF-16")),
    *(f"{RUN}/{file}: last byte missing" for file in ("result.json", "config.json")),
]  # fmt: skip
"""What a run may lack, or what ends as a line that is being written."""
POLICIES = [
    Reader("saved policy", "", lambda f: _policy().save(f / "policy"),
           {"policy/policy.json": "policy.json", "policy/policy.safetensors": "policy.safetensors"},
           _load_policy("policy"), whole="policy", passes=frozenset(SOUND),
           spoils=malformed.POLICY_SPOILS),
    Reader("exported policy", "", lambda f: _policy().export(f / "export", to="numpy"),
           {"export/export.json": "export.json", "export/programs.json": "programs.json",
            "export/weights.safetensors": "weights.safetensors"},
           _load_exported, whole="export", passes=frozenset(SOUND)),
    Reader("expert", "", _expert, {"expert.safetensors": "expert.safetensors"}, _load_expert,
           spoils={"expert.safetensors": malformed.SAFETENSORS_SPOILS}),
    Reader("shared policy", "", lambda f: _policy().save(f / "policy"),
           {"policy/policy.json": "policy.json", "policy/policy.safetensors": "policy.safetensors"},
           _load_shared, whole="hf:ada/pusht", only=CONTENTS, passes=frozenset(SOUND)),
    Reader("run", "checkpoint", _run,
           {f"{RUN}/config.json": "config.json",
            f"{RUN}/checkpoints/step-00000003.safetensors": "step-00000003.safetensors"},
           _load_policy(RUN), whole=RUN, passes=frozenset(RUN_SOUND)),
    Reader("run", "report", _run,
           {f"{RUN}/{file}": file for file in
            ("result.json", "metrics.jsonl", "evaluation.npz", "policy_samples.npz")},
           _report, ("report", "runs"), whole="runs",
           passes=frozenset(RUN_SOUND),
           spoils={f"{RUN}/result.json": malformed.RESULT_SPOILS,
                   f"{RUN}/metrics.jsonl": malformed.METRICS_SPOILS,
                   f"{RUN}/evaluation.npz": malformed.EVALUATION_SPOILS}),
    Reader("records", "", _records, {"records.jsonl": "records.jsonl"}, _load_records,
           ("report", "records.jsonl"), frozenset(["records.jsonl: last byte missing"]),
           {"records.jsonl": malformed.RESULT_SPOILS}),
    Reader("configuration", "", _run, {f"{RUN}/run.toml": "run.toml"}, _plan,
           passes=frozenset([f"{RUN}/run.toml: last byte missing"]),
           spoils={f"{RUN}/run.toml": malformed.TOML_SPOILS}),
    Reader("suite", "", _suite, {"suite.txt": "suite.txt"}, _jobs,
           ("suite", "status", "suite.txt"), frozenset(SOUND)),
]  # fmt: skip

READERS = [*DATA, *POLICIES]
QUICK = ("npz", "zarr", "HDF5", "LeRobot", "Minari", "expert", "suite")
SHORT = ("cut to a half", "a FIFO", "rows that are not there", "NaN")
"""Of the quick kinds' first files what ``make test`` does, too."""
