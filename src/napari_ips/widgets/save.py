"""Save image and labels layers as OME-TIFF or OME-Zarr, with what the layers tell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.io.formats import PNG, TIFF, clean_unit, split_suffix
from napari_ips.io.metadata import Channel, Metadata, clean_time_unit, length_metadata
from napari_ips.io.pixels import read_part
from napari_ips.io.pyramid import Kind, Picture, Progress
from napari_ips.widgets.results import facts, role_of
from napari_ips.widgets.stacks import axes_of, known_letters, level_zero, to_world

if TYPE_CHECKING:
    from napari.layers import Image, Labels

OME_TIFF = (".ome.tif", ".ome.tiff")
OME_ZARR = (".ome.zarr", ".zarr")
# Of all formats in which a picture is saved.
SUFFIXES = (*TIFF, *PNG, ".zarr")
_KINDS: dict[str | None, Kind] = {
    "index": "index",
    "depth": "map",
    "confidence": "map",
}
# They name things of one session.
_NOT_SAVED = ("run", "source", "decided by")


def write_ome_tiff(path: str, layer_data: Sequence[tuple[Any, ...]]) -> list[str]:
    """Write one layer, or several as channels of one image: a writer for napari.

    Parameters
    ----------
    path : str
        Without a suffix of OME-TIFF, as the dialogue may leave it, it is given one.
    layer_data : sequence of (data, attributes, type)

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    IPSError
        If the layers cannot be saved there, or the path exists.
    """
    return _write(path, layer_data, OME_TIFF)


def write_ome_zarr(path: str, layer_data: Sequence[tuple[Any, ...]]) -> list[str]:
    """Write layers as `write_ome_tiff` does, but as OME-Zarr."""
    return _write(path, layer_data, OME_ZARR)


def save_layer(layer: Image | Labels, path: str | Path, overwrite: bool = False) -> None:
    """Save a layer in the format that its path asks for.

    Parameters
    ----------
    layer : Image or Labels
        Of the axes t, c, y, x, or some of them; a fused image or one of its maps, or any
        other image without a z axis. One of length 1 is left out. Of several resolutions
        the finest is saved.
    path : path
        Ends as `napari_ips.io.results.write_result` asks.
    overwrite : bool
        Replace an existing file, or an existing zarr store.

    Raises
    ------
    IPSError
        If the layer cannot be saved there.
    """
    save_picture(picture_of([layer]), path, overwrite=overwrite)


def save_picture(
    picture: Picture,
    path: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Save what `picture_of` made of layers; this may run in any thread.

    Raises
    ------
    IPSError
        If it cannot be saved there.
    """
    from napari_ips.io.results import write_result

    path = Path(path)
    if not overwrite:
        check_free(path)
    write_result(
        path,
        picture.array,
        picture.metadata,
        rgb=picture.rgb,
        name=picture.name or split_suffix(path.name)[0],
        provenance=picture.provenance,
        kind=picture.kind,
        overwrite=overwrite,
        progress=progress,
    )


def completed_path(typed: str, suffixes: Sequence[str], usual: str) -> tuple[Path, bool]:
    """Return the path to save at, for a name that was typed into a dialogue.

    Parameters
    ----------
    typed : str
    suffixes : sequence of str
        Those that it may end in, in small letters.
    usual : str
        The one that it is given otherwise.

    Returns
    -------
    path : Path
    asked : bool
        Whether that is the name as it was typed, of which the dialogue has asked if it
        may be replaced.
    """
    if typed.lower().endswith(tuple(suffixes)):
        return Path(typed), True
    # An OME-TIFF is not called cells.tif.ome.tif.
    part = usual.removeprefix(".ome")
    stem = typed[: -len(part)] if typed.lower().endswith(part) else typed
    return Path(stem + usual), False


def check_free(path: Path) -> None:
    """Raise IPSError if a name is taken, which nobody has agreed to replace."""
    if path.exists():
        raise IPSError(f"{path} exists; choose another name, or delete it first.")


def _write(
    path: str, layer_data: Sequence[tuple[Any, ...]], suffixes: tuple[str, ...]
) -> list[str]:
    from napari.layers import Layer

    chosen, _ = completed_path(path, suffixes, suffixes[0])
    layers = [Layer.create(data, dict(meta), kind) for data, meta, kind in layer_data]
    save_picture(picture_of(layers), chosen)
    return [str(chosen)]


def picture_of(layers: Sequence[Image | Labels]) -> Picture:
    """Describe layers as one picture to be saved; no pixels are read yet.

    Parameters
    ----------
    layers : sequence of Image or Labels
        One layer, or several of the same size as channels.

    Returns
    -------
    Picture

    Raises
    ------
    IPSError
        If a layer has a z axis, or several layers do not fit into one image.
    """
    first = layers[0]
    letters = _letters(first)
    for other in layers[1:]:
        _check_fits(first, other, letters)
    several = len(layers) > 1
    planes = _Planes([level_zero(layer) for layer in layers], letters, _is_rgb(first))
    if several or planes.shape[1] == 1:
        channels = [_channel(layer) for layer in layers]
    else:
        # They share the window of their layer, but neither its name nor its colour.
        channels = [Channel(window=_channel(first).window)] * planes.shape[1]
    usual: Kind = "index" if _is_labels(first) else "image"
    return Picture(
        planes,
        replace(_metadata(first, letters), channels=tuple(channels)),
        planes.rgb,
        # Without a name, it gets that of its file.
        name="" if several else first.name,
        kind=_KINDS.get(role_of(first), usual),
        provenance={} if several else provenance(facts(first) or {}),
    )


