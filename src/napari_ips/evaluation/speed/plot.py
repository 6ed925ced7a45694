"""A picture of how time and memory grow."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from napari_ips.errors import IPSError
from napari_ips.evaluation.speed.growth import Growth
from napari_ips.files import written_whole

_LABELLED = (1.0, 2.0, 3.0, 5.0, 7.0)
_TITLES = {"pixels": "Larger images", "slices": "More slices"}


def check_plot() -> None:
    """Raise IPSError if no picture can be drawn here."""
    if importlib.util.find_spec("matplotlib") is None:
        raise IPSError("--plot needs matplotlib: pip install napari-ips[benchmark]")


def write_plot(path: Path, growth: Growth) -> None:
    """Draw seconds and memory over the pixels of all slices, both axes logarithmic.

    Parameters
    ----------
    path : Path
        Of a PNG; what it holds already is replaced.
    growth : Growth

    Raises
    ------
    IPSError
        If matplotlib is not installed, or the file cannot be written.
    """
    check_plot()
    # Not pyplot, which would look for a screen.
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(9, 4), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for series, title in _TITLES.items():
        rows = [row for row in growth.rows if row.series == series]
        pixels = [row.edge**2 * row.slices for row in rows]
        time.loglog(pixels, [row.seconds for row in rows], "o-", label=title)
        known = [row.peak_memory for row in rows if row.peak_memory is not None]
        if len(known) == len(rows):
            memory.loglog(pixels, [bytes_ / 1e9 for bytes_ in known], "o-", label=title)
    line = growth.line
    every = sorted(row.edge**2 * row.slices for row in growth.rows)
    fitted = [line.start + 1e-6 * line.us_per_pixel_and_slice * n for n in every]
    time.loglog(every, fitted, ":", color="grey", label="straight line through all")
    time.set_ylabel("seconds, with the start of the program")
    memory.set_ylabel("peak memory, GB")
    for axes in (time, memory):
        axes.set_xlabel("pixels x slices")
        axes.yaxis.set_major_locator(LogLocator(subs=_LABELLED))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.grid(which="both", alpha=0.3)
        axes.legend()
    with written_whole(path) as part:
        figure.savefig(part, format="png", dpi=150)
