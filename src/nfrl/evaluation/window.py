"""Pictures of a policy in a window, as it acts."""

import os
import sys
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def has_display() -> bool:
    """Whether a window can be opened here."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(pictures: Iterable[NDArray[np.uint8]], title: str, *, rate: float) -> int:
    """Show pictures in a window until they end or it is closed.

    Args:
        pictures: (height, width, 3) uint8 each, as they are made.
        title: Of the window.
        rate: Pictures a second, at most.

    Returns:
        How many were shown.
    """
    # Imported here: choosing what draws windows needs a display.
    import matplotlib.pyplot as plt

    figure = axes = None
    count = 0
    for picture in pictures:
        if figure is None or axes is None:
            height, width = picture.shape[:2]
            figure = plt.figure(title, figsize=(width / 100, height / 100))
            axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
            axes.set_axis_off()
            image = axes.imshow(picture)
        elif not plt.fignum_exists(figure.number):
            break
        image.set_data(picture)
        plt.pause(1 / rate)
        count += 1
    if figure is not None:
        plt.close(figure)
    return count
