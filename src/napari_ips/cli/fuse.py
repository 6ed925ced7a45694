"""``napari-ips fuse``: z-stacks of any size become images that are sharp everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_ips.cli.cluster import connected
from napari_ips.cli.common import (
    Stopped,
    device_option,
    fuse_config,
    human,
    json_flag,
    overwrite_flag,
    print_json,
    size_in_words,
    weights_option,
)
from napari_ips.cli.progress import progress_bar
from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from napari_ips.io import LazyStack

INPUT, OUTPUT, FUSION, COMPUTING = "Input", "Output", "Fusion", "Computing"
MAPS = ("index", "depth", "confidence")

EXAMPLES = """[bold]Examples[/]

A stack in one file: [cyan]napari-ips fuse stack.tif -o fused.tif[/]

A folder with one image for each slice, sorted by name (z2 before z10):
[cyan]napari-ips fuse slices/ -o fused.png[/]

Two photographs focused differently: [cyan]napari-ips fuse near.png far.png -o both.png[/]

A stack larger than memory, with all maps beside it (stopped, the same command with
[bold]--resume[/] goes on):
[cyan]napari-ips fuse scan.ome.zarr -o fused.ome.zarr --maps[/]

For measuring, values as they were recorded, and which slice each came from:
[cyan]napari-ips fuse stack.tif -o fused.tif --mode hard --index-map index.tif[/]

Channels that have to stay together, decided by the nuclei, of slices 3 to 16:
[cyan]napari-ips fuse cells.ome.tif -o fused.ome.tif --reference-channel DAPI
--slices 3:17[/]

