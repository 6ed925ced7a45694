"""Memory and throughput of fusing large stacks: `python scripts/bench_large.py 4096 8192`.

For each size a z-stack of 16 bits is made on the fly as zarr (a periodic specimen on a
wavy, tilted surface, with empty glass between the pieces, defocus and noise) and fused
by the command line, from which peak memory and time are taken. The result is compared
with the known truth.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr
from scipy import ndimage
from skimage import data, transform

BLOCK = 1024
# Sigma of the defocus of a slice's distance from the focus, pixels.
BLUR_PER_SLICE = 1.2
BACKGROUND, CONTRAST, NOISE = 400.0, 12000.0, 90.0


def main() -> None:
    """Make, fuse and measure stacks of the sizes given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="+", help="edges of the images, pixels")
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="where to work, if not /tmp")
    parser.add_argument("--json", type=Path, help="where to write the figures as well")
    parser.add_argument("--options", default="", help="more of them for `napari-ips fuse`")
    arguments = parser.parse_args()
    options = shlex.split(arguments.options)
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for size in arguments.sizes:
            row = measure(Path(folder), size, arguments.slices, options)
            print(" | ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            rows.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


def measure(folder: Path, size: int, slices: int, options: list[str]) -> dict[str, object]:
    """Fuse one stack of ``slices`` images of ``size`` x ``size`` pixels."""
    stack, fused = folder / f"stack{size}.zarr", folder / f"fused{size}.ome.zarr"
    truth = make_stack(stack, size, slices)
    program = Path(sys.executable).with_name("napari-ips")
    command = [program, "fuse", stack, "-o", fused, "--axes", "ZYX"]
    start = time.perf_counter()
    process = subprocess.Popen([*command, *options])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"napari-ips fuse failed: {status}")
    return {
        "edge": size,
        "slices": slices,
        "seconds": round(seconds, 1),
        "CPU seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "us per pixel and slice": round(seconds / size**2 / slices * 1e6, 3),
        "peak memory, GB": round(usage.ru_maxrss * 1024 / 1e9, 3),
        "PSNR, dB": round(psnr(zarr.open_group(fused)["0"], truth, size), 2),
    }


def make_stack(path: Path, size: int, slices: int) -> np.ndarray:
    """Write the stack block by block; return the period of the sharp specimen."""
    sharp = specimen()
    blurred = np.stack(
        [
            ndimage.gaussian_filter(sharp, BLUR_PER_SLICE * distance / 2, mode="wrap")
            for distance in range(2 * slices)
        ]
    )
    rng = np.random.default_rng(0)
    noise = rng.normal(0, NOISE, (BLOCK + 512, BLOCK + 512)).astype(np.float32)
    array = zarr.create_array(
        path,
        shape=(slices, size, size),
        chunks=(1, BLOCK, BLOCK),
        dtype="uint16",
        dimension_names=("z", "y", "x"),
    )
    for y in range(0, size, BLOCK):
        for x in range(0, size, BLOCK):
            rows = np.arange(y, min(size, y + BLOCK))[:, None]
            columns = np.arange(x, min(size, x + BLOCK))
            height = surface(rows, columns, size, slices)
            for z in range(slices):
                level = np.rint(2 * np.abs(z - height)).astype(int)
                level = level.clip(max=2 * slices - 1)
                image = blurred[level, rows % len(sharp), columns % len(sharp)]
                first = rng.integers(0, 512, 2)
                image += noise[first[0] :, first[1] :][: len(rows), : len(columns)]
                array[z, y : y + BLOCK, x : x + BLOCK] = image.clip(0).astype(np.uint16)
    return sharp


def specimen() -> np.ndarray:
    """Return two by two periods of 1024 pixels, one of them empty glass."""
    tissue = transform.resize(data.immunohistochemistry()[..., 2], (1024, 1024)) ** 2
    period = BACKGROUND + CONTRAST * np.tile(1 - tissue, (2, 2))
    fade = ndimage.gaussian_filter(np.pad(np.ones((960, 960)), 32), 12)
    mask = np.block([[fade, 0 * fade], [fade, fade]])
    return (BACKGROUND + (period - BACKGROUND) * mask).astype(np.float32)


def surface(rows: np.ndarray, columns: np.ndarray, size: int, slices: int) -> np.ndarray:
    """Return in which slice every pixel is in focus."""
    waves = np.sin(rows / 700) * np.cos(columns / 900)
    return (slices - 1) * (0.15 + 0.7 * (rows + columns) / (2 * size)) + 1.2 * waves


def psnr(fused: zarr.Array, truth: np.ndarray, size: int) -> float:
    """Compare with the truth, strip by strip; the peak is the range of the specimen."""
    total = 0.0
    for y in range(0, size, BLOCK):
        strip = fused[y : y + BLOCK].astype(np.float64)
        rows = np.arange(y, y + len(strip))[:, None] % len(truth)
        total += ((strip - truth[rows, np.arange(size) % len(truth)]) ** 2).sum()
    return 10 * np.log10(float(np.ptp(truth)) ** 2 / (total / size**2))


if __name__ == "__main__":
    main()
