"""``napari-ips benchmark``: compare methods on folders of pairs and stacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_ips.cli.common import (
    DeviceOption,
    JsonFlag,
    WeightsOption,
    fuse_config,
    human,
    note,
    print_json,
)
from napari_ips.cli.progress import progress_bar
from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from napari_ips.evaluation.benchmark import Row
    from napari_ips.evaluation.datasets import Sample
    from napari_ips.evaluation.methods import Method
    from napari_ips.evaluation.tables import Table

EXAMPLES = """[bold]Examples[/]

Pairs in data/A, data/B with the truth in data/GT (files of the same names), if known:
[cyan]napari-ips benchmark data/[/]

Stacks, each in a folder with stack.tif (truth.tif, height.npy if known); compare settings,
two stacks only:
[cyan]napari-ips benchmark stacks/ --methods ips,ips:temperature=0.5,window-energy
--limit 2[/]

Another program, and everything to a folder with report.html:
[cyan]napari-ips benchmark data/ -o report/ --methods ips
--command "theirs=their-program {input} -o {output}"[/]

Your own weights against the shipped ones:
[cyan]napari-ips benchmark data/ --methods ips,ips:weights=mine.safetensors[/]
"""

CHOICE, EXTERNAL, REPORT = "What is compared", "Methods from elsewhere", "Report"


def benchmark(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Pairs, stacks, or folders of them.", show_default=False
        ),
    ],
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,NAME...",
            help="Of ips, ips-hard, ips-raw (no regularisation), ips-fast, ips-best, "
            "ips-best-hard, each with settings if wanted (ips:FIELD=VALUE,FIELD=VALUE); "
            "window-energy, laplacian-pyramid, dtcwt, guided-filter, max, mean, best-slice "
            "(picked by the truth, if known). Default, if nothing from elsewhere is given "
            "either: ips,window-energy,max,mean,best-slice.",
            show_default=False,
            rich_help_panel=CHOICE,
        ),
    ] = None,
    measures: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME...|all",
            help="Of psnr, psnr_inner, ssim, height_error (these need the truth), q_mi, "
            "q_ncie, q_g, q_sf, q_s, q_w, q_e, q_y, q_cb, q_p, q_cv (pairs). Default: "
            "against the truth if there is one, else q_mi, q_sf, q_s, q_cb, q_g, q_ncie.",
            show_default=False,
            rich_help_panel=CHOICE,
        ),
    ] = None,
    channel: Annotated[
        str,
        typer.Option(
            metavar="luminance|rgb",
            help="What of colours PSNR and SSIM are measured on.",
            rich_help_panel=CHOICE,
        ),
    ] = "luminance",
    limit: Annotated[
        int | None,
        typer.Option(
            help="Only the first so many of each data set.",
            show_default=False,
            rich_help_panel=CHOICE,
        ),
    ] = None,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with settings of the fusion.", show_default=False),
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Option(
            metavar='"NAME=PROGRAM {input} {output}"',
            help="Run a program (may be repeated). {input}: a folder with the slices as "
            "PNG; {stack}: one TIFF; {output}: the image to write; {output_dir}: a folder "
            "for it.",
            show_default=False,
            rich_help_panel=EXTERNAL,
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Seconds after which a program is stopped.",
            rich_help_panel=EXTERNAL,
        ),
    ] = 600.0,
    fused: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            help="Images fused elsewhere (may be repeated): FOLDER/SAMPLE.png or "
            "FOLDER/DATASET/SAMPLE.png.",
            show_default=False,
            rich_help_panel=EXTERNAL,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The method that the others are tested against. Default: the first.",
            show_default=False,
            rich_help_panel=REPORT,
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Compare methods of fusion by the truth, or else by their sources, and by time.

    PSNR in dB over the full frame and "inner" (12 pixels off each edge); errors are
    measured against 255 for 8-bit images, else against the range of the truth.
    """
    if channel not in ("luminance", "rgb"):
        raise IPSError(f"--channel {channel}: choose luminance or rgb.")
    settings = fuse_config(config, weights=weights, device=device)

    from napari_ips.evaluation import benchmark as evaluation
    from napari_ips.evaluation import significance
    from napari_ips.evaluation.datasets import find_samples
    from napari_ips.evaluation.measures import parse_measures
    from napari_ips.evaluation.methods import DEFAULT_METHODS, parse_methods
    from napari_ips.evaluation.tables import mean_tables

    samples = evaluation.first_of_each(find_samples(folder), limit)
    own = methods or (() if command or fused else DEFAULT_METHODS)
    chosen = parse_methods(own, settings)
    _add_external(chosen, command or (), timeout, fused or (), samples)
    first = reference or next(iter(chosen))
    if first not in chosen:
        raise IPSError(f"--reference {first}: it is none of {', '.join(chosen)}.")
    wanted = parse_measures(measures) if measures else None
    rows: list[Row] = []
    with progress_bar("Benchmark") as callback:
        for row in evaluation.run(
            samples,
            chosen,
            measures=wanted,
            channel=channel,  # type: ignore[arg-type]
            callback=callback,
        ):
            rows.append(row)
    means = evaluation.means(rows)
    compared = significance.compare(rows, first)
    if json:
        told = {
            "channel": channel,
            "means": [_flat(mean) for mean in means],
            "significance": [asdict(one) for one in compared],
            "rows": [_flat(row) for row in rows],
        }
        print_json(told)
    else:
        _show(mean_tables(means), channel)
    _complain(rows)


def _add_external(
    methods: dict[str, Method],
    commands: Sequence[str],
    timeout: float,
    folders: Sequence[str],
    samples: Sequence[Sample],
) -> None:
    from napari_ips.evaluation.external import parse_command, parse_fused

    found = [parse_command(text, timeout) for text in commands]
    found += [parse_fused(text, samples) for text in folders]
    for name, method in found:
        if name in methods:
            raise IPSError(f"There are two methods {name}; give one another name.")
        methods[name] = method


def _flat(item: Any) -> dict[str, Any]:
    values: dict[str, Any] = asdict(item)
    figures: dict[str, float] = values.pop("figures")
    return values | figures


def _show(tables: Sequence[Table], channel: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table as Printed

    from napari_ips.evaluation.tables import LEGEND

    for table in tables:
        printed = Printed(
            title=f"{escape(table.title)}: means ({channel})",
            title_justify="left",
            box=SIMPLE_HEAD,
        )
        for number, column in enumerate(table.columns):
            if number == 0:
                printed.add_column(column, overflow="fold")
            else:
                printed.add_column(column, justify="right", no_wrap=True)
        for line, row in enumerate(table.rows):
            cells = (
                f"[bold]{escape(cell)}[/]" if (line, column) in table.best else escape(cell)
                for column, cell in enumerate(row)
            )
            printed.add_row(*cells)
        human().print(printed)
    note(LEGEND)


def _complain(rows: Sequence[Row]) -> None:
    """Raise an error, in the end, if anything failed."""
    failed = [row for row in rows if row.failure]
    if failed:
        first = failed[0]
        raise IPSError(
            f"{len(failed)} of {len(rows)} fusions failed, the first of them "
            f"{first.method} on {first.dataset}/{first.sample}: {first.failure}"
        )
