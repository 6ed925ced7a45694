"""``napari-ips bench``: time fusion, start-up, growth and training on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_ips.cli.common import (
    DeviceOption,
    JsonFlag,
    Stopped,
    check_output,
    fuse_config,
    note,
    overwrite_flag,
    print_json,
)
from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from napari_ips.config import TrainConfig
    from napari_ips.evaluation.external import Program
    from napari_ips.evaluation.scenes import Scene
    from napari_ips.evaluation.speed.fusing import FusingRow
    from napari_ips.evaluation.speed.growth import Series
    from napari_ips.evaluation.speed.specimen import Specimen

EXAMPLES = """[bold]Examples[/]

All of it, in a few minutes, and the figures in a file:
[cyan]napari-ips bench -o speed.json[/]

Another program beside this one, in ten rounds:
[cyan]napari-ips bench --only fusing --rounds 10
--command "theirs=their-program {input} -o {output}"[/]

Larger stacks, with a picture:
[cyan]napari-ips bench --only growth --largest 8192 --most-slices 200 --plot growth.png[/]

How long training from scratch takes to reach 40 dB:
[cyan]napari-ips bench --only training --pairs pairs/ --train images/[/]
"""

SECTIONS = ("fusing", "start-up", "growth", "training")
FUSING, GROWTH, TRAINING = "Fusing", "Growth", "Training"
OUTPUT = "Output"

_ROUNDS = 5


def bench(
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME...",
            help="Of fusing, start-up, growth, training. Default: all.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"So many rounds, however long they take. Default: up to {_ROUNDS}, while "
            "there is time.",
            show_default=False,
            rich_help_panel=FUSING,
        ),
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Option(
            metavar='"NAME=PROGRAM {input} {output}"',
            help="Time a program as well (may be repeated); see [bold]napari-ips "
            "benchmark --help[/] for what may stand in braces.",
            show_default=False,
            rich_help_panel=FUSING,
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Seconds after which such a program is stopped.",
            rich_help_panel=FUSING,
        ),
    ] = 600.0,
    largest: Annotated[
        int | None,
        typer.Option(
            metavar="EDGE",
            help="Go on to images of this edge, 2048 to 16384 pixels; a stack of the "
            "largest needs 3 GB of the temporary folder (TMPDIR).",
            show_default=False,
            rich_help_panel=GROWTH,
        ),
    ] = None,
    most_slices: Annotated[
        int | None,
        typer.Option(
            help="Go on to so many slices, 64 to 200.",
            show_default=False,
            rich_help_panel=GROWTH,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw it (needs matplotlib).",
            show_default=False,
            rich_help_panel=GROWTH,
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Train from scratch as well, until pairs of this folder (A, B and the "
            "truth GT; the first 12) are fused well.",
            show_default=False,
            rich_help_panel=TRAINING,
        ),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGES",
            help="The folder of images to train on then.",
            show_default=False,
            rich_help_panel=TRAINING,
        ),
    ] = None,
    goal: Annotated[
        float,
        typer.Option(
            help="Mean PSNR in dB, of all colours and the full frame, to reach.",
            rich_help_panel=TRAINING,
        ),
    ] = 40.0,
    longest: Annotated[
        float,
        typer.Option(
            min=0.01,
            help="Minutes of training after which it is given up; from the half of them on "
            "the learning rate falls.",
            rich_help_panel=TRAINING,
        ),
    ] = 30.0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.json",
            help="Write every figure, and each single timing, as JSON.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[bool, overwrite_flag(OUTPUT)] = False,
    json: JsonFlag = False,
) -> None:
    """Time fusion, start-up, growth and training on this machine, in under 5 minutes.

    [bold]fusing[/]: two stacks with known truth, by whole programs in turn.
    [bold]start-up[/]: how long one waits for the command line, Python and napari.
    [bold]growth[/]: time and memory of larger images and of more slices.
    [bold]training[/]: steps per second.
    """
    sections = _sections(only)
    fuse_config(None, device=device)  # tells what is wrong with it
    if output is not None:
        check_output("--output", output, ".json", overwrite=overwrite)
    if plot is not None:
        if "growth" not in sections:
            raise IPSError("--plot draws the growth; let --only name it as well.")
        check_output("--plot", plot, ".png", overwrite=overwrite)
    programs = _programs(command, timeout, device)
    specimens = _specimens(largest, most_slices, plot)
    training = _training(pairs, train, longest, device)

    from napari_ips.cli import bench_sections
    from napari_ips.cli.bench_tables import machine_lines
    from napari_ips.evaluation.speed.machine import this_machine

    machine = this_machine(device)
    report = bench_sections.Report(output, quiet=json)
    report.add("machine", asdict(machine))
    for line in machine_lines(machine):
        note(line)
    failed: list[FusingRow] = []
    works: dict[str, Callable[[], None]] = {
        "fusing": lambda: failed.extend(
            bench_sections.fuse(report, programs, rounds or _ROUNDS, limited=rounds is None)
        ),
        "start-up": lambda: bench_sections.start(report, device),
        "growth": lambda: bench_sections.grow(report, specimens, device, plot),
        "training": lambda: bench_sections.train(report, training, goal, device),
    }
    try:
        for section in sections:
            works[section]()
    except KeyboardInterrupt:
        if output is None:
            raise
        raise Stopped(f"Stopped; what was measured so far is in {output}.") from None
    if json:
        print_json(report.values)
    if failed:
        raise IPSError(
            f"{len(failed)} measurements failed, the first of them {failed[0].method} on "
            f"{failed[0].stack}: {failed[0].failure}"
        )


def _sections(only: str | None) -> list[str]:
    names = [name.strip() for name in only.split(",")] if only is not None else SECTIONS
    for name in names:
        if name not in SECTIONS:
            raise IPSError(f"--only {name}: choose from {', '.join(SECTIONS)}.")
    return [name for name in SECTIONS if name in names]


def _programs(
    commands: Sequence[str] | None, timeout: float, device: str | None
) -> dict[Specimen, list[Program]]:
    """List the programs for each stack, this one's best quality only where it is quick."""
    from napari_ips.evaluation.external import Program
    from napari_ips.evaluation.speed.fusing import STACKS, own_program

    others = [Program.parse(text, timeout) for text in commands or ()]
    found = {
        specimen: [own_program(quality, device) for quality in qualities] + others
        for specimen, qualities in STACKS.items()
    }
    for programs in found.values():
        names = [program.name for program in programs]
        for name in names:
            if names.count(name) > 1:
                raise IPSError(f"There are two programs {name}; give one another name.")
    return found


def _specimens(
    largest: int | None, most_slices: int | None, plot: Path | None
) -> list[tuple[Series, Specimen]]:
    from napari_ips.evaluation.speed.growth import sizes
    from napari_ips.evaluation.speed.plot import check_plot

    if plot is not None:
        check_plot()
    return sizes(largest, most_slices)


def _training(
    pairs: Path | None, train: Path | None, longest: float, device: str | None
) -> tuple[TrainConfig, list[Scene]] | None:
    """Read what a training from scratch needs, if one is wanted."""
    if pairs is None and train is None:
        return None
    if pairs is None or train is None:
        raise IPSError("Training from scratch needs both --pairs and --train.")
    from napari_ips.config import TrainConfig
    from napari_ips.evaluation.speed.goal import find_pairs

    if not train.exists():
        raise IPSError(f"--train {train}: there is no such folder.")
    config = TrainConfig.from_preset(
        "microscopy", images=(train,), output=Path("none.safetensors"), minutes=longest,
        device=device or "auto",
    )  # fmt: skip
    return config, find_pairs(pairs)
