"""Repeat the ablations of the paper, Tables IV, V and VI, at one small budget.

    python scripts/reproduce_paper.py TILES PAIRS -o RESULTS
    python scripts/reproduce_paper.py TILES PAIRS -o RESULTS --tables IV --seeds 3

TILES holds sharp images to train on, PAIRS the folders A, B and GT to measure on. All
variants are trained for the same number of steps, from the same seed, on the same crops
in the same order; what differs from the paper's recipe is in BUDGET. The weights stay in
RESULTS, so that a run that was broken off goes on with the next training. The figures go
to results.json and results.md there. Run it with OMP_NUM_THREADS=1 to use one core.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_ips import CrossImageFusionNetwork, IPSError, TrainConfig
from napari_ips.config import PRESETS
from napari_ips.evaluation.datasets import PairSample, find_samples
from napari_ips.evaluation.metrics import grey, psnr, ssim
from napari_ips.events import LossPoint
from napari_ips.files import written_whole
from napari_ips.intensity import IntensityRange
from napari_ips.io import read_image
from napari_ips.training import train
from napari_ips.training.card import told_settings
from napari_ips.training.images import load_images
from napari_ips.training.validation import split_pool, validation_batches
from napari_ips.weights import load_weights, read_card

# What a training of minutes forces (docs/reproduction.md); the rest is `--preset paper`.
NETWORK = {"global_stride": 2}
BUDGET: dict[str, Any] = {"learning_rate": 1e-3, "crop_size": 64}
ITERATIONS = 3000
VALIDATION_EDGE = 128
BORDER = 12

# Settings of each training that differ from the shared one: both branches, mean, p = 0.5.
SHARED = "shared"
RUNS: dict[str, dict[str, Any]] = {
    SHARED: {},
    "no-global": {"network": {"mamba_blocks": 0}},
    "no-local": {"network": {"local_blocks": 0}},
    "median": {"low_pass": ("median",)},
    "gaussian": {"low_pass": ("gaussian",)},
    "p0.1": {"mask_ratio": 0.1},
    "p0.3": {"mask_ratio": 0.3},
    "p0.7": {"mask_ratio": 0.7},
    "p0.9": {"mask_ratio": 0.9},
}


@dataclass(frozen=True)
class PaperRow:
    """One line of a table of the paper, and the training that repeats it."""

    variant: str
    run: str
    psnr: float
    ssim: float


TABLES = {
    "IV": (
        PaperRow("w/o global branch", "no-global", 36.98, 0.965),
        PaperRow("w/o local branch", "no-local", 38.83, 0.986),
        PaperRow("both branches", SHARED, 42.19, 0.991),
    ),
    "V": (
        PaperRow("median filter", "median", 41.51, 0.987),
        PaperRow("Gaussian filter", "gaussian", 41.86, 0.989),
        PaperRow("mean filter", SHARED, 42.19, 0.991),
    ),
    "VI": (
        PaperRow("p = 0.1", "p0.1", 36.19, 0.962),
        PaperRow("p = 0.3", "p0.3", 36.26, 0.963),
        PaperRow("p = 0.5", SHARED, 42.19, 0.991),
        PaperRow("p = 0.7", "p0.7", 36.28, 0.963),
        PaperRow("p = 0.9", "p0.9", 36.14, 0.962),
    ),
}

Image = NDArray[Any]
Figures = dict[str, float]


@dataclass(frozen=True)
class Pair:
    """Two sources and the truth (Y, X), and the scales of the network and the measures."""

    a: Image
    b: Image
    truth: Image
    intensities: IntensityRange
    data_range: float


def settings(run: str, seed: int, options: argparse.Namespace) -> TrainConfig:
    """Return everything that decides a training."""
    changes = dict(RUNS[run])
    shape = PRESETS["paper"]["network"].model_dump() | NETWORK | changes.pop("network", {})
    return TrainConfig.from_preset(
        "paper",
        images=(options.tiles,),
        output=options.output / f"{run}-seed{seed}.safetensors",
        network=shape,
        iterations=options.iterations,
        # Measured at its end alone: the paper takes the weights of the last step.
        validation_interval=options.iterations,
        seed=seed,
        **(BUDGET | changes),
    )


def train_or_load(config: TrainConfig) -> tuple[CrossImageFusionNetwork, dict[str, str]]:
    """Train, unless the weights are there; return them with their card.

    Raises
    ------
    IPSError
        If weights of this name were made with other settings.
    """
    name = config.output.stem
    if config.output.exists():
        _check_same(config)
        print(f"{name}: trained before", flush=True)
        return load_weights(config.output)
    start, every = time.perf_counter(), max(1, (config.iterations or 1) // 4)
    # What may be there of a training that was broken off is begun anew.
    for event in train(config, overwrite=True):
        if isinstance(event, LossPoint) and event.iteration % every == 0:
            minutes = (time.perf_counter() - start) / 60
            print(f"{name}: step {event.iteration}, {minutes:.1f} min", flush=True)
    return load_weights(config.output)


def _check_same(config: TrainConfig) -> None:
    card = read_card(config.output)
    same_network = json.loads(card["network"]) == config.network.model_dump(mode="json")
    same_images = json.loads(card["sources"]) == [p.absolute().name for p in config.images]
    same_settings = json.loads(card["settings"]) == told_settings(config)
    if not (same_network and same_images and same_settings):
        raise IPSError(
            f"{config.output} was trained with other settings or images; give another "
            "folder with -o."
        )


def read_pairs(folder: Path, count: int) -> list[Pair]:
    """Read ``count`` pairs with truth, spread evenly over a folder, as luminance."""
    samples = [s for s in find_samples(folder) if isinstance(s, PairSample) and s.truth]
    if not samples:
        raise IPSError(f"{folder} holds no pairs with truth (folders A, B and GT).")
    chosen = sorted({k * len(samples) // count for k in range(count)})
    return [_read_pair(samples[k]) for k in chosen]


def _read_pair(sample: PairSample) -> Pair:
    whole = [read_image(path) for path in (sample.a, sample.b, sample.truth) if path]
    if any(image.dtype != np.uint8 for image in whole):
        raise IPSError(f"{sample.name}: the pairs must be images of 8 bits.")
    a, b, truth = (grey(image) for image in whole)
    return Pair(a, b, truth, IntensityRange.of(np.stack([a, b])), 255.0)


def validation_pairs(config: TrainConfig) -> list[Pair]:
    """Draw pairs with smooth focus regions from the tiles that no training sees."""
    config = config.model_copy(update={"crop_size": VALIDATION_EDGE})
    pool = load_images(config)
    _, held_out = split_pool(pool, config)
    scale = IntensityRange(0.0, 1.0)
    return [
        Pair(*(image[0].numpy() for image in images), scale, 1.0)
        for batch in validation_batches(held_out, config)
        for images in zip(batch.source1, batch.source2, batch.target, strict=True)
    ]


def fuse(network: CrossImageFusionNetwork, pair: Pair) -> Image:
    """Return what the network makes of a pair, and nothing done to it afterwards."""
    scale = pair.intensities
    a, b = (torch.from_numpy(scale.normalise(x))[None, None] for x in (pair.a, pair.b))
    with torch.inference_mode():
        fused: Image = network.fuse(a, b)[0, 0].numpy()
    return scale.low + scale.width * fused.astype(np.float64)


def nearest_source(image: Image, pair: Pair) -> Image:
    """Take every pixel from the source that is nearest to an image."""
    first = np.abs(image - pair.a) <= np.abs(image - pair.b)
    return np.where(first, pair.a, pair.b)


def measure(pairs: list[Pair], images: Iterable[Image]) -> Figures:
    """Return mean figures of images, and of the sources nearest to them.

    ``psnr`` (dB) and ``ssim`` are over the full frame, ``inner`` ones leave out 12
    pixels along each edge.
    """
    rows = []
    for pair, image in zip(pairs, images, strict=True):
        row: Figures = {}
        for prefix, fused in (("", image), ("nearest_", nearest_source(image, pair))):
            for suffix, border in (("", 0), ("_inner", BORDER)):
                given = (fused, pair.truth, pair.data_range, border)
                row[f"{prefix}psnr{suffix}"] = psnr(*given)
                row[f"{prefix}ssim{suffix}"] = ssim(*given)
        rows.append(row)
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


def references(pairs: list[Pair]) -> dict[str, Figures]:
    """Measure what needs no network: the mean of both sources, and the best choice."""
    means = [(s.a.astype(np.float64) + s.b) / 2 for s in pairs]
    best = [nearest_source(s.truth.astype(np.float64), s) for s in pairs]
    return {
        "mean of the sources": measure(pairs, means),
        "source nearest to the truth": measure(pairs, best),
    }


COLUMNS = (
    ("pairs", "pairs", ("psnr", "ssim")),
    ("inner", "pairs", ("psnr_inner", "ssim_inner")),
    ("nearest source, full / inner", "pairs", ("nearest_psnr", "nearest_psnr_inner")),
    ("validation", "validation", ("psnr", "ssim")),
    ("nearest source", "validation", ("nearest_psnr", "nearest_ssim")),
)


def markdown(results: dict[str, Any], names: list[str]) -> str:
    """Write the tables; where there are several seeds, mean and standard deviation."""
    titles, parts = [title for title, _, _ in COLUMNS], []
    for name in names:
        lines = _header([f"Table {name}", "paper", *titles, "seeds"])
        for row in TABLES[name]:
            done = [r for r in results["runs"] if r["run"] == row.run]
            paper = f"{row.psnr:.2f} / {row.ssim:.3f}"
            lines.append(_line([row.variant, paper, *_cells(done), str(len(done))]))
        parts.append(lines)
    lines, known = _header(["for comparison", *titles]), results["references"]
    for name in known["pairs"]:
        figures = {data: known[data][name] for data in known}
        lines.append(_line([name, *_cells([figures])]))
    return "\n\n".join("\n".join(lines) for lines in [*parts, lines]) + "\n"


def _header(titles: list[str]) -> list[str]:
    return [_line(titles), _line(["---"] * len(titles))]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(done: list[dict[str, Any]]) -> list[str]:
    return [
        " / ".join(_spread([r[data][figure] for r in done], figure) for figure in figures)
        for _, data, figures in COLUMNS
    ]


def _spread(values: list[float], figure: str) -> str:
    if not values:
        return "-"
    digits = 3 if "ssim" in figure else 2
    mean = f"{fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {stdev(values):.{digits}f}"


def write(results: dict[str, Any], options: argparse.Namespace) -> None:
    """Write what is known so far."""
    texts = {"json": json.dumps(results, indent=1), "md": markdown(results, options.tables)}
    some = [] if set(options.tables) == set(TABLES) else options.tables
    stem = "-".join(["results", *some])
    for suffix, text in texts.items():
        with written_whole(options.output / f"{stem}.{suffix}") as path:
            path.write_text(text, encoding="utf-8")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tiles", type=Path, help="folder of sharp images")
    parser.add_argument("pairs", type=Path, help="folder with A, B and GT")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument("--tables", default="IV,V,VI", help="which, with commas between")
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    parser.add_argument("--pair-count", type=int, default=15, help="pairs to measure on")
    parser.add_argument("--seeds", type=int, default=1, help="of the runs to repeat")
    parser.add_argument(
        "--repeat", default=SHARED, help=f"runs with several seeds: {', '.join(RUNS)}"
    )
    options = parser.parse_args()
    for option, known in (("tables", TABLES), ("repeat", RUNS)):
        names = getattr(options, option).split(",")
        setattr(options, option, names)
        if unknown := [name for name in names if name not in known]:
            parser.error(f"{unknown[0]!r} is none of {', '.join(known)}")
    if min(options.iterations, options.pair_count, options.seeds) < 1:
        parser.error("--iterations, --pair-count and --seeds must be at least 1")
    return options


def reproduce(options: argparse.Namespace) -> None:
    """Go through the trainings; the tables are written anew after each."""
    wanted = {row.run for name in options.tables for row in TABLES[name]}
    runs = [(run, 0) for run in RUNS if run in wanted]
    runs += [(r, seed) for seed in range(1, options.seeds) for r in options.repeat]
    options.output.mkdir(parents=True, exist_ok=True)
    shared = settings(SHARED, 0, options)
    data = {
        "pairs": read_pairs(options.pairs, options.pair_count),
        "validation": validation_pairs(shared),
    }
    results: dict[str, Any] = {
        "shared settings": shared.model_dump(mode="json", exclude={"images", "output"}),
        "references": {name: references(pairs) for name, pairs in data.items()},
        "runs": [],
    }
    for run, seed in runs:
        network, card = train_or_load(settings(run, seed, options))
        row = {"run": run, "seed": seed, "minutes": float(card["training_minutes"])}
        for name, pairs in data.items():
            row[name] = measure(pairs, (fuse(network, pair) for pair in pairs))
        results["runs"].append(row)
        write(results, options)
        print(f"{run}, seed {seed}: {row['pairs']['psnr']:.2f} dB", flush=True)


def main() -> None:
    """Train and measure what is not yet there, and write the tables."""
    try:
        reproduce(parse())
    except IPSError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
