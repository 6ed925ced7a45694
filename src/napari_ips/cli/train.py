"""``napari-ips train``: learn weights from images that are in focus."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from napari_ips.cli.common import (
    DeviceOption,
    JsonFlag,
    Stopped,
    aside,
    check_output,
    human,
    note,
    parse_assignment,
    print_json,
)
from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from napari_ips.config import TrainConfig
    from napari_ips.events import ImagesFound, LossPoint, TrainingEvent, TrainingFinished

MOST_REJECTED_SHOWN = 5

EXAMPLES = """[bold]Examples[/]

Half an hour on your own sharp images:
[cyan]napari-ips train images/ -o mine.safetensors --minutes 30[/]

Go on where it was stopped: [cyan]the same command --resume[/]

Adapt the bundled weights: [cyan]napari-ips train images/ -o mine.safetensors --start-from
default --minutes 10 --learning-rate 3e-4[/]

Any setting: [cyan]napari-ips train images/ -o mine.safetensors --minutes 30 --set noise=0.1
--set network.width=24 --set 'low_pass=["mean", "median"]'[/]
"""


def train(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            help="Images that are in focus, or folders of them (TIFF, PNG, JPEG, zarr).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The .safetensors file to write.", show_default=False
        ),
    ],
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="microscopy|paper",
            help="Settings to start from. Default: microscopy.",
            show_default=False,
        ),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Length of the run in steps.", show_default=False)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Length of the run in minutes.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pairs in each step.", show_default=False)
    ] = None,
    crop_size: Annotated[
        int | None,
        typer.Option(help="Edge of the training crops, pixels.", show_default=False),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Step size of Adam.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of everything random.", show_default=False)
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            help="Weights to fine-tune: a name or a .safetensors file.", show_default=False
        ),
    ] = None,
    device: DeviceOption = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with settings; --set and the other options override it.",
            show_default=False,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Set any field of TrainConfig, the value in TOML; may be repeated.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace weights that exist already.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Train a network on sharp images; no labels and no focus stacks are needed."""
    options = {
        "images": tuple(images),
        "output": output,
        "iterations": iterations,
        "minutes": minutes,
        "batch_size": batch_size,
        "crop_size": crop_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "start_from": start_from,
        "device": device,
    }
    settings = _settings(preset, config, options, assignments or [])
    check_output("--output", settings.output, ".safetensors", overwrite=overwrite or resume)
    start = perf_counter()
    finished = _watch(settings, resume, overwrite)
    seconds = perf_counter() - start
    if json:
        figures = {"psnr": finished.psnr, "ssim": finished.ssim}
        run = {"output": finished.path, "iterations": finished.iteration}
        settled = settings.model_dump(mode="json")
        print_json(run | figures | {"seconds": round(seconds, 1), "settings": settled})
        return
    human().print(
        f"Trained {finished.iteration} steps in {seconds / 60:.1f} min: validation "
        f"{finished.psnr:.2f} dB, SSIM {finished.ssim:.4f}.\nWeights: {finished.path}",
        markup=False,
        soft_wrap=True,
    )


def _settings(
    chosen: str | None, file: Path | None, options: dict[str, Any], assignments: list[str]
) -> TrainConfig:
    """Merge preset, file, options and assignments; the later one wins."""
    from napari_ips.config import PRESETS, NetworkConfig, TrainConfig

    values = _read_toml(file) if file else {}
    in_file = values.pop("preset", "microscopy")
    preset = chosen or in_file
    values |= {name: value for name, value in options.items() if value is not None}
    network = _table(values)
    for assignment in assignments:
        change = parse_assignment(assignment)
        if "preset" in change:
            raise IPSError("Choose the preset with --preset, not with --set.")
        network |= _table(change)
        values |= change
    base = PRESETS.get(preset, {}) | values
    if base.get("iterations") is None and base.get("minutes") is None:
        raise IPSError("How long? Give --minutes or --iterations.")
    if network:
        shape = PRESETS.get(preset, {}).get("network", NetworkConfig())
        values["network"] = shape.model_dump() | network
    return TrainConfig.from_preset(preset, **values)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise IPSError(f"{path} cannot be read as TOML: {error}") from error


