"""``napari-ips evaluate``: measure methods on pairs and stacks whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_ips.cli.common import (
    DeviceOption,
    JsonFlag,
    OverwriteFlag,
    WeightsOption,
    check_output,
    fuse_config,
    human,
    note,
    print_json,
)
from napari_ips.cli.progress import progress_bar
from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from rich.table import Table

    from napari_ips.evaluation.evaluate import Row

EXAMPLES = """[bold]Examples[/]

Pairs in data/A, data/B with the truth in data/GT (files of the same names):
[cyan]napari-ips evaluate data/[/]

Stacks, each in a folder with stack.tif and truth.tif (height.npy if known); compare
variants, two stacks only, all figures to a file:
[cyan]napari-ips evaluate stacks/ --methods ips,ips-hard,window-energy --limit 2
--csv out.csv[/]

Your own weights: [cyan]napari-ips evaluate data/ --weights mine.safetensors[/]
"""


def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Pairs, stacks, or folders of them.", show_default=False
        ),
    ],
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME...",
            help="Of ips, ips-hard, ips-raw (no regularisation), window-energy, max, mean, "
            "best-slice (an oracle), separated by commas. Default: "
            "ips,window-energy,max,mean,best-slice.",
            show_default=False,
        ),
    ] = None,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with settings of the fusion.", show_default=False),
    ] = None,
    channel: Annotated[
        str, typer.Option(metavar="luminance|rgb", help="What of colours is measured.")
    ] = "luminance",
    limit: Annotated[
        int | None,
        typer.Option(help="Only the first so many of each data set.", show_default=False),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            help="Write the figures of every sample to a CSV.", show_default=False
        ),
    ] = None,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Print PSNR and SSIM against the truth, and the height error where it is known.

    PSNR in dB over the full frame and "inner" (12 pixels off each edge); errors are
    measured against 255 for 8-bit images, else against the range of the truth.
    """
    if csv:
        check_output("--csv", csv, ".csv", overwrite=overwrite)
    settings = fuse_config(config, weights=weights, device=device)

    from napari_ips.evaluation import evaluate as evaluation

    if channel not in ("luminance", "rgb"):
        raise IPSError(f"--channel {channel}: choose luminance or rgb.")
    names = methods.split(",") if methods else evaluation.DEFAULT_METHODS
    with progress_bar("Evaluating") as callback:
        rows = list(
            evaluation.evaluate(
                folder,
                [name.strip() for name in names],
                config=settings,
                channel=channel,  # type: ignore[arg-type]
                limit=limit,
                callback=callback,
            )
        )
    means = evaluation.means(rows)
    if csv:
        _write_csv(csv, rows)
    if json:
        print_json(
            {
                "channel": channel,
                "means": [asdict(row) for row in means],
                "rows": [asdict(row) for row in rows],
            }
        )
        return
    human().print(_table(means, channel))
    if csv:
        note(f"Every sample: {csv}")


def _table(means: Sequence[Row], channel: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=f"Means over the samples ({channel})",
        title_justify="left",
        caption="PSNR in dB; inner: 12 pixels off each edge; height error in slices of "
        "textured pixels; time of one fusion in s",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("data set", overflow="fold")
    table.add_column("method", no_wrap=True)
    for title in ("n", "PSNR", "inner", "SSIM", "height", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    datasets = [row.dataset for row in means]
    for number, row in enumerate(means):
        last = datasets[number + 1 : number + 2] != [row.dataset]
        table.add_row(
            row.dataset,
            row.method,
            str(row.samples),
            _figure(row.psnr, 2),
            _figure(row.psnr_inner, 2),
            _figure(row.ssim, 4),
            _figure(row.height_error, 3),
            _figure(row.seconds, 2),
            end_section=last,
        )
    return table


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    import csv

    from napari_ips.files import written_whole

    with (
        written_whole(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
