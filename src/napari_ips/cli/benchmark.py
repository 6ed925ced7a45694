"""``napari-ips benchmark``: compare methods on folders of pairs and stacks."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_ips.cli.common import (
    DeviceOption,
    JsonFlag,
    Stopped,
    WeightsOption,
    aside,
    fuse_config,
    note,
    overwrite_flag,
    print_json,
)
from napari_ips.cli.progress import progress_bar
from napari_ips.cli.tables import print_table
from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from napari_ips.config import FuseConfig
    from napari_ips.evaluation.benchmark import Mean, Row
    from napari_ips.evaluation.datasets import Sample
    from napari_ips.evaluation.methods import Method
    from napari_ips.evaluation.record import Record

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
    context: typer.Context,
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
            "(picked by the truth, if known), true-slice (by the true height). Default, if "
            "nothing else is given: ips,window-energy,max,mean,best-slice.",
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
            "PNG (TIFF if not of 8 or 16 bits); {stack}: one TIFF; {output}: the image to "
            "write; {output_dir}: a folder for it.",
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
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder to write to: tables, all figures, images, report.html.",
            show_default=False,
            rich_help_panel=REPORT,
        ),
    ] = None,
    pictures: Annotated[
        int,
        typer.Option(
            min=0,
            help="So many samples of each data set are shown in the report, those on which "
            "the reference is worst.",
            rich_help_panel=REPORT,
        ),
    ] = 3,
    show: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLE,SAMPLE...",
            help="Show these in the report instead.",
            show_default=False,
            rich_help_panel=REPORT,
        ),
    ] = None,
    overwrite: Annotated[bool, overwrite_flag(REPORT)] = False,
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
    from napari_ips.evaluation.datasets import find_samples
    from napari_ips.evaluation.measures import columns, parse_measures
    from napari_ips.evaluation.record import Record
    from napari_ips.evaluation.report import write_report
    from napari_ips.evaluation.report_pictures import choose, draw_all
    from napari_ips.evaluation.significance import compare

    samples = evaluation.first_of_each(find_samples(folder), limit)
    shown = _named(samples, show)
    chosen = _methods(methods, command, timeout, fused, settings, samples)
    first = reference or next(iter(chosen))
    if first not in chosen:
        raise IPSError(f"--reference {first}: it is none of {', '.join(chosen)}.")
    wanted = parse_measures(measures) if measures else None
    asked = _asked(context, settings)
    record = None
    if output:
        if overwrite:
            _refuse_own_sources(output, folder, fused)
        names = columns(samples, wanted)
        record = Record(output, list(chosen), names, asked, overwrite=overwrite)
    rows = _run(samples, chosen, wanted, channel, record)
    means, compared = evaluation.means(rows), compare(rows, first)
    if record:
        if shown is None:
            shown = choose(samples, rows, first, pictures)
        sheets = draw_all(shown, rows, first, record)
        with aside().status("Drawing the report"):
            write_report(record.folder, means, compared, rows, sheets, asked)
    if json:
        print_json(
            {
                "channel": channel,
                "means": [evaluation.flat(mean) for mean in means],
                "significance": [asdict(one) for one in compared],
                "rows": [evaluation.flat(row) for row in rows],
            }
        )
    else:
        _print(means, channel)
        if output:
            note(f"Look at {output / 'report.html'}; everything else is beside it.")
    _complain(rows)


def _named(samples: Sequence[Sample], names: str | None) -> list[Sample] | None:
    """Find the samples that are to be shown."""
    if names is None:
        return None
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if all(sample.name != name for sample in samples):
            raise IPSError(f"--show {name}: there is no such sample among those measured.")
    return [sample for sample in samples if sample.name in wanted]


def _methods(
    names: Sequence[str] | None,
    commands: Sequence[str] | None,
    timeout: float,
    folders: Sequence[str] | None,
    settings: FuseConfig,
    samples: Sequence[Sample],
) -> dict[str, Method]:
    from napari_ips.evaluation.external import parse_command, parse_fused
    from napari_ips.evaluation.methods import DEFAULT_METHODS, parse_methods

    found = [parse_command(text, timeout) for text in commands or ()]
    found += [parse_fused(text, samples) for text in folders or ()]
    methods = parse_methods(names or (() if found else DEFAULT_METHODS), settings)
    for name, method in found:
        if name in methods:
            raise IPSError(f"There are two methods {name}; give one another name.")
        methods[name] = method
    return methods


def _refuse_own_sources(output: Path, folder: Path, fused: Sequence[str] | None) -> None:
    """Refuse to overwrite a report that holds what is to be measured."""
    from napari_ips.evaluation.external import split_fused

    for source in (folder, *(split_fused(text)[1] for text in fused or ())):
        if source.resolve().is_relative_to(output.resolve()):
            raise IPSError(
                f"{source} lies in {output}, which --overwrite would empty first; give "
                "another folder with -o."
            )


def _asked(context: typer.Context, settings: FuseConfig) -> dict[str, Any]:
    """Say what a report is of, so that it can be repeated."""
    from napari_ips import __version__

    return {
        "napari-ips": __version__,
        "platform": platform.platform(),
        "options": context.params,
        "settings of the fusion": settings.model_dump(mode="json"),
    }


def _run(
    samples: Sequence[Sample],
    methods: Mapping[str, Method],
    measures: Sequence[str] | None,
    channel: str,
    record: Record | None,
) -> list[Row]:
    from napari_ips.evaluation import benchmark as evaluation

    rows: list[Row] = []
    try:
        with progress_bar("Benchmark") as callback:
            for row in evaluation.run(
                samples,
                methods,
                measures=measures,
                channel=channel,  # type: ignore[arg-type]
                keep=record.keep if record else None,
                callback=callback,
            ):
                rows.append(row)
                if record:
                    record.add(row)
    except KeyboardInterrupt:
        if record is None:
            raise
        raise Stopped(f"Stopped; what was measured so far is in {record.folder}.") from None
    return rows


def _print(means: Sequence[Mean], channel: str) -> None:
    from napari_ips.evaluation.tables import LEGEND, mean_tables

    for table in mean_tables(means):
        print_table(table, f": means ({channel})")
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