On a cluster: [cyan]napari-ips fuse scan.ome.zarr -o fused.ome.zarr
--scheduler tcp://node:8786[/]
"""


def _option(panel: str, told: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(
        *names, help=told, metavar=metavar, show_default=False, rich_help_panel=panel
    )


def fuse(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="A TIFF, an OME-Zarr or zarr, a folder of images, or files in the order "
            "of the slices (two images are a stack of two).",
            show_default=False,
        ),
    ],
    *,
    axes: Annotated[
        str | None,
        _option(
            INPUT,
            "One letter for each axis of the file, in place of what it says: Z, Y, X, "
            "T time, C channels, S colours, P positions.",
            metavar="TCZYX",
        ),
    ] = None,
    z_axis: Annotated[
        int | None,
        _option(INPUT, "Or only which axis of the file is z, counted from 0."),
    ] = None,
    slices: Annotated[
        str,
        _option(
            INPUT,
            "Only a part of the slices, counted from 0 and without END, such as 3:17, 3: "
            "or :-2. Default: all.",
            metavar="FIRST:END",
        ),
    ] = ":",
    reference_channel: Annotated[
        str | None,
        _option(
            INPUT,
            "Channel, by its name or counted from 0, that decides for all. Default: each "
            "decides for itself.",
            metavar="NAME|N",
        ),
    ] = None,
    output: Annotated[
        Path,
        _option(
            OUTPUT,
            "The fused image: .ome.zarr or .ome.tif (any size), .tif or .png.",
            "--output",
            "-o",
        ),
    ],
    index_map: Annotated[
        Path | None,
        _option(
            OUTPUT,
            "Write the sharpest slice of each pixel, counted from 0. These are 16-bit "
            "numbers, dark in most viewers: better .ome.zarr or .tif than .png.",
        ),
    ] = None,
    depth: Annotated[
        Path | None,
        _option(
            OUTPUT,
            "Write the depth of the focus, in the unit of z if the file tells the step, "
            "else in slices (no .png).",
        ),
    ] = None,
    confidence: Annotated[
        Path | None,
        _option(OUTPUT, "Write how sure that is, from 0 to 1 (no .png)."),
    ] = None,
    maps: Annotated[
        bool,
        _option(
            OUTPUT,
            "Write all three maps beside the output: fused.index.ome.zarr and so on.",
            "--maps",
        ),
    ] = False,
    resume: Annotated[
        bool,
        _option(
            OUTPUT, "Go on with a run of the same command that was stopped.", "--resume"
        ),
    ] = False,
    overwrite: Annotated[bool, overwrite_flag(OUTPUT)] = False,
    json: Annotated[bool, json_flag(OUTPUT)] = False,
    mode: Annotated[
        str | None,
        _option(
            FUSION,
            "soft (default): average the slices near focus, less noise. hard: each pixel "
            "from one slice, values as recorded.",
            metavar="soft|hard",
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        _option(
            FUSION,
            "integrate (default): compare neighbouring slices. fold: one slice after "
            "another into the result.",
            metavar="integrate|fold",
        ),
    ] = None,
    weights: Annotated[str | None, weights_option(FUSION)] = None,
    quality: Annotated[
        str | None,
        _option(
            FUSION,
            "balanced (default). fast: about half the time, by a small network. best: "
            "every pair of slices everywhere and in both orders, twice the time.",
            metavar="fast|balanced|best",
        ),
    ] = None,
    smoothing: Annotated[
        float | None,
        _option(
            FUSION,
            "Smoothing of the evidence, sigma in pixels. Default: from the noise.",
        ),
    ] = None,
    no_skip: Annotated[
        bool,
        _option(
            FUSION,
            "Compare all slices everywhere, also where they are plainly out of focus: "
            "slower.",
            "--no-skip",
        ),
    ] = False,
    config: Annotated[
        Path | None,
        _option(FUSION, "TOML file with settings; options given here override it."),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        _option(
            FUSION,
            "Set any field of FuseConfig, the value in TOML; may be repeated.",
            "--set",
            metavar="FIELD=VALUE",
        ),
    ] = None,
    tile: Annotated[
        str | None,
        _option(
            COMPUTING,
            "Edge of the parts worked on at once: 256, 512, 1024, 2048 or 4096. Changes "
            "memory, never the result. Default: auto, from the memory that is free.",
            metavar="auto|PIXELS",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        _option(
            COMPUTING,
            "Of the network. The short ones are meant for GPUs and change the result a "
            "little. Default: float32.",
            metavar="float32|bfloat16|float16",
        ),
    ] = None,
    device: Annotated[str | None, device_option(COMPUTING)] = None,
    backend: Annotated[
        str | None,
        _option(
            COMPUTING,
            "Implementation of the scan, see [bold]napari-ips info[/]. Default: auto.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        _option(
            COMPUTING,
            "Of a dask.distributed cluster whose workers shall fuse, such as "
            "tcp://node:8786. Default: this machine alone.",
            metavar="ADDRESS",
        ),
    ] = None,
) -> None:
    """Fuse z-stacks, of any size, into images that are sharp everywhere."""
    paths = _outputs(output, maps, index=index_map, depth=depth, confidence=confidence)
    chosen = _slices(slices)
    settings = fuse_config(
        config,
        quality,
        assignments or (),
        weights=weights,
        mode=mode,
        strategy=strategy,
        smoothing=smoothing,
        skip=False if no_skip else None,
        tile=int(tile) if tile and tile.isdigit() else tile,
        precision=precision,
        device=device,
        backend=backend,
    )

    from napari_ips.ahead import compile_ahead
    from napari_ips.io import open_stacks

    if scheduler is None:
        compile_ahead(settings.device)

    stacks = open_stacks(inputs[0] if len(inputs) == 1 else inputs, axes, z_axis)
    start = perf_counter()
    written = _fuse(
        stacks,
        scheduler,
        **paths,
        slices=chosen,
        reference_channel=reference_channel,
        config=settings,
        resume=resume,
        overwrite=overwrite,
    )
    seconds = perf_counter() - start
    if json:
        pairs = zip(stacks, written, strict=True)
        positions = [_facts(stack, outputs, chosen) for stack, outputs in pairs]
        told = {"positions": positions, "seconds": round(seconds, 3)}
        print_json(told | {"settings": settings.model_dump(mode="json")})
        return
    for stack, outputs in zip(stacks, written, strict=True):
        _print(f"Fused {stack.name}: {_size(stack, chosen)}.")
        for name, path in outputs.items():
            _print(f"  {name:<11}{path}")
    _print(f"Took {seconds:.1f} s.")


def _outputs(output: Path, maps: bool, **chosen: Path | None) -> dict[str, Path]:
    """Return the path of each output; maps that are not named lie beside the image."""
    from napari_ips.io.results import beside

    there = {name: beside(output, name) for name in MAPS if maps}
    named = {name: path for name, path in chosen.items() if path is not None}
    return {"output": output} | there | named


def _slices(text: str) -> tuple[int | None, int | None]:
    first, colon, end = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return int(first) if first else None, int(end) if end else None
    except ValueError:
        raise IPSError(
            f"--slices {text}: write it as FIRST:END, such as 3:17 for the slices 3 to 16."
        ) from None


def _fuse(
    stacks: Sequence[LazyStack], scheduler: str | None, **options: Any
) -> list[dict[str, Path]]:
    """Fuse, and say how to go on when it is stopped by Ctrl-C."""
    from napari_ips.fusion import fuse_to_file

    label = f"Fusing {size_in_words(stacks[0].shape)}"
    if len(stacks) > 1:
        label += f", {len(stacks)} positions"
    try:
        with connected(scheduler) as client, progress_bar(label) as callback:
            return fuse_to_file(stacks, client=client, callback=callback, **options)
    except KeyboardInterrupt:
        raise Stopped(
            "Stopped. What is finished is kept: the same command with --resume goes on."
        ) from None


def _facts(
    stack: LazyStack, outputs: dict[str, Path], chosen: tuple[int | None, int | None]
) -> dict[str, Any]:
    return {
        "name": stack.name,
        "shape": stack.shape,
        "slices": list(range(stack.shape[2])[slice(*chosen)]),
        "rgb": stack.samples > 0,
        "dtype": str(stack.dtype),
        "outputs": outputs,
    }


def _size(stack: LazyStack, chosen: tuple[int | None, int | None]) -> str:
    times, channels, depth, height, width = stack.shape
    fused = len(range(depth)[slice(*chosen)])
    return size_in_words((times, channels, fused, height, width))


def _print(line: str) -> None:
    human().print(line, markup=False, soft_wrap=True)
