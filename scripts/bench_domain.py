"""What training on one's own kind of image brings: before and after, on kept out images.

    python scripts/bench_domain.py IMAGES -o RESULTS
    python scripts/bench_domain.py IMAGES -o RESULTS --layering additive --minutes 10

IMAGES holds sharp images of one kind. Some, evenly spread, are kept out of training, and
z-stacks with known truth are simulated from them, with and without noise. The weights to
start from are trained further on the others for some minutes; both fuse the stacks by
`napari-ips benchmark`, which prints the figures. The weights, the stacks and the report
are in RESULTS, where a run that was broken off goes on. More options go to
`napari-ips train`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import cycle
from pathlib import Path

from napari_ips import IPSError, TrainConfig
from napari_ips.io import read_image
from napari_ips.simulation import save_simulated, simulate_stack
from napari_ips.training.images import load_images

RELIEFS = ("relief", "tilt", "cells")
NOISES = (0.0, 0.02)
SLICES = 10


def main() -> None:
    """Keep images out, train on the others, and compare on stacks of the former."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, help="folder of sharp images")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the results")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--keep-out", type=int, default=6, help="images not trained on")
    parser.add_argument("--layering", choices=("opaque", "additive"), default="opaque")
    parser.add_argument("--start-from", default="default", help="weights before")
    arguments, options = parser.parse_known_args()
    check_same(arguments, options)
    kept_out, others = split(arguments.images, arguments.keep_out)
    print(f"{len(others)} images to train on, {len(kept_out)} kept out.")
    stacks = arguments.output / "stacks"
    simulate(kept_out, stacks, arguments.layering)
    tuned = arguments.output / "tuned.safetensors"
    train(others, tuned, arguments, options)
    weights = [arguments.start_from, str(tuned)]
    methods = [f"{mode}:weights={name}" for mode in ("ips", "ips-hard") for name in weights]
    for folder in sorted(stacks.iterdir()):
        report = arguments.output / f"report-{folder.name}"
        written = "-o", report, "--overwrite"
        run("benchmark", folder, *written, "--methods", ",".join(methods))


def check_same(arguments: argparse.Namespace, options: list[str]) -> None:
    """Refuse a folder with the stacks and weights of other arguments."""
    if "," in str(arguments.output):
        raise SystemExit("-o: the benchmark takes no commas in the paths of weights.")
    asked = json.dumps({"options": options} | vars(arguments), default=str, indent=1)
    path = arguments.output / "arguments.json"
    if path.exists() and path.read_text(encoding="utf-8") != asked:
        raise SystemExit(f"{path} tells of other arguments; give another folder with -o.")
    arguments.output.mkdir(parents=True, exist_ok=True)
    path.write_text(asked, encoding="utf-8")


def split(folder: Path, keep_out: int) -> tuple[list[Path], list[Path]]:
    """Return images to keep out, evenly spread, and the others; of usable ones."""
    config = TrainConfig(images=(folder,), output=Path("unused.safetensors"), minutes=1)
    try:
        pool = load_images(config)
    except IPSError as error:
        raise SystemExit(str(error)) from None
    usable = sorted(Path(image.name) for image in pool.images)
    if not 0 < keep_out < len(usable):
        raise SystemExit(f"--keep-out: of {len(usable)} usable images, some must be left.")
    chosen = {usable[round(k * len(usable) / keep_out)] for k in range(keep_out)}
    return sorted(chosen), [path for path in usable if path not in chosen]


def simulate(images: list[Path], folder: Path, layering: str) -> None:
    """Write a z-stack of each image for each noise, unless it is there already."""
    for number, (path, relief) in enumerate(zip(images, cycle(RELIEFS), strict=False)):
        for noise in NOISES:
            place = folder / f"noise-{100 * noise:g}" / f"{path.stem}_{relief}"
            if (place / "info.json").exists():
                continue
            simulated = simulate_stack(
                read_image(path),
                SLICES,
                relief=relief,  # type: ignore[arg-type]
                layering=layering,  # type: ignore[arg-type]
                noise=noise,
                seed=number,
            )
            save_simulated(place, simulated, info={"image": path.name, "noise": noise})


def train(
    images: list[Path], tuned: Path, arguments: argparse.Namespace, options: list[str]
) -> None:
    """Train further, as the plugin does by default, unless that was done before."""
    if tuned.exists():
        return
    started = "--start-from", arguments.start_from, "--minutes", str(arguments.minutes)
    gently = "--learning-rate", "3e-4", "--set", "decay_start=0.2"
    run("train", *images, "-o", tuned, *started, *gently, *options)


def run(*words: object) -> None:
    """Run the command line of the package; end where it fails."""
    program = Path(sys.executable).with_name("napari-ips")
    done = subprocess.run([program, *map(str, words)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
