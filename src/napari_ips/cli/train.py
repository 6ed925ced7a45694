"""``napari-ips train``: learn weights from images that are in focus."""

from __future__ import annotations

import signal
import threading
import tomllib
import unicodedata
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_ips.cli.common import (
    DeviceOption,
    JsonFlag,
    Stopped,
    check_output,
    human,
    note,
    parse_assignment,
    print_json,
)
from napari_ips.cli.training_display import training_display
from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from types import FrameType

    from napari_ips.config import TrainConfig
    from napari_ips.events import TrainingFinished

EXAMPLES = """[bold]Examples[/]

Half an hour on your own sharp images:
[cyan]napari-ips train images/ --name mine --minutes 30[/]
[cyan]napari-ips fuse stack.tif -o fused.tif --weights mine[/]

Into a file: [cyan]napari-ips train images/ -o mine.safetensors --minutes 30[/]

Stop it with Ctrl-C; go on where it was: [cyan]the same command --resume[/]

Adapt the bundled weights: [cyan]napari-ips train images/ -o mine.safetensors --start-from
default --minutes 10 --learning-rate 3e-4[/]

Any setting: [cyan]napari-ips train images/ -o mine.safetensors --minutes 30 --set noise=0.1
--set network.width=24 --set 'low_pass=["mean", "median"]'[/]
"""


def train(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGES",
            help="Images that are in focus, or folders of them (TIFF, PNG, JPEG, zarr). "
            "Default: those that --config names.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The .safetensors file to write.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Instead of --output: add the weights to your own, under this name.",
            show_default=False,
        ),
    ] = None,
    notes: Annotated[
        str | None,
        typer.Option(help="Kept with the weights, for later.", show_default=False),
    ] = None,
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
    z_stacks: Annotated[
        str | None,
        typer.Option(
            metavar="slices|best|fused",
            help="What to take of z-stacks: every sharp slice, the sharpest of each part, "
            "or the stack fused first. Default: slices.",
            show_default=False,
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
        "images": tuple(images) if images else None,
        "output": _destination(output, name, overwrite=overwrite),
        "notes": notes,
        "z_stacks": z_stacks,
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
        told = {key: value for key, value in vars(finished).items() if key != "path"}
        told |= {"output": finished.path, "seconds": round(seconds, 1)}
        told["iterations"] = told.pop("iteration")
        print_json(told | {"settings": settings.model_dump(mode="json")})
        return
    if finished.reason == "diverged":
        note(
            "The loss was not finite at a lower learning rate either; training ended early."
        )
    if finished.iteration == 0:
        note("Training made nothing better: these are the weights that it started from.")
    human().print(
        f"Trained in {seconds / 60:.1f} min: validation {finished.psnr_before:.2f} -> "
        f"{finished.psnr:.2f} dB, SSIM {finished.ssim:.4f}, best after "
        f"{finished.iteration} steps.\nWeights: {finished.path}",
        markup=False,
        soft_wrap=True,
    )


def _destination(output: Path | None, name: str | None, *, overwrite: bool) -> Path:
    """Return the file to write; that of a name is in the folder of the user's weights."""
    if output is not None and name is None:
        return output
    if output is not None or name is None:
        raise IPSError("Where to? Give either --output FILE or --name NAME.")
    from napari_ips.files import plainly_written
    from napari_ips.registry import check_name
    from napari_ips.weights import user_folder

    name = unicodedata.normalize("NFC", name)
    path = user_folder() / f"{name}.safetensors"
    if not (overwrite and path.is_file()):
        check_name(name)
    with plainly_written(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _settings(
    chosen: str | None, file: Path | None, options: dict[str, Any], assignments: list[str]
) -> TrainConfig:
    """Merge preset, file, options and assignments; the later one wins."""
    from napari_ips.config import PRESETS, NetworkConfig, TrainConfig

    values = _read_toml(file) if file else {}
    in_file = values.pop("preset", "microscopy")
    preset = chosen or in_file
    values |= {name: value for name, value in options.items() if value is not None}
    if "images" not in values:
        raise IPSError("Which images? Name files or folders, or a --config that does.")
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
    """Run the training, show its events, and return the last one.

    Ctrl-C ends it after the step that it is at, and the checkpoint is written by closing
    it there.
    """
    from napari_ips.events import TrainingFinished
    from napari_ips.training import checkpoint_path
    from napari_ips.training import train as run_training

    run = run_training(settings, resume=resume, overwrite=overwrite)
    asked = threading.Event()
    try:
        with closing(run) as events, training_display() as show:
            # Reading the images, before, has nothing to lose.
            show(next(events))
            with _interrupts(asked):
                for event in events:
                    show(event)
                    if isinstance(event, TrainingFinished):
                        return event
                    if asked.is_set():
                        raise KeyboardInterrupt
    except KeyboardInterrupt:
        if checkpoint_path(settings.output).exists():
            hint = "The same command with --resume goes on from the checkpoint."
        else:
            hint = "Nothing is saved: there is no checkpoint yet."
        raise Stopped(f"Stopped. {hint}") from None
    raise IPSError("Training ended without finished weights; nothing was written.")


@contextmanager
def _interrupts(asked: threading.Event) -> Iterator[None]:
    """Set an event at the first Ctrl-C; the second one interrupts at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        note("Stopping after this step; press Ctrl-C again to stop at once.")

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
