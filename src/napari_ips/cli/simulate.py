"""``napari-ips simulate``: a z-stack with known truth from one sharp image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_ips.cli.common import (
    JsonFlag,
    OverwriteFlag,
    aside,
    human,
    print_json,
    size_in_words,
)
from napari_ips.errors import IPSError

EXAMPLES = """[bold]Examples[/]

Twelve slices of a hilly surface: [cyan]napari-ips simulate sharp.png -o stacks/hills[/]

Fluorescence with haze and noise:
[cyan]napari-ips simulate cells.tif -o stacks/cells --relief cells --layering additive
--noise 0.02[/]

Then: [cyan]napari-ips benchmark stacks/[/]
"""


def simulate(
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE", help="A sharp image, grey or RGB.", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The folder to write to.", show_default=False),
    ],
    slices: Annotated[int, typer.Option(help="Number of slices.")] = 12,
    relief: Annotated[
        str, typer.Option(metavar="relief|tilt|cells", help="Shape of the heights.")
    ] = "relief",
    layering: Annotated[
        str,
        typer.Option(
            metavar="opaque|additive", help="A surface, or transparent light with haze."
        ),
    ] = "opaque",
    blur: Annotated[
        str, typer.Option(metavar="disc|gaussian", help="Shape of the defocus.")
    ] = "disc",
    blur_per_slice: Annotated[
        float, typer.Option(help="Radius of the defocus, pixels per slice of distance.")
    ] = 1.0,
    noise: Annotated[
        float, typer.Option(help="Poisson-Gaussian noise, fraction of the brightest value.")
    ] = 0.0,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="uint8|uint16|float32",
            help="Of the stack. Default: that of the image.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides heights and noise.")] = 0,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Simulate a z-stack: stack.tif, truth.tif, height.npy (true slice of each pixel)."""
    if dtype not in (None, "uint8", "uint16", "float32"):
        raise IPSError(f"--dtype {dtype}: choose uint8, uint16 or float32.")
    taken = [
        output / name for name in ("stack.tif", "truth.tif", "height.npy", "info.json")
    ]
    if not overwrite and any(path.exists() for path in taken):
        raise IPSError(f"{output} holds a stack already; use --overwrite to replace it.")

    from napari_ips.io import read_image
    from napari_ips.simulation import save_simulated, simulate_stack

    options = {
        "relief": relief,
        "layering": layering,
        "blur": blur,
        "blur_per_slice": blur_per_slice,
        "noise": noise,
        "seed": seed,
    }
    sharp = read_image(image)
    with aside().status("Simulating"):
        simulated = simulate_stack(sharp, slices, dtype=dtype, **options)  # type: ignore[arg-type]
    described = {"image": image.name} | options
    save_simulated(output, simulated, info=described, overwrite=overwrite)
    if json:
        shape, kind = list(simulated.stack.shape), str(simulated.stack.dtype)
        print_json({"output": output, "shape": shape, "dtype": kind} | described)
        return
    size = size_in_words((1, 1, *simulated.stack.shape[:3]))
    human().print(
        f"Simulated {size}, {simulated.stack.dtype}, in {output}.",
        markup=False,
        soft_wrap=True,
    )
