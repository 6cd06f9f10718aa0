"""One data set written in every format that is read, as the libraries write them whose they are.

``write("zarr", episodes, folder)`` returns what :func:`nfrl.load` takes.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Episode(NamedTuple):
    """One trajectory of T steps."""

    observations: NDArray[np.float32]  # (T + 1, d): the last is what the last action led to
    actions: NDArray[np.float32]  # (T, a)
    rewards: NDArray[np.float32]  # (T,)
    terminations: NDArray[np.bool_]  # (T,), true where the episode is over for good


def episodes_of(lengths: Sequence[int], seed: int = 0, width: int = 3) -> list[Episode]:
    """Make up episodes; every other one ends for good, the others are cut off."""
    rng = np.random.default_rng(seed)
    return [
        Episode(
            rng.normal(size=(steps + 1, width)).astype(np.float32),
            rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
            rng.normal(size=steps).astype(np.float32),
            (np.arange(steps) == steps - 1) & (index % 2 == 0),
        )
        for index, steps in enumerate(lengths)
    ]


def _joined(episodes: Sequence[Episode]) -> dict[str, NDArray]:
    """Return the rows of all transitions, end to end."""
    return {
        "observations": np.concatenate([e.observations[:-1] for e in episodes]),
        "next_observations": np.concatenate([e.observations[1:] for e in episodes]),
        "actions": np.concatenate([e.actions for e in episodes]),
        "rewards": np.concatenate([e.rewards for e in episodes]),
        "terminals": np.concatenate([e.terminations for e in episodes]),
        "ends": np.cumsum([len(e.actions) for e in episodes]),
    }


def npz(episodes: Sequence[Episode], folder: Path) -> str:
    """OGBench's layout, in which the last row of a trajectory is its final observation."""

    def rows(arrays: list[NDArray]) -> NDArray:
        return np.concatenate([np.concatenate([a, a[-1:]]) for a in arrays])

    ends = np.cumsum([len(e.observations) for e in episodes])
    np.savez(
        folder / "data.npz",
        observations=np.concatenate([e.observations for e in episodes]),
        actions=rows([e.actions for e in episodes]),
        rewards=rows([e.rewards for e in episodes]),
        masks=1 - rows([e.terminations for e in episodes]).astype(np.float32),
        terminals=np.isin(np.arange(ends[-1]), ends - 1),
    )
    return str(folder / "data.npz")


