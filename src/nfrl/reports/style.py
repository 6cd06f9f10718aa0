"""The house style of the figures: type, colours, and how a figure becomes a PNG."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from nfrl.reports.groups import Group, count

DPI = 150
WIDTH = 7.2  # inches: 1080 pixels, which GitHub shows without scaling on a wide screen
INK, SOFT, FAINT = "#24292f", "#6e7781", "#e4e7eb"
GOOD, BAD = "#1b6ca8", "#d1495b"  # told apart by colour-blind eyes as well

# One agent, one colour, in every figure. After Okabe and Ito, a little calmer.
_AGENTS = {
    "nf-gcbc": "#1b6ca8",
    "gcbc": "#e08e2b",
    "fm-gcbc": "#2a9d73",
    "nf-bc": "#1b6ca8",
    "bc": "#e08e2b",
    "gaussian-bc": "#e08e2b",
    "diffusion-bc": "#8b5fbf",
    "fm-bc": "#2a9d73",
    "nf-rlbc": "#1b6ca8",
    "fql": "#2a9d73",
    "nf-ugs": "#1b6ca8",
}
_VARIANTS = {
    "no-linear": "#c44e7b",
    "no-layernorm": "#8b5fbf",
    "no-denoising": "#3aa6b9",
    "chunk-5": "#7a9a01",
    "chunk-5-best-of-4": "#3aa6b9",
    "far-sighted": "#d1495b",
}
_OTHERS = (
    *("#8b5fbf", "#c98bb4", "#5f6b7a", "#8fb3d9", "#2f3e6e", "#7b1e3a"),
    *("#6b4226", "#b9b49a", "#d9622b", "#d1b21e", "#3aa6b9", "#7a9a01"),
)

SERIES = ("#1b6ca8", "#e08e2b", "#2a9d73", "#8b5fbf", "#d1495b", "#5f6b7a")
"""For lines that are of no agent, in their order."""

_STYLE: dict[Any, Any] = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.6,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house style; whatever style the caller has set comes back afterwards."""
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(height: float, title: str, width: float = WIDTH) -> Figure:
    """Make an empty figure, in inches, with a title at its upper left."""
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.04)
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.012, ha="left", fontsize=10, fontweight="bold")
    return figure


def png(figure: Figure) -> bytes:
    """Render a figure as a PNG of exactly its size (150 dots an inch)."""
    buffer = io.BytesIO()
    with house_style():
        # No date and no version: the same records give the same bytes.
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def legend_below(figure: Figure, *axes: Axes, columns: int = 4) -> None:
    """Put one legend of some axes below the whole figure, clear of the data.

    The figure grows by the rows of a long one, and the axes keep their height.
    """
    shown: dict[str, Artist] = {}
    for each in axes:
        handles, names = each.get_legend_handles_labels()
        for handle, name in zip(handles, names, strict=True):
            shown.setdefault(str(name), handle)
    if shown:
        # About a hundred letters fit beside each other.
        columns = min(columns, len(shown), max(100 // max(map(len, shown)), 1))
        rows = -(-len(shown) // columns)
        figure.set_figheight(figure.get_figheight() + 0.18 * max(rows - 2, 0))
        figure.legend([*shown.values()], [*shown], loc="outside lower left", ncols=columns)


def group_colours(groups: Sequence[Group]) -> list[str]:
    """A colour for each group: its agent's, paler for each further group of that agent.

    Variants have colours of their own, the same for every agent: ablations are drawn by agent. If
    all groups are of one variant, it is the agents that differ.
    """
    varied = len({group.first.variant for group in groups}) > 1
    kinds = [
        (group.first.variant, _VARIANTS, _OTHERS[::-1])
        if group.first.variant and varied
        else (group.first.agent, _AGENTS, _OTHERS)
        for group in groups
    ]
    taken = {known[name] for name, known, _ in kinds if name in known}
    colours = []
    for index, (name, known, spare) in enumerate(kinds):
        others = {other for other, same, _ in kinds if same is known and other not in known}
        free = [colour for colour in spare if colour not in taken] or spare
        base = known.get(name) or free[sorted(others).index(name) % len(free)]
        rank = sum(other == name for other, _, _ in kinds[:index])
        total = sum(other == name for other, _, _ in kinds)
        colours.append(_pale(base, 0.7 * rank / total))
    return colours


def agent_colour(agent: str) -> str:
    """The colour of an agent alone; of what is no agent, that of the text."""
    return _AGENTS.get(agent, INK)


def count_axis(axes: Axes, log: bool = False, which: str = "x") -> None:
    """Label an axis with short numbers (30k, 2.1M), on a logarithmic scale or a linear one.

    Args:
        axes: Whose.
        log: Whether its scale is logarithmic.
        which: "x" or "y".
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    if log:
        axes.set(**{f"{which}scale": "log"})
        low, high = axis.get_view_interval()
        ratio = high / low
        steps = (1, 2, 3, 5, 7) if ratio < 8 else (1, 2, 5) if ratio < 300 else (1,)
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))


def _pale(colour: str, share: float) -> str:
    """Mix a colour with white."""
    red, green, blue = (channel + (1 - channel) * share for channel in to_rgb(colour))
    return to_hex((red, green, blue))
