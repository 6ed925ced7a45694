"""A fusion as text: Python and a command line that repeat it exactly."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.io.formats import split_suffix
from napari_ips.widgets.fuse.state import FuseState
from napari_ips.widgets.stacks import axes_of

if TYPE_CHECKING:
    from napari_ips.io import LazyStack

_NO_FILE = (
    "{} is only in memory: save it as a file and open that, then there is a command line "
    "for it. As Python it can be copied."
)
# Settings with an option of their own on the command line; the others go by --set.
_OPTIONS = (
    "weights",
    "mode",
    "strategy",
    "smoothing",
    "tile",
    "precision",
    "device",
    "backend",
)


def as_python(state: FuseState) -> str:
    """Return Python that fuses the same, in napari's console or, from files, anywhere.

    Raises
    ------
    IPSError
        If the state is of no z-stack.
    """
    path = _file(state)
    lines = ["from napari_ips import FuseConfig"]
    if path is not None:
        axes = _axes_to_tell(state, path)
        told = f", axes={axes!r}" if axes else ""
        lines += [
            "from napari_ips.io import open_stacks",
            "",
            f"(stack,) = open_stacks({str(path)!r}{told})",
        ]
    else:
        names = ", ".join(f"viewer.layers[{layer.name!r}]" for layer in state.layers)
        function = "stack_of_layers" if state.others else "stack_of"
        given = f"[{names}]" if state.others else names
        lines += [
            f"from napari_ips.widgets.stacks import {function}",
            "",
            "# in the console of napari, where there is `viewer`",
            f"stack = {function}({given}, {state.z_axis})",
        ]
    lines += [f"config = {_config_as_python(state.config)}"]
    options = [f"slices={state.slices}"]
    if state.reference_channel is not None:
        options.append(f"reference_channel={state.reference_channel}")
    options.append("config=config")
    if state.output is None:
        lines.insert(1, "from napari_ips.fusion import fuse_to_arrays")
        lines.append(f"result = fuse_to_arrays(stack, {', '.join(options)})")
    else:
        lines[0] = "from napari_ips import FuseConfig, fuse_to_file"
        options += [f"{name}={str(path)!r}" for name, path in state.maps.items()]
        lines.append(f"fuse_to_file(stack, {str(state.output)!r}, {', '.join(options)})")
    return "\n".join(lines) + "\n"


def as_command(state: FuseState) -> str:
    """Return the command line that fuses the same.

    Raises
    ------
    IPSError
        If the layer is not what a file holds, so that no command could read it.
    """
    path = _file(state)
    if path is None or state.layer is None:
        raise IPSError(_NO_FILE.format(state.layer.name if state.layer else "The stack"))
    stem, _ = split_suffix(path.name)
    output = state.output or path.with_name(f"{stem}_fused.ome.tif")
    parts = ["napari-ips", "fuse", str(path), "-o", str(output), "--maps"]
    axes = _axes_to_tell(state, path)
    if axes:
        parts += ["--axes", axes]
    assert state.z_axis is not None
    first, end = state.slices
    if (first, end) != (0, state.stack().shape[2]):
        parts += ["--slices", f"{first}:{end}"]
    if state.reference_channel is not None:
        parts += ["--reference-channel", str(state.reference_channel)]
    return shlex.join(parts + _config_as_options(state.config))


def _config_as_python(config: FuseConfig) -> str:
    told = ", ".join(f"{name}={value!r}" for name, value in _changed(config).items())
    return f"FuseConfig({told})"


def _config_as_options(config: FuseConfig) -> list[str]:
    parts: list[str] = []
    for name, value in _changed(config).items():
        if name in _OPTIONS:
            parts += [f"--{name}", str(value)]
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            parts += ["--set", f"{name}={text}"]
    return parts


def _changed(config: FuseConfig) -> dict[str, Any]:
    """Return the settings that are not the defaults."""
    default = FuseConfig().model_dump()
    return {n: value for n, value in config.model_dump().items() if value != default[n]}


def _file(state: FuseState) -> Path | None:
    """Return the file that holds just the layer; None if it is only in memory."""
    if state.layer is None or state.others or state.layer.source.path is None:
        return None
    path = Path(state.layer.source.path)
    try:
        stack = state.stack()
        found = _opened(path, _axes_of_file(state, stack))
    except IPSError:
        return None
    same = found.shape == stack.shape and found.samples == stack.samples
    return path if same and found.dtype == stack.dtype else None


def _axes_to_tell(state: FuseState, path: Path) -> str | None:
    """Return the axes that a file has to be opened with; None if it tells them itself."""
    stack = state.stack()
    try:
        if _opened(path, None).shape == stack.shape:
            return None
    except IPSError:
        pass
    return _axes_of_file(state, stack)


def _axes_of_file(state: FuseState, stack: LazyStack) -> str:
    assert state.layer is not None and state.z_axis is not None
    return axes_of(state.layer, state.z_axis) + ("S" if stack.samples else "")


def _opened(path: Path, axes: str | None) -> LazyStack:
    from napari_ips.io import open_stacks

    stacks = open_stacks(path, axes)
    if len(stacks) != 1:
        raise IPSError(f"{path} holds several positions.")
    return stacks[0]
