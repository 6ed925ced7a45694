"""Hard cases of fusion: noise, and places in which nothing is in focus.

    python scripts/bench_hard_cases.py noise DATA -o REPORT
    python scripts/bench_hard_cases.py halo DATA -o REPORT

Makes simulated stacks in the folder DATA, unless they are there already, fuses them by
`napari-ips benchmark`, and prints tables. More options go to the benchmark: other
programs (``--command``), images fused before (``--fused``), ``--weights``.

noise: images that scikit-image ships, as stacks with noise of 0 to 5 % of the brightest
value; PSNR by kind and noise.

halo: objects beside an empty background, over which their light, or their shade, spreads
in every slice but one. Around each object the fused image is compared with the true
background: mean over a ring, and at the worst distance, in percent of the contrast of
the object. REPORT gets halo.png, in which the background is stretched.
"""

from __future__ import annotations

import argparse
import csv
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from napari_ips.evaluation.colours import displayed
from napari_ips.evaluation.record import folder_name
from napari_ips.io import read_image
from napari_ips.optics import Optics
from napari_ips.simulation import (
    SimulatedStack,
    demo_image,
    save_simulated,
    simulate_stack,
)

Array = NDArray[Any]
Figures = Mapping[tuple[str, str, str], float]

METHODS = (
    "ips,ips-hard,window-energy,laplacian-pyramid,dtcwt,guided-filter,mean,max,best-slice"
)
# Knows the truth: no method.
ORACLE = "best-slice"
NOISES = (0, 1, 2, 3, 5)  # percent
SIZE = 256
# Pixels off an object between which its halo is measured.
RING = (3, 20)
HALO_SLICES = 12
# Radius in pixels per slice: up to 25 in the far slices, or 66.
HALO_BLUR, WIDE_BLUR = 2.5, 6.0
BLACK, WHITE = 0.05, 0.8


