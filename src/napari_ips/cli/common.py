"""What the commands share: consoles, progress bars, JSON, and checks of outputs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from rich.console import Console

    from napari_ips.config import FuseConfig
    from napari_ips.events import Progress, ProgressCallback

IMAGE_SUFFIXES = (".tif", ".tiff", ".png")
FLOAT_SUFFIXES = (".tif", ".tiff")

JsonFlag = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on stdout, and nothing else there."),
]
OverwriteFlag = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs that exist already.")
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="Name of weights (see [bold]napari-ips info[/]) or a .safetensors file. "
        "Default: those that come with the package.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|cpu|cuda|mps",
        help="Where to compute (cuda:1: the second GPU). Default: auto.",
        show_default=False,
    ),
]


class Stopped(Exception):  # noqa: N818 (not an error: the user asked for it)
    """The user stopped a command; the text says what can be done next."""


def human() -> Console:
    """Give the console for results (stdout)."""
    from rich.console import Console

    return Console(highlight=False)


def aside() -> Console:
    """Give the console for everything beside the result (stderr)."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def problem(line: str) -> None:
    """Print one plain line on stderr, in red where there are colours."""
    aside().print(line, style="bold red", markup=False, soft_wrap=True)


def note(line: str) -> None:
    """Print one plain line on stderr."""
    aside().print(line, markup=False, soft_wrap=True)


@contextmanager
def progress_bar(label: str) -> Iterator[ProgressCallback]:
    """Show a bar with the remaining time on stderr; yield the callback that moves it.

    The bar is gone at the end, and is not shown at all where stderr is no terminal.
    """
    from rich.progress import (
        BarColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    console = aside()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]left[/]"),
        TimeRemainingColumn(),
    )
    with Bar(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(label, total=None)

        def update(event: Progress) -> None:
            bar.update(task, completed=event.done, total=event.total)

        yield update


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout.

    Paths become strings. JSON knows no infinity: it becomes the string "inf", and what
    is not a number becomes null.
    """
    typer.echo(json.dumps(_jsonable(values), indent=2))


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def fuse_config(file: Path | None, **options: Any) -> FuseConfig:
    """Read the settings of the fusion from TOML, with the options given put over them."""
    from napari_ips.config import FuseConfig

    base = FuseConfig.from_toml(file) if file else FuseConfig()
    given = {name: value for name, value in options.items() if value is not None}
    return FuseConfig.checked(**(base.model_dump() | given))


def check_outputs(
    outputs: Mapping[str, Path | None],
    *,
    inputs: Sequence[Path] = (),
    suffixes: Mapping[str, Sequence[str]],
    overwrite: bool,
) -> None:
    """Refuse, before anything is computed, outputs that could not be written.

    Parameters
    ----------
    outputs : mapping of str to path or None
        What the user calls the output (``--output``), and where it goes.
    inputs : sequence of path
        Files and folders that must not be touched.
    suffixes : mapping of str to sequence of str
        Known suffixes of each output.
    overwrite : bool
        Whether existing files may be replaced.

    Raises
    ------
    IPSError
        For the first output that is wrong.
    """
    seen: dict[Path, str] = {}
    for name, path in outputs.items():
        if path is None:
            continue
        _check_suffix(name, path, suffixes[name])
        _check_place(name, path, inputs)
        twin = seen.setdefault(path.resolve(), name)
        if twin != name:
            raise IPSError(f"{twin} and {name} both name {path}; give two files.")
        if path.exists() and not overwrite:
            raise IPSError(f"{path} exists already; use --overwrite to replace it.")


def _check_suffix(name: str, path: Path, known: Sequence[str]) -> None:
    if path.suffix.lower() not in known:
        raise IPSError(
            f"{name} {path} has the suffix {path.suffix or '(none)'!r}; use one of: "
            f"{', '.join(known)}."
        )


def _check_place(name: str, path: Path, inputs: Sequence[Path]) -> None:
    if path.is_dir():
        raise IPSError(f"{name} {path} is a folder; give the name of a file.")
    check_folder(path.parent)
    for source in inputs:
        if path.resolve() == source.resolve():
            raise IPSError(f"{name} {path} is also an input; give another name.")
        if source.is_dir() and path.resolve().is_relative_to(source.resolve()):
            raise IPSError(
                f"{name} {path} lies in the input folder, where it would be taken for a "
                "slice the next time; give another folder."
            )


def check_folder(folder: Path) -> None:
    """Refuse a folder that does not exist or cannot be written to."""
    if not folder.is_dir():
        raise IPSError(f"The folder {folder} does not exist; make it first.")
    if not os.access(folder, os.W_OK):
        raise IPSError(f"The folder {folder} cannot be written to; choose another.")
