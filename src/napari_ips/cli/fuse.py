"""``napari-ips fuse``: a z-stack becomes one all-in-focus image."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_ips.cli.common import (
    FLOAT_SUFFIXES,
    IMAGE_SUFFIXES,
    DeviceOption,
    JsonFlag,
    OverwriteFlag,
    WeightsOption,
    check_outputs,
    fuse_config,
    human,
    print_json,
    progress_bar,
)
from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ips.fusion import FusionResult
    from napari_ips.io import Stack

MAPS = "Maps to write as well"

EXAMPLES = """[bold]Examples[/]

A stack in one file: [cyan]napari-ips fuse stack.tif -o fused.tif[/]

A folder with one image for each slice, sorted by name (z2 before z10):
[cyan]napari-ips fuse slices/ -o fused.png[/]

Two photographs focused differently: [cyan]napari-ips fuse near.png far.png -o both.png[/]

For measuring, values as they were recorded, and which slice each came from:
[cyan]napari-ips fuse stack.tif -o fused.tif --mode hard --index-map index.tif[/]
"""


def fuse(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="A TIFF, a zarr, a folder of images, or files in the order of the "
            "slices (two images are a stack of two).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The fused image: .tif (keeps pixel size and unit) or .png.",
            show_default=False,
        ),
    ],
    z_axis: Annotated[
        int | None,
        typer.Option(
            help="Which axis of the file is z, counted from 0, if it does not say itself.",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="soft|hard",
            help="soft (default): average the slices near focus, less noise. hard: each "
            "pixel from one slice, values as recorded.",
            show_default=False,
        ),
    ] = None,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="Implementation of the scan, see [bold]napari-ips info[/]. Default: auto.",
            show_default=False,
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Edge of the tiles in pixels; smaller needs less memory. Default: 256.",
            show_default=False,
        ),
    ] = None,
    smoothing: Annotated[
        float | None,
        typer.Option(
            help="Smoothing of the evidence, sigma in pixels. Default: from the noise.",
            show_default=False,
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            metavar="integrate|fold",
            help="integrate (default): compare neighbouring slices. fold: one slice after "
            "another into the result.",
            show_default=False,
        ),
    ] = None,
    index_map: Annotated[
        Path | None,
        typer.Option(
            help="Write the sharpest slice of each pixel, from 0 (.tif, .png; 16 bit).",
            show_default=False,
            rich_help_panel=MAPS,
        ),
    ] = None,
    confidence: Annotated[
        Path | None,
        typer.Option(
            help="Write how sure that is, 0 to 1 (.tif; 32-bit float).",
            show_default=False,
            rich_help_panel=MAPS,
        ),
    ] = None,
    depth: Annotated[
        Path | None,
        typer.Option(
            help="Write the focus in fractions of a slice (.tif; 32-bit float).",
            show_default=False,
            rich_help_panel=MAPS,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with settings; options given here override it.",
            show_default=False,
        ),
    ] = None,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Fuse a z-stack into one image that is sharp everywhere."""
    outputs = {
        "--output": output,
        "--index-map": index_map,
        "--confidence": confidence,
        "--depth": depth,
    }
    settings = fuse_config(
        config,
        weights=weights,
        mode=mode,
        strategy=strategy,
        smoothing=smoothing,
        tile=tile,
        device=device,
        backend=backend,
    )
    suffixes = {
        "--output": IMAGE_SUFFIXES,
        "--index-map": IMAGE_SUFFIXES,
        "--confidence": FLOAT_SUFFIXES,
        "--depth": FLOAT_SUFFIXES,
    }
    check_outputs(outputs, inputs=inputs, suffixes=suffixes, overwrite=overwrite)
    stack = _read(inputs, z_axis, output)

    from napari_ips.fusion import fuse_stack

    start = perf_counter()
    with progress_bar("Fusing") as callback:
        result = fuse_stack(
            stack.data, axis=0, rgb=stack.rgb, config=settings, callback=callback
        )
    seconds = perf_counter() - start
    written = _write(result, stack, outputs, overwrite)
    slices, height, width = stack.data.shape[:3]
    if json:
        facts = {"slices": slices, "height": height, "width": width, "rgb": stack.rgb}
        facts |= {"dtype": str(result.fused.dtype), "seconds": round(seconds, 3)}
        print_json(written | facts | {"settings": settings.model_dump(mode="json")})
        return
    size = f"{slices} slices of {width} x {height} pixels"
    human().print(f"Fused {size} in {seconds:.1f} s.", soft_wrap=True)
    for name, path in written.items():
        human().print(f"  {name.replace('_', ' '):<11}{path}", markup=False, soft_wrap=True)


def _read(inputs: list[Path], z_axis: int | None, output: Path) -> Stack:
    from napari_ips.io import read_stack

    stack = read_stack(inputs[0] if len(inputs) == 1 else inputs, z_axis=z_axis)
    if output.suffix.lower() == ".png" and str(stack.data.dtype) not in ("uint8", "uint16"):
        raise IPSError(
            f"{output}: a PNG cannot hold {stack.data.dtype} values; use .tif instead."
        )
    return stack


def _write(
    result: FusionResult, stack: Stack, outputs: dict[str, Path | None], overwrite: bool
) -> dict[str, Path]:
    """Write what was asked for; return the paths by the name of what they hold."""
    from napari_ips.io import write_image

    images: tuple[NDArray[Any], ...] = (
        result.fused,
        result.index,
        result.confidence,
        result.depth,
    )
    written = {}
    for (option, path), image in zip(outputs.items(), images, strict=True):
        if path is None:
            continue
        write_image(
            path,
            image,
            pixel_size=stack.pixel_size,
            unit=stack.unit,
            overwrite=overwrite,
        )
        written[option.removeprefix("--").replace("-", "_")] = path
    return written