def _table(values: dict[str, Any]) -> dict[str, Any]:
    """Take the settings of the network out of ``values``."""
    network = values.pop("network", {})
    if not isinstance(network, dict):
        raise IPSError(f"network = {network!r}: set its fields, such as network.width=24.")
    return network


def _watch(settings: TrainConfig, resume: bool, overwrite: bool) -> TrainingFinished:
    """Run the training, show its events, and return the last one."""
    from napari_ips.events import CheckpointSaved, TrainingFinished
    from napari_ips.training import train as run_training

    checkpoint = resume
    run = run_training(settings, resume=resume, overwrite=overwrite)
    try:
        # Closed at once when it is left early, so that no step runs on.
        with closing(cast("Generator[TrainingEvent]", run)) as events, _display() as show:
            for event in events:
                show(event)
                checkpoint = checkpoint or isinstance(event, CheckpointSaved)
                if isinstance(event, TrainingFinished):
                    return event
    except KeyboardInterrupt:
        if checkpoint:
            hint = "The same command with --resume goes on from the last checkpoint."
        else:
            every = settings.checkpoint_interval
            hint = f"Nothing is saved yet: the first checkpoint comes after {every} steps."
        raise Stopped(f"Stopped. {hint}") from None
    raise IPSError("Training ended without finished weights; nothing was written.")


@contextmanager
def _display() -> Iterator[Callable[[TrainingEvent], None]]:
    """Show loss, validation, speed and remaining time on stderr, live on a terminal."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    from napari_ips.events import ImagesFound, LossPoint, ValidationPoint

    console = aside()
    columns = (
        TextColumn("step {task.fields[step]}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  {task.fields[psnr]}"),
        TextColumn("{task.fields[speed]:.2f} it/s [dim]left[/]"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=1.0, step=0, loss=0.0, psnr="", speed=0.0)
        meter = _Meter()

        def display(event: TrainingEvent) -> None:
            if isinstance(event, ImagesFound):
                _show_images(event)
            elif isinstance(event, LossPoint):
                meter.step(event)
                bar.update(
                    task,
                    completed=event.fraction,
                    step=event.iteration,
                    loss=meter.loss,
                    speed=meter.speed,
                )
            elif isinstance(event, ValidationPoint):
                bar.update(task, psnr=f"{event.psnr:.2f} dB")
                console.print(
                    f"step {event.iteration:>7}  {100 * meter.fraction:5.1f} %  "
                    f"loss {meter.loss:.5f}  validation {event.psnr:.2f} dB  "
                    f"SSIM {event.ssim:.4f}  {meter.speed:.2f} it/s",
                    soft_wrap=True,
                )

        yield display


class _Meter:
    """Smoothed loss, fraction done, and steps per second since the start."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.fraction = 0.0
        self.speed = 0.0
        self._start: tuple[int, float] | None = None

    def step(self, event: LossPoint) -> None:
        now = perf_counter()
        if self._start is None:
            self._start = (event.iteration, now)
            self.loss = event.loss
        first, since = self._start
        self.loss += 0.05 * (event.loss - self.loss)
        self.fraction = event.fraction
        self.speed = (event.iteration - first) / (now - since) if now > since else 0.0


def _show_images(event: ImagesFound) -> None:
    left_out = f", {len(event.rejected)} left out" if event.rejected else ""
    note(f"Training on {event.accepted} images{left_out}.")
    for path, reason in event.rejected[:MOST_REJECTED_SHOWN]:
        note(f"  {path}: {reason}")
    if len(event.rejected) > MOST_REJECTED_SHOWN:
        note(f"  and {len(event.rejected) - MOST_REJECTED_SHOWN} more")
