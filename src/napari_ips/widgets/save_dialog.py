"""Ask for a file name, and save there without keeping the window waiting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_info
from napari.viewer import Viewer
from qtpy.QtWidgets import QApplication, QFileDialog, QWidget

from napari_ips.errors import IPSError
from napari_ips.widgets.results import role_of
from napari_ips.widgets.save import (
    OME_TIFF,
    SUFFIXES,
    completed_path,
    picture_of,
    save_picture,
)
from napari_ips.widgets.work import finish, told

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from napari_ips.io.pyramid import Picture

_KINDS = "OME-TIFF (*.ome.tif);;OME-Zarr (*.ome.zarr);;TIFF (*.tif);;PNG (*.png)"


def save_result(viewer: Viewer) -> None:
    """Save the selected result, a fused image or a map, where the user wants it."""
    layer = viewer.layers.selection.active
    if layer is None or role_of(layer) is None:
        show_info("Select a fused image, or one of its maps, to save it.")
        return
    save_with_dialog(layer, QApplication.activeWindow())


def save_with_dialog(layer: Image | Layer, parent: QWidget | None) -> None:
    """Ask for a name and save a layer there, in a thread of its own."""
    try:
        picture = picture_of([layer])
    except IPSError as error:
        show_error(str(error))
        return
    place = ask_where(layer.name, parent)
    if place is not None:
        save_elsewhere(picture, *place)


def ask_where(name: str, parent: QWidget | None) -> tuple[Path, bool] | None:
    """Ask where something is to be saved.

    Returns
    -------
    path : Path
    overwrite : bool
        Whether what is there may be replaced.
        Or None alone, if the user does not want to save.
    """
    typed, kind = QFileDialog.getSaveFileName(
        parent, f"Save {name}", f"{name}{OME_TIFF[0]}", _KINDS
    )
    if not typed:
        return None
    return completed_path(
        typed, SUFFIXES, kind.partition("*")[2].rstrip(")") or OME_TIFF[0]
    )


def save_elsewhere(picture: Picture, path: Path, overwrite: bool) -> None:
    """Save a picture in a thread of its own, and tell the user."""

    def tell(result: str | None) -> None:
        finish(result, lambda _: show_info(f"Saved as {path}."))

    create_worker(
        told(save_picture),
        picture,
        path,
        overwrite=overwrite,
        _connect={"returned": tell},
        _progress={"desc": f"Saving {path.name}"},
    )