class _Planes:
    """Arrays of any order of axes, read as one of the axes (T, C, Y, X[, S])."""

    def __init__(self, arrays: Sequence[Any], letters: str, rgb: bool) -> None:
        self._arrays = arrays
        self._letters = letters + ("S" if rgb else "")
        self.rgb = rgb
        lengths = dict(zip(self._letters, arrays[0].shape, strict=True))
        if len(arrays) > 1:
            lengths["C"] = len(arrays)
        kept = "TCYXS" if rgb else "TCYX"
        self.shape = tuple(int(lengths.get(letter, 1)) for letter in kept)
        self.dtype = np.dtype(arrays[0].dtype)

    def __getitem__(self, window: tuple[int, int, slice, slice]) -> NDArray[Any]:
        t, c, y, x = window
        array = self._arrays[c if len(self._arrays) > 1 else 0]
        places: dict[str, int | slice] = {"T": t, "C": c, "Y": y, "X": x}
        if self.rgb:
            places["S"] = slice(None)
        return read_part(array, self._letters, places, "YXS")


def _letters(layer: Image | Labels) -> str:
    """Return one letter for each axis, colours not counted: T, C, Y, X, a single Z."""
    letters, told = known_letters(layer), facts(layer)
    if told is not None and told.get("z axis"):
        # Those of its source: see `flat_axes`.
        letters = list(axes_of(layer, told["z axis"]))
    # Of other results it is known that no axis is z.
    unclear = told is None and "" in letters
    free = [letter for letter in "TC" if letter not in letters]
    lengths = dict(zip(letters, level_zero(layer).shape, strict=False))
    if lengths.get("Z", 1) > 1 or unclear or letters.count("") > len(free):
        raise IPSError(
            f"{layer.name} has a z axis, or one that is not labelled t or c: save it as "
            ".tif, which napari itself writes, or label its axes."
        )
    return "".join(letter or free.pop(0) for letter in letters)


def _check_fits(first: Image, other: Image, letters: str) -> None:
    one, two = level_zero(first), level_zero(other)
    fits = one.shape == two.shape and one.dtype == two.dtype
    fits = fits and _is_labels(first) == _is_labels(other)
    if _is_rgb(first) or _is_rgb(other) or not fits or "C" in letters + _letters(other):
        raise IPSError(
            f"{first.name} and {other.name} cannot be channels of one image: that takes "
            "the same size and type, and no colours. Save them one by one."
        )


def _is_labels(layer: Image | Labels) -> bool:
    from napari.layers import Labels

    return isinstance(layer, Labels)


def _is_rgb(layer: Image | Labels) -> bool:
    return bool(getattr(layer, "rgb", False))


def _metadata(layer: Image | Labels, letters: str) -> Metadata:
    """Return where the pixels lie; of a turned layer only how large they are."""
    matrix, origin = to_world(layer)
    # A single z is as long as the whole stack, which is no step of slices.
    axes = {letter: n for n, letter in enumerate(letters) if letter != "Z"}
    units = {letter: str(layer.units[n]) for letter, n in axes.items()}
    sizes = {letter: float(np.linalg.norm(matrix[:, n])) for letter, n in axes.items()}
    upright = np.allclose(matrix, np.diag(np.diag(matrix)))
    shifts = {letter: float(origin[n]) for letter, n in axes.items()}
    known = length_metadata(sizes, units, shifts if upright else None)
    time_unit = clean_time_unit(clean_unit(units.get("T")))
    if "T" not in letters or (time_unit is None and sizes["T"] == 1):
        return known
    return replace(known, time_step=sizes["T"], time_unit=time_unit)


def _channel(layer: Image | Labels) -> Channel:
    if _is_labels(layer) or _is_rgb(layer):
        return Channel(layer.name)
    low, high = (float(limit) for limit in layer.contrast_limits)
    return Channel(layer.name, _colour(layer.colormap.colors), (low, high))


def _colour(colours: NDArray[np.float32]) -> str | None:
    """Return the colour of a colormap that grows from black, None for any other."""
    if len(colours) != 2 or colours[0][:3].any():
        return None
    return "".join(f"{round(255 * float(part)):02X}" for part in colours[1][:3])


def provenance(known: dict[str, Any]) -> dict[str, Any]:
    """Return what is saved of that which a result layer says of itself."""
    told = {key: value for key, value in known.items() if key not in _NOT_SAVED}
    # Paths and the like become text.
    plain: dict[str, Any] = json.loads(json.dumps(told, default=str))
    return plain
