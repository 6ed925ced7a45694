"""Ask for a file name, and save a layer there without keeping the window waiting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_info
from napari.viewer import Viewer
from qtpy.QtWidgets import QApplication, QFileDialog, QWidget

from napari_ips.errors import IPSError
from napari_ips.widgets.results import role_of
from napari_ips.widgets.save import picture_of, save_picture
from napari_ips.widgets.work import finish, told

if TYPE_CHECKING:
    from napari.layers import Image, Layer

_KINDS = "OME-TIFF (*.ome.tif);;OME-Zarr (*.ome.zarr);;TIFF (*.tif);;PNG (*.png)"
_SUFFIXES = (".ome.tif", ".ome.zarr", ".tif", ".png")


def save_result(viewer: Viewer) -> None:
    """Save the selected result, a fused image or a map, where the user wants it."""
    layer = viewer.layers.selection.active
    if layer is None or role_of(layer) is None:
        show_info("Select a fused image, or one of its maps, to save it.")
        return
    save_with_dialog(layer, QApplication.activeWindow())


def save_with_dialog(layer: Image | Layer, parent: QWidget | None) -> None:
    """Ask for a name and save a layer there, in a thread of its own."""
    path, chosen = QFileDialog.getSaveFileName(
        parent, f"Save {layer.name}", f"{layer.name}.ome.tif", _KINDS
    )
    if not path:
        return
    # Whether a file may be replaced, the dialog has asked for the name as it was typed.
    asked = path.endswith(_SUFFIXES)
    if not asked:
        path += chosen.partition("*")[2].rstrip(")") or _SUFFIXES[0]
    try:
        picture = picture_of([layer])
    except IPSError as error:
        show_error(str(error))
        return

    def tell(result: str | None) -> None:
        finish(result, lambda _: show_info(f"Saved as {path}."))

    create_worker(
        told(save_picture),
        picture,
        Path(path),
        overwrite=asked,
        _connect={"returned": tell},
        _progress={"desc": f"Saving {layer.name}"},
    )
