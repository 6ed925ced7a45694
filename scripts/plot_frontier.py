"""Draw quality against time, from a report of `napari-ips benchmark`.

    napari-ips benchmark stacks/ -o report/ --methods ips:weights=a.safetensors,...
    python scripts/plot_frontier.py report/means.csv frontier.png

Every method is a point: the median seconds of a fusion, and the mean PSNR in dB. The line
joins those that no other one beats in both. Weights are called by the name of their file.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

from matplotlib.figure import Figure

Point = tuple[float, float, str]


def points(file: Path, dataset: str | None, measure: str) -> list[Point]:
    """Read seconds, PSNR and name of every method, the fastest first."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row.get(measure)]
    known = sorted({row["dataset"] for row in rows})
    wanted = dataset or known[0]
    if wanted not in known:
        raise SystemExit(f"{file} has no data set {wanted}, but {', '.join(known)}.")
    return sorted(
        (float(row["seconds"]), float(row[measure]), short(row["method"]))
        for row in rows
        if row["dataset"] == wanted and row["seconds"]
    )


def short(method: str) -> str:
    """Return the name of the weights that a method sets, or else its own name."""
    found = re.search(r"weights=([^,]+)", method)
    return Path(found[1]).stem if found else method


def frontier(found: list[Point]) -> list[Point]:
    """Keep what is better than all that is as fast."""
    best: list[Point] = []
    for point in found:
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best


def draw(found: list[Point], measure: str) -> Figure:
    """Draw all methods, and the frontier."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    seconds, quality, _ = zip(*frontier(found), strict=True)
    axes.plot(seconds, quality, "-", color="0.7", zorder=0)
    for x, y, name in found:
        axes.plot(x, y, "o", color="tab:blue")
        axes.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points")
    axes.set_xscale("log")
    axes.margins(x=0.15)
    for formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatter("{x:g}")
    axes.set_xlabel("seconds of a fusion (median)")
    axes.set_ylabel(f"mean {measure}, dB")
    axes.grid(which="both", alpha=0.3)
    return figure


def main() -> None:
    """Read the report and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("means", type=Path, help="means.csv of a report")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--dataset", help="if the report has several")
    parser.add_argument("--measure", default="psnr")
    options = parser.parse_args()
    found = points(options.means, options.dataset, options.measure)
    draw(found, options.measure).savefig(options.picture, dpi=150)


if __name__ == "__main__":
    main()