def d4rl_hdf5(episodes: Sequence[Episode], folder: Path) -> str:
    """D4RL's layout: flat arrays, with what followed each row."""
    import h5py

    arrays = _joined(episodes)
    ends = arrays.pop("ends")
    arrays["timeouts"] = np.isin(np.arange(ends[-1]), ends - 1) & ~arrays["terminals"]
    with h5py.File(folder / "d4rl.hdf5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return str(folder / "d4rl.hdf5")


def robomimic_hdf5(episodes: Sequence[Episode], folder: Path) -> str:
    """robomimic's layout: a group for each demonstration, arrays of observations by name."""
    import h5py

    with h5py.File(folder / "robomimic.hdf5", "w") as file:
        for index, episode in enumerate(episodes):
            group = file.create_group(f"data/demo_{index}")
            group["actions"], group["rewards"] = episode.actions, episode.rewards
            group["dones"] = episode.terminations.astype(np.int64)
            group["obs/low"], group["obs/top"] = np.split(episode.observations[:-1], [1], axis=1)
            group["next_obs/low"], group["next_obs/top"] = np.split(
                episode.observations[1:], [1], axis=1
            )
    return f"hdf5:{folder / 'robomimic.hdf5'}"


def zarr(episodes: Sequence[Episode], folder: Path, zarr_format: int = 2) -> str:
    """Diffusion Policy's layout of a replay buffer."""
    import zarr

    arrays = _joined(episodes)
    path = folder / f"v{zarr_format}.zarr"
    root = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    columns = {
        "data/state": arrays["observations"],
        "data/action": arrays["actions"],
        "data/reward": arrays["rewards"],
        "data/terminal": arrays["terminals"],
        "meta/episode_ends": arrays["ends"],
    }
    for name, array in columns.items():
        root.create_array(name, data=array, chunks=(7, *array.shape[1:]))
    return str(path)


def minari(episodes: Sequence[Episode], folder: Path, name: str = "room/test-v0") -> str:
    """Minari's layout; its folder of data sets is the environment's MINARI_DATASETS_PATH."""
    import gymnasium
    import minari

    minari.create_dataset_from_buffers(
        name,
        [
            minari.data_collector.EpisodeBuffer(
                observations=e.observations,
                actions=e.actions,
                rewards=list(e.rewards),
                terminations=list(e.terminations),
                truncations=[False] * (len(e.actions) - 1) + [not e.terminations[-1]],
            )
            for e in episodes
        ],
        observation_space=gymnasium.spaces.Box(
            -np.inf, np.inf, episodes[0].observations.shape[1:], np.float32
        ),
        action_space=gymnasium.spaces.Box(-1, 1, episodes[0].actions.shape[1:], np.float32),
        algorithm_name="none",
        author="none",
        author_email="none@example.org",
        code_permalink="https://example.org",
    )
    return f"minari:{name}"


def lerobot(
    episodes: Sequence[Episode],
    folder: Path,
    version: str = "v3.0",
    tasks: Sequence[int] | None = None,
    images: NDArray[np.uint8] | None = None,
    stored: str = "video",
) -> str:
    """LeRobot's layout.

    ``tasks`` numbers the task of each episode, of "push" and "pull". ``images``, one a row, make
    the feature "observation.image", stored as a "video", as "bytes" or by "path".
    """
    import pyarrow
    from pyarrow import parquet

    arrays = _joined(episodes)
    lengths = [len(e.actions) for e in episodes]
    path = folder / f"lerobot-{version}"
    (path / "meta").mkdir(parents=True)
    (path / "data" / "chunk-000").mkdir(parents=True)

    def lists(array: NDArray) -> object:
        flat = pyarrow.array(array.reshape(-1))
        if version == "v2.1":
            offsets = np.arange(len(array) + 1, dtype=np.int32) * array.shape[1]
            return pyarrow.ListArray.from_arrays(pyarrow.array(offsets), flat)
        return pyarrow.FixedSizeListArray.from_arrays(flat, array.shape[1])

    table = pyarrow.table(
        {
            "observation.state": lists(arrays["observations"]),
            "action": lists(arrays["actions"]),
            "next.reward": arrays["rewards"],
            "next.done": arrays["terminals"],
            "episode_index": np.repeat(np.arange(len(lengths)), lengths),
            "frame_index": np.concatenate([np.arange(n) for n in lengths]),
            "timestamp": np.concatenate([np.arange(n) / FPS for n in lengths]).astype(np.float32),
            "task_index": np.repeat(tasks or [0] * len(lengths), lengths),
        }
    )
    info = {
        "codebase_version": version,
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "fps": FPS,
        "features": {"observation.image": {"dtype": "video", "shape": [96, 96, 3]}},
    }
    if images is not None:
        kind = "video" if stored == "video" else "image"
        info["features"] = {"observation.image": {"dtype": kind, "shape": images.shape[1:]}}
        if stored == "video":
            info["video_path"] = _lerobot_videos(path, version, lengths, images)
        else:
            table = table.append_column("observation.image", _lerobot_images(path, images, stored))
    (path / "meta" / "info.json").write_text(json.dumps(info))
    words = ["push", "pull"]
    if version == "v2.1":
        lines = [json.dumps({"task_index": i, "task": word}) for i, word in enumerate(words)]
        (path / "meta" / "tasks.jsonl").write_text("\n".join(lines))
        starts = np.cumsum([0, *lengths])
        for index, length in enumerate(lengths):
            name = path / f"data/chunk-000/episode_{index:06d}.parquet"
            parquet.write_table(table.slice(starts[index], length), name)
    else:
        rows = pyarrow.table({"task_index": [0, 1], "__index_level_0__": words})
        parquet.write_table(rows, path / "meta" / "tasks.parquet")
        half = sum(lengths) // 2  # Episodes may run over from one file to the next.
        for index, part in enumerate((table.slice(0, half), table.slice(half))):
            parquet.write_table(part, path / f"data/chunk-000/file-{index:03d}.parquet")
    return str(path)


FPS = 10
"""Of LeRobot's data sets."""


def video(file: Path, images: NDArray[np.uint8], fps: int = FPS) -> None:
    """Write a video without loss: what is read has the same bytes."""
    import av

    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w", format="mp4") as made:
        stream = made.add_stream("libx264rgb", rate=fps, options={"crf": "0"})
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "rgb24"
        for image in images:
            made.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        made.mux(stream.encode(None))


def _lerobot_videos(
    path: Path, version: str, lengths: Sequence[int], images: NDArray[np.uint8]
) -> str:
    """Write videos: one an episode, or two episodes in one; return where they lie."""
    import pyarrow
    from pyarrow import parquet

    ends = np.cumsum(lengths)
    if version != "v3.0":
        template = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        for index, (length, end) in enumerate(zip(lengths, ends, strict=True)):
            name = f"videos/chunk-000/observation.image/episode_{index:06d}.mp4"
            video(path / name, images[end - length : end])
        return template
    index = np.arange(len(lengths))
    begins = ends - lengths - (ends - lengths)[index // 2 * 2]
    rows = {
        "chunk_index": 0 * index,
        "file_index": index // 2,
        "from_timestamp": begins / FPS,
        "to_timestamp": (begins + lengths) / FPS,
    }
    for file in np.unique(index // 2):
        first, last = 2 * file, min(2 * file + 1, len(lengths) - 1)
        part = images[ends[first] - lengths[first] : ends[last]]
        video(path / f"videos/observation.image/chunk-000/file-{file:03d}.mp4", part)
    columns = {f"videos/observation.image/{name}": array for name, array in rows.items()}
    (path / "meta/episodes/chunk-000").mkdir(parents=True)
    table = pyarrow.table({"episode_index": index, **columns})
    parquet.write_table(table, path / "meta/episodes/chunk-000/file-000.parquet")
    return "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def _lerobot_images(path: Path, images: NDArray[np.uint8], stored: str) -> object:
    """Return a column of images as the library datasets stores them: bytes, or a file's path."""
    import io

    import pyarrow
    from PIL import Image

    values = []
    for row, image in enumerate(images):
        buffer, name = io.BytesIO(), f"images/frame_{row:06d}.png"
        Image.fromarray(image).save(buffer, "png")
        if stored == "path":
            (path / "images").mkdir(exist_ok=True)
            (path / name).write_bytes(buffer.getvalue())
        values.append({"bytes": buffer.getvalue() if stored == "bytes" else None, "path": name})
    return pyarrow.array(
        values, pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    )


WRITERS: dict[str, Callable[[Sequence[Episode], Path], str]] = {
    "npz": npz,
    "hdf5, D4RL": d4rl_hdf5,
    "hdf5, robomimic": robomimic_hdf5,
    "zarr v2": zarr,
    "zarr v3": lambda episodes, folder: zarr(episodes, folder, 3),
    "minari": minari,
    "lerobot v2.1": lambda episodes, folder: lerobot(episodes, folder, "v2.1"),
    "lerobot v3.0": lerobot,
}


def write(form: str, episodes: Sequence[Episode], folder: Path) -> str:
    """Write episodes in a format of ``WRITERS``; return the URI or path that loads them."""
    return WRITERS[form](episodes, folder)
