"""A figure of an agent's confidence where it knows its way and where it does not."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nfrl.reports.style import BAD, GOOD, house_style, new_figure


def confidence(
    title: str, familiar: NDArray, unfamiliar: Mapping[float, NDArray], auc: Mapping[float, float]
) -> Figure:
    """Draw histograms of log-likelihoods at familiar states and, panel by panel, at moved ones.

    Args:
        title: The figure's title.
        familiar: Log-likelihoods in nats per action (states,).
        unfamiliar: The same at the states moved by a share of half their range.
        auc: How often a familiar state has the higher one.
    """
    everything = np.concatenate([familiar, *unfamiliar.values()])
    low, high = np.quantile(everything, [0.01, 0.999])
    bins = np.linspace(low, high, 50)
    with house_style():
        figure = new_figure(2.1, title)
        panels = figure.subplots(1, len(unfamiliar), sharey=True, squeeze=False)[0]
        for axes, (scale, moved) in zip(panels, unfamiliar.items(), strict=True):
            for values, colour, label in ((familiar, GOOD, "familiar"), (moved, BAD, "moved")):
                inside = np.clip(values, low, high)
                axes.hist(inside, bins, color=colour, alpha=0.55, label=label)
            axes.set_title(f"moved by {scale:g} half-ranges: AUC {auc[scale]:.2f}")
            axes.set(xlabel="log-likelihood, nats per action", yticks=[])
        panels[0].legend()
    return figure