def main() -> None:
    """Make the stacks, fuse them, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=("noise", "halo"))
    parser.add_argument("data", type=Path, help="folder of the simulated stacks")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the report")
    parser.add_argument("--methods", default=METHODS)
    arguments, options = parser.parse_known_args()
    if any(option.startswith("--measures") for option in options):
        parser.error("--measures: the tables are of the PSNR")
    if arguments.case == "noise":
        make_noise_data(arguments.data)
    else:
        make_halo_data(arguments.data)
    program = Path(sys.executable).with_name("napari-ips")
    command = [program, "benchmark", arguments.data, "-o", arguments.output]
    before = written_at(arguments.output)
    # Its own tables are in the report.
    done = subprocess.run(
        [*command, "--methods", arguments.methods, *options],
        check=False,
        stdout=subprocess.DEVNULL,
    )
    # Where a single method failed it ends with 1 as well, and the figures are there.
    if done.returncode and written_at(arguments.output) == before:
        raise SystemExit(done.returncode)
    figures = read_figures(arguments.output)
    if arguments.case == "noise":
        print(*noise_tables(figures), sep="\n")
    else:
        print(*halo_table(arguments.data, arguments.output, figures), sep="\n")


def written_at(report: Path) -> int | None:
    """Return when the figures of a report were written (ns), None if there are none."""
    path = report / "samples.csv"
    return path.stat().st_mtime_ns if path.exists() else None


def make_noise_data(folder: Path) -> None:
    """Write a data set for each level of noise, with a stack of each kind."""
    for percent in NOISES:
        for number, kind in enumerate(("tissue", "gravel", "fluorescence")):
            place = folder / f"noise-{percent}" / kind
            if finished(place):
                continue
            simulated = simulate_stack(
                demo_image(kind)[:SIZE, :SIZE],
                10,
                relief=("relief", "tilt", "cells")[number],
                layering="additive" if kind == "fluorescence" else "opaque",
                noise=percent / 100,
                seed=number,
            )
            info = {"noise": percent / 100}
            save_simulated(place, simulated, info=info, overwrite=True)


def make_halo_data(folder: Path) -> None:
    """Write bright and dark objects, without and with noise, and blurred more widely."""
    for kind, percent in (*product(("bright", "dark"), (0, 1)), ("wide", 1)):
        place = folder / "halo" / f"{kind}-noise-{percent}"
        if finished(place):
            continue
        blur = WIDE_BLUR if kind == "wide" else HALO_BLUR
        scene = halo_scene(blur, dark=kind == "dark", noise=percent / 100)
        info = {"blur_per_slice": blur, "noise": percent / 100}
        place.mkdir(parents=True, exist_ok=True)
        np.save(place / "objects.npy", scene.objects)
        save_simulated(place, scene.simulated, info=info, overwrite=True)


def finished(place: Path) -> bool:
    """Whether a stack was written to its end, which is info.json."""
    return (place / "info.json").exists()


@dataclass(frozen=True)
class HaloScene:
    """A stack with its truth, and the number of the object at each pixel, 0 beside them."""

    simulated: SimulatedStack
    objects: NDArray[np.int32]


def halo_scene(
    blur: float = HALO_BLUR, *, dark: bool = False, noise: float = 0.0, seed: int = 0
) -> HaloScene:
    """Simulate objects beside an empty background.

    A plain disc, one with texture, and four small cells, each in focus in a slice of its
    own. The background is plain: it looks the same in every slice but for the light
    that the objects spread over it. Before such a ground, objects that add their light and
    objects that hide what is behind them look the same.

    Parameters
    ----------
    blur : float
        Radius of the defocus in pixels per slice.
    dark : bool
        Dark objects on a bright ground instead of bright ones on a dark ground.
    noise : float
        Standard deviation as a fraction of the brightest value.
    seed : int

    Returns
    -------
    HaloScene
        Of 12 slices of 256 x 256 pixels, uint16.
    """
    y, x = np.indices((SIZE, SIZE))
    gravel = demo_image("gravel")[:SIZE, :SIZE] / 255
    light = np.zeros((SIZE, SIZE))
    height = np.zeros((SIZE, SIZE), np.float32)
    objects = np.zeros((SIZE, SIZE), np.int32)
    plain = (78, 72, 34, 3)  # row, column, radius, slice
    disc = (165, 185, 34, 8)
    cells = [(45, 185, 9, 1), (70, 220, 12, 5), (190, 60, 10, 9), (215, 105, 13, 6)]
    for number, (row, column, radius, z) in enumerate([plain, disc, *cells], 1):
        distance = np.hypot(y - row, x - column)
        edge = np.clip(radius + 0.5 - distance, 0, 1)
        light += edge * (1 if number == 1 else 0.4 + 0.6 * gravel / gravel.max())
        height[edge > 0] = z
        objects[edge > 0] = number
    optics = Optics(light[..., None].astype(np.float32), height, HALO_SLICES, "disc", blur)
    seen = np.stack([optics.additive(z)[..., 0] for z in range(HALO_SLICES)])
    ground, contrast = (WHITE, BLACK - WHITE) if dark else (BLACK, WHITE - BLACK)
    stack, truth = ground + contrast * seen, ground + contrast * light
    rng = np.random.default_rng(seed)
    # As in `simulate_stack`: a quarter of the variance from the camera, the rest photons.
    variance = (noise * WHITE) ** 2 * (0.25 + 0.75 * stack / WHITE)
    stack = stack + rng.standard_normal(stack.shape) * np.sqrt(variance)
    in_counts = [
        np.rint(np.clip(a, 0, 1) * 65535).astype(np.uint16) for a in (stack, truth)
    ]
    return HaloScene(SimulatedStack(*in_counts, height), objects)


def read_figures(report: Path) -> Figures:
    """Return the PSNR by data set, sample and method."""
    with (report / "samples.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        (row["dataset"], row["sample"], row["method"]): float(row["psnr"])
        for row in rows
        if row["psnr"]
    }


def noise_tables(figures: Figures) -> Iterator[str]:
    """Give the PSNR by noise and method, and the lead of the soft mode, as Markdown."""
    kinds = sorted({sample for _, sample, _ in figures})
    methods = list(dict.fromkeys(method for _, _, method in figures))
    levels = [f"{percent} %" for percent in NOISES]
    for kind in kinds:
        yield f"\n{kind}, PSNR in dB by noise:\n"
        found = {
            method: [figures.get((f"noise-{p}", kind, method), math.nan) for p in NOISES]
            for method in methods
        }
        lead = [_lead({m: v[i] for m, v in found.items()}) for i in range(len(NOISES))]
        rows = [[m, *(f"{v:.2f}" for v in values)] for m, values in found.items()]
        yield from markdown(["", *levels], [*rows, ["lead of the soft mode", *lead]])


def _lead(values: Mapping[str, float]) -> str:
    """Tell by how much the soft mode is above the best of the methods of others."""
    others = {m: v for m, v in values.items() if not m.startswith("ips") and m != ORACLE}
    if not others or "ips" not in values:
        return "-"
    best = max(others, key=lambda m: -math.inf if math.isnan(others[m]) else others[m])
    return f"{values['ips'] - others[best]:+.2f} ({best})"


def halo_table(data: Path, report: Path, figures: Figures) -> Iterator[str]:
    """Give halo and PSNR by scene and method, as Markdown; draw the fused images."""
    scenes = sorted(path for path in (data / "halo").iterdir() if path.is_dir())
    methods = list(dict.fromkeys(method for _, _, method in figures))
    rows = [[method] for method in methods]
    pictures: list[list[Array]] = []
    for scene in scenes:
        truth, objects = read_image(scene / "truth.tif"), np.load(scene / "objects.npy")
        shown = []
        for row, method in zip(rows, methods, strict=True):
            place = report / "fused" / folder_name(method)
            path = place / "halo" / f"{scene.name}.png"
            if not path.is_file():
                row.append("-")
                shown.append(np.zeros((*truth.shape, 3), np.uint8))
                continue
            image = read_image(path)
            mean, worst = halo(image, truth, objects)
            quality = figures["halo", scene.name, method]
            row.append(f"{mean:+.2f} / {worst:+.2f} / {quality:.2f}")
            shown.append(_stretched(image, method))
        pictures.append([*shown, _stretched(truth, f"truth, {scene.name}")])
    sheet = Image.fromarray(np.vstack([np.hstack(row) for row in pictures]))
    sheet.save(report / "halo.png")
    yield "\nhalo in %, mean / at the worst distance / PSNR in dB:\n"
    yield from markdown(["", *(scene.name for scene in scenes)], rows)


def halo(image: Array, truth: Array, objects: Array) -> tuple[float, float]:
    """Return the excess over the background around the objects, in % of their contrast.

    Returns
    -------
    (float, float)
        Mean over the ring, and the mean at the distance (in steps of a pixel, of one
        of the objects) at which it is furthest from zero.
    """
    beside = ndimage.distance_transform_edt(objects == 0)
    ground = float(np.median(truth[objects == 0]))
    contrast = max(float(truth.max()) - ground, float(truth.min()) - ground, key=abs)
    excess = 100 * (image.astype(np.float64) - ground) / contrast
    ring = (beside >= RING[0]) & (beside <= RING[1])
    worst = 0.0
    for number in range(1, objects.max() + 1):
        distance = np.rint(ndimage.distance_transform_edt(objects != number))
        near = ring & (distance == np.rint(beside))
        profile = ndimage.mean(
            excess, np.where(near, distance, -1), np.unique(distance[near])
        )
        worst = max([worst, *profile], key=abs)
    return float(excess[ring].mean()), float(worst)


def _stretched(image: Array, name: str) -> Array:
    """Show what is near the background, of which most of the image is."""
    ground = float(np.median(image))
    reach = 0.15 * (WHITE - BLACK) * 65535
    picture = Image.fromarray(displayed(image, ground - reach, ground + reach))
    ImageDraw.Draw(picture).text((4, 2), name, fill=(255, 255, 0))
    return np.asarray(picture)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Give the lines of a table."""
    for cells in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
