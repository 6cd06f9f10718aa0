"""How many ways there are in a data set of demonstrations: shares, and their entropy."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nfrl.data.formats.ogbench import trajectory_lengths

SECTORS = 8
MOVED = 0.5  # pixels


def pusht(arrays: Mapping[str, NDArray]) -> dict[str, float]:
    """Say how multi-modal demonstrations of PushT are.

    Args:
        arrays: The data set: ``qpos`` and ``terminals`` are looked at.

    Returns:
        ``left_first``, the share of episodes in which the block is first touched on its left, its
        stem pointing up; and ``contact_entropy``, the entropy of the eighth of the block that is
        touched first, in bits, 3 at most.
    """
    places = first_contacts(arrays["qpos"], arrays["terminals"])
    # Counted from the block's bar, whose middle is its origin, 45 pixels below its centre.
    x, y = places[:, 0], places[:, 1] - 45
    sectors = np.floor((np.arctan2(y, x) / (2 * np.pi) % 1) * SECTORS).astype(int) % SECTORS
    return {
        "left_first": round(float((x < 0).mean()), 3),
        "contact_entropy": round(entropy(sectors), 3),
    }


def two_blocks(arrays: Mapping[str, NDArray]) -> dict[str, float]:
    """Say how multi-modal demonstrations of two blocks are.

    Args:
        arrays: The data set: ``qpos`` and ``terminals`` are looked at.

    Returns:
        ``first_block_first``, the share of episodes in which block 0 is moved before block 1, and
        ``order_entropy``, in bits, 1 at most.
    """
    first = first_moved(arrays["qpos"], arrays["terminals"])
    return {
        "first_block_first": round(float((first == 0).mean()), 3),
        "order_entropy": round(entropy(first), 3),
    }


def multimodal_ant(arrays: Mapping[str, NDArray]) -> dict[str, float]:
    """Say how multi-modal demonstrations of the ant's four targets are.

    Args:
        arrays: The data set: ``observations`` and ``terminals`` are looked at.

    Returns:
        ``order_entropy``, in bits, 4.58 at most.
    """
    orders = reached_orders(arrays["observations"], arrays["terminals"])
    return {"order_entropy": round(entropy(orders), 3)}


def reached_orders(observations: NDArray, terminals: NDArray) -> NDArray:
    """Return a number for the order in which each of the ant's episodes reached its targets.

    Args:
        observations: (rows, 41) whose last four columns say which targets were reached.
        terminals: (rows,) true in each episode's last row.

    Returns:
        (episodes,), the targets' numbers as digits: 3012 for 3 first and 2 last.
    """
    lengths = trajectory_lengths(terminals)
    episodes = np.split(observations[:, 37:] > 0.5, np.cumsum(lengths)[:-1])
    return np.array([int("".join(map(str, e.argmax(axis=0).argsort()))) for e in episodes])


def first_contacts(states: NDArray, terminals: NDArray) -> NDArray:
    """Return where the disc was, in the block's frame, when each episode's block first moved.

    Args:
        states: (rows, 5) the disc's x and y and the block's x, y and angle, in pixels.
        terminals: (rows,) true in each episode's last row.

    Returns:
        (episodes, 2) in pixels; episodes in which it never moves are left out.
    """
    lengths = trajectory_lengths(terminals)
    found = []
    for episode in np.split(states.astype(np.float64), np.cumsum(lengths)[:-1]):
        turned = 60 * np.abs(episode[:, 4] - episode[0, 4])
        moved = np.linalg.norm(episode[:, 2:4] - episode[0, 2:4], axis=1) + turned > MOVED
        if moved.any():
            row = int(np.argmax(moved))
            (x, y), angle = episode[row, :2] - episode[row, 2:4], episode[row, 4]
            cos, sin = np.cos(angle), np.sin(angle)
            found.append((cos * x + sin * y, cos * y - sin * x))
    return np.reshape(found, (-1, 2))


def first_moved(qpos: NDArray, terminals: NDArray) -> NDArray:
    """Return the number, 0 or 1, of the block that each episode lifts first.

    Args:
        qpos: (rows, 28) the arm's 14 joints and each block's place (m) and quaternion.
        terminals: (rows,) true in each episode's last row.

    Returns:
        (episodes,); an episode that lifts neither counts as block 0.
    """
    heights = qpos[:, [16, 23]]
    episodes = np.split(heights, np.cumsum(trajectory_lengths(terminals))[:-1])
    return np.array([lifted_first(episode) for episode in episodes])


def lifted_first(heights: NDArray, lifted: float = 0.05) -> int:
    """Return which of two columns of heights (rows, 2), in metres, first exceeds ``lifted``."""
    above = heights > lifted
    rows = np.where(above.any(axis=0), above.argmax(axis=0), len(above))
    return int(rows.argmin())


def entropy(values: NDArray) -> float:
    """Return the entropy of how often each value occurs, in bits."""
    _, counts = np.unique(values, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0
