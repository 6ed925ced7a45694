"""What the commands share: options, consoles, JSON, settings, and checks of outputs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from rich.console import Console

    from napari_ips.config import FuseConfig
    from napari_ips.weights import WeightsInfo


def json_flag(panel: str | None = None) -> Any:
    """Describe ``--json``, for a panel of the help."""
    return typer.Option(
        "--json",
        help="Print one JSON object on stdout, and nothing else there.",
        rich_help_panel=panel,
    )


def overwrite_flag(panel: str | None = None) -> Any:
    """Describe ``--overwrite``."""
    return typer.Option(
        "--overwrite", help="Replace outputs that exist already.", rich_help_panel=panel
    )


def weights_option(panel: str | None = None) -> Any:
    """Describe ``--weights``."""
    return typer.Option(
        help="Name of weights (see [bold]napari-ips weights[/]) or a .safetensors file. "
        "Default: those that come with the package.",
        show_default=False,
        rich_help_panel=panel,
    )


def device_option(panel: str | None = None) -> Any:
    """Describe ``--device``."""
    return typer.Option(
        metavar="auto|cpu|cuda|mps",
        help="Where to compute (cuda:1: the second GPU). Default: auto.",
        show_default=False,
        rich_help_panel=panel,
    )


JsonFlag = Annotated[bool, json_flag()]
OverwriteFlag = Annotated[bool, overwrite_flag()]
WeightsOption = Annotated[str | None, weights_option()]
DeviceOption = Annotated[str | None, device_option()]


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


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    typer.echo(json_text(values))


def json_text(values: Mapping[str, Any]) -> str:
    """Write values as JSON.

    Paths become strings. JSON knows no infinity: it becomes the string "inf", and what
    is not a number becomes null.
    """
    return json.dumps(_jsonable(values), indent=2)


def weights_entry(info: WeightsInfo) -> dict[str, Any]:
    """Return what is known of weights, for ``--json``."""
    from napari_ips.weights import card_numbers

    return {
        "name": info.name,
        "path": info.path,
        "bundled": info.bundled,
        "card": card_numbers(info.card),
    }


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


def fuse_config(
    file: Path | None,
    quality: str | None = None,
    assignments: Sequence[str] = (),
    **options: Any,
) -> FuseConfig:
    """Read the settings of the fusion from TOML, with the options given put over them."""
    from napari_ips.config import FuseConfig

    base = FuseConfig.from_toml(file) if file else FuseConfig()
    given = {name: value for name, value in options.items() if value is not None}
    for assignment in assignments:
        given |= parse_assignment(assignment)
    return base.changed(given, quality)


def parse_assignment(assignment: str) -> dict[str, Any]:
    """Read what was given to ``--set``; see `napari_ips.config.parse_assignment`."""
    from napari_ips import config

    try:
        return config.parse_assignment(assignment)
    except IPSError as error:
        raise IPSError(f"--set {error}") from error


def check_output(option: str, path: Path, suffix: str, *, overwrite: bool) -> None:
    """Refuse, before anything is computed, a file that could not be written.

    Raises
    ------
    IPSError
        If its name does not end in ``suffix``, or `check_writable` objects.
    """
    from napari_ips.io import check_writable

    if path.suffix.lower() != suffix:
        raise IPSError(f"{option} {path}: end the name in {suffix}.")
    check_writable(path, overwrite=overwrite)


def size_in_words(shape: tuple[int, int, int, int, int]) -> str:
    """Tell a shape (T, C, Z, Y, X) as people do; one channel or time point goes untold."""
    times, channels, slices, height, width = shape
    parts = [f"{width} x {height} pixels", f"{slices} slice{'s' * (slices != 1)}"]
    if channels > 1:
        parts.append(f"{channels} channels")
    if times > 1:
        parts.append(f"{times} time points")
    return ", ".join(parts)
