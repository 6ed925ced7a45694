"""``napari-ips demo``: the whole way once, on a stack whose truth is known."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_ips.cli.common import (
    DeviceOption,
    JsonFlag,
    WeightsOption,
    aside,
    fuse_config,
    human,
    print_json,
    size_in_words,
)
from napari_ips.cli.progress import progress_bar
from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.table import Table

    from napari_ips.cli.panel import Tile
    from napari_ips.fusion import FusionResult
    from napari_ips.simulation import SimulatedStack

# Tells a folder of the demo, which may be written again, from any other.
MARK = ".napari-ips-demo"
SLICES = 12
BLUR_PER_SLICE = 1.3
# The error map is white from here on.
LARGEST_ERROR_SHOWN = 0.05

EXAMPLES = """[bold]Examples[/]

[cyan]napari-ips demo[/], then look at demo/panel.png

Your own weights on the same stack:
[cyan]napari-ips demo --weights mine.safetensors -o demo-mine[/]
"""

Figures = dict[str, dict[str, float]]


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write to.")
    ] = Path("demo"),
    weights: WeightsOption = None,
    device: DeviceOption = None,
    json: JsonFlag = False,
) -> None:
    """Simulate a z-stack of a tissue section, fuse it, and compare with the truth."""
    _prepare(output)
    settings = fuse_config(None, weights=weights, device=device)

    from napari_ips.ahead import compile_ahead

    compile_ahead(settings.device)

    from napari_ips.fusion import fuse_stack
    from napari_ips.simulation import demo_image, simulate_stack

    with aside().status("Simulating a z-stack"):
        scene = simulate_stack(demo_image(), SLICES, blur_per_slice=BLUR_PER_SLICE)
    start = perf_counter()
    with progress_bar("Fusing") as callback:
        result = fuse_stack(scene.stack, rgb=True, config=settings, callback=callback)
    seconds = perf_counter() - start
    with aside().status("Measuring and writing"):
        images = _rivals(scene, result)
        figures = _figures(images, scene)
        files = _write(output, scene, result)
        files["panel"] = output / "panel.png"
        _draw(files["panel"], scene, result, images, figures)
    if json:
        print_json({"files": files, "figures": figures, "fuse_seconds": round(seconds, 3)})
        return
    human().print(_table(figures))
    size = size_in_words((1, 1, *scene.stack.shape[:3]))
    human().print(
        f"Fused {size}, in {seconds:.1f} s. "
        f"Look at {files['panel']}; the images are beside it.",
        markup=False,
        soft_wrap=True,
    )


def _prepare(folder: Path) -> None:
    """Make the folder, or take it if it is empty or was made by an earlier demo."""
    if folder.exists() and not folder.is_dir():
        raise IPSError(f"{folder} is a file; give a folder with --output.")
    mark = folder / MARK
    if folder.is_dir() and not mark.exists() and any(folder.iterdir()):
        raise IPSError(
            f"{folder} holds files that no demo wrote; give another folder with --output."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        raise IPSError(f"{folder} cannot be made or written: {error.strerror}.") from error


def _rivals(scene: SimulatedStack, result: FusionResult) -> dict[str, NDArray[Any]]:
    from napari_ips.evaluation import baselines

    return {
        "fused": result.fused,
        "max projection": baselines.max_projection(scene.stack),
        "mean projection": baselines.mean_projection(scene.stack),
        "best single slice": baselines.best_single_slice(scene.stack, scene.truth).fused,
    }


def _figures(images: dict[str, NDArray[Any]], scene: SimulatedStack) -> Figures:
    from napari_ips.evaluation.metrics import psnr, ssim

    return {
        name: {"psnr": psnr(image, scene.truth), "ssim": ssim(image, scene.truth)}
        for name, image in images.items()
    }


def _write(folder: Path, scene: SimulatedStack, result: FusionResult) -> dict[str, Path]:
    from napari_ips.io import write_image
    from napari_ips.simulation import save_simulated

    info = {"image": "tissue", "blur_per_slice": BLUR_PER_SLICE}
    save_simulated(folder, scene, info=info, overwrite=True)
    maps = {"fused": result.fused, "index": result.index, "confidence": result.confidence}
    for name, image in maps.items():
        write_image(folder / f"{name}.tif", image, overwrite=True)
    return {name: folder / f"{name}.tif" for name in ("stack", "truth", *maps)}


def _draw(
    path: Path,
    scene: SimulatedStack,
    result: FusionResult,
    images: dict[str, NDArray[Any]],
    figures: Figures,
) -> None:
    from napari_ips.cli import panel
    from napari_ips.evaluation.colours import displayed
    from napari_ips.files import written_whole

    count = len(scene.stack)
    tiles = [
        panel.Tile(displayed(scene.stack[number], 0, 255), f"Slice {number}")
        for number in (0, count // 3, 2 * count // 3, count - 1)
    ]
    for name, title in (("max projection", "Max projection"), ("fused", "Fused")):
        pixels = displayed(images[name], 0, 255)
        caption = "PSNR {psnr:.1f} dB   SSIM {ssim:.3f}".format(**figures[name])
        tiles.append(panel.Tile(pixels, title, caption, strong=name == "fused"))
    tiles += _maps(scene, result)
    sheet = panel.compose(
        tiles,
        columns=4,
        title="One z-stack, one sharp image",
        subtitle=f"{count} simulated slices of a stained tissue section  |  napari-ips",
    )
    with written_whole(path) as temporary:
        sheet.save(temporary)


def _maps(scene: SimulatedStack, result: FusionResult) -> list[Tile]:
    import numpy as np

    from napari_ips.cli.panel import Scale, Tile
    from napari_ips.evaluation.colours import MAGMA, VIRIDIS, coloured

    last = len(scene.stack) - 1
    index = coloured(result.index / last, VIRIDIS)
    difference = np.abs(result.fused.astype(float) - scene.truth).mean(axis=-1) / 255
    error = coloured(difference / LARGEST_ERROR_SHOWN, MAGMA)
    return [
        Tile(index, "Focus index map", "", Scale(VIRIDIS, "slice 0", f"slice {last}")),
        Tile(
            error,
            "Error of the fused image",
            f"mean {100 * difference.mean():.2f} %",
            Scale(MAGMA, "0", f"{100 * LARGEST_ERROR_SHOWN:.0f} % of full range"),
        ),
    ]


def _table(figures: Figures) -> Table:
    from rich.table import Table

    table = Table("", title="Against the truth", title_justify="left")
    table.add_column("PSNR (dB)", justify="right")
    table.add_column("SSIM", justify="right")
    for name, row in figures.items():
        style = "bold green" if name == "fused" else None
        table.add_row(name, f"{row['psnr']:.2f}", f"{row['ssim']:.4f}", style=style)
    return table
