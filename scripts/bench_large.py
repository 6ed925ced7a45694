"""Memory and throughput of fusing large stacks: `python scripts/bench_large.py 4096 8192`.

For each size a z-stack of 16 bits is made on the fly as zarr (a periodic specimen on a
wavy, tilted surface, with empty glass between the pieces, defocus and noise) and fused
by the command line, from which peak memory and time are taken. The result is compared
with the known truth.
"""

from __future__ import annotations

import argparse
import json
import shlex
import tempfile
from pathlib import Path

import zarr

from napari_ips.evaluation.running import OWN, run_program
from napari_ips.evaluation.speed.specimen import Specimen


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
    specimen = Specimen(size, slices)
    specimen.write_zarr(stack)
    command = [*OWN, "fuse", str(stack), "-o", str(fused)]
    usage = run_program([*command, "--axes", "ZYX", *options], "napari-ips fuse")
    return {
        "edge": size,
        "slices": slices,
        "seconds": round(usage.seconds, 1),
        "CPU seconds": round(usage.cpu_seconds or 0.0, 1),
        "us per pixel and slice": round(usage.seconds / specimen.pixels * 1e6, 3),
        "peak memory, GB": round((usage.peak_memory or 0) / 1e9, 3),
        "PSNR, dB": round(specimen.psnr(zarr.open_group(fused)["0"]), 2),
    }


if __name__ == "__main__":
    main()
