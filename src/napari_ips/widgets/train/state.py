"""What the training widget was asked to do, and what of that cannot work."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ips.config import PRESETS, TrainConfig
from napari_ips.errors import IPSError, Stopped
from napari_ips.events import Progress, ProgressCallback
from napari_ips.widgets.train.layers import LayerSource, file_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ips.training.runs import Run

# Weights that are adapted are changed with care, and soon for good.
FINE_TUNING = {"learning_rate": 3e-4, "decay_start": 0.2}
# What no preset decides.
_OWN = (
    "images",
    "output",
    "preset",
    "notes",
    "start_from",
    "z_stacks",
    "iterations",
    "minutes",
)
_NO_IMAGES = (
    "Tick layers, or add files or folders, of images that are in focus; ten are a start."
)


@dataclass(frozen=True)
class TrainState:
    """Everything that decides a training run.

    Attributes
    ----------
    layers : tuple of LayerSource
        Layers to train on.
    paths : tuple of Path
        Files and folders to train on.
    title : str
        Name of the new weights.
    values : mapping
        The fields of `TrainConfig` but images and output; with weights to start from,
        without the network, which is theirs.
    """

    layers: tuple[LayerSource, ...] = ()
    paths: tuple[Path, ...] = ()
    title: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def config(self, output: Path, images: tuple[Path, ...]) -> TrainConfig:
        """Return the settings of a run.

        Raises
        ------
        IPSError
            If a value is none that can be trained with.
        """
        return TrainConfig.checked(**self.values, output=output, images=images)

    def problems(self, names: bool = True) -> dict[str, str]:
        """Return what cannot work, in plain words, by the name of the field.

        Parameters
        ----------
        names : bool
            Whether to look up if the name is free; what knows takes seconds to load.
        """
        found = {"images": self._images_problem(), "title": self._title_problem(names)}
        try:
            self.config(Path("weights.safetensors"), ())
        except IPSError as error:
            word, _, rest = str(error).partition(" ")
            name = word.lower().rstrip(":")
            known = name in TrainConfig.model_fields
            found[name if known else "preset"] = f"It {rest}" if known else str(error)
        return {name: told for name, told in found.items() if told}

    def prepare(
        self, run: Run, stop: threading.Event, callback: ProgressCallback
    ) -> TrainConfig:
        """Write the images of layers into the folder of a run; return its settings.

        Done in a thread of its own, as layers may be large or read from afar. Asked to
        stop, it returns before all are written.

        Raises
        ------
        IPSError
            If a layer cannot be read, or there is no room for its images.
        """
        with suppress(Stopped):
            self._write_layers(run.images, stop, callback)
        folders = (run.images,) if self.layers else ()
        return self.config(run.output, (*folders, *self.paths))

    def _write_layers(
        self, folder: Path, stop: threading.Event, callback: ProgressCallback
    ) -> None:
        from napari_ips.io import write_image

        written = 0
        total = sum(len(source.places()) for source in self.layers)
        for source in self.layers:
            for name, image in images_of(source, self.values, stop):
                if stop.is_set():
                    return
                path = folder / f"{written:04d}_{file_name(name)}.tif"
                write_image(path, image, overwrite=True)
                written += 1
                callback(Progress("Taking images of layers", min(written, total), total))

    def _images_problem(self) -> str:
        if not self.layers and not self.paths:
            return _NO_IMAGES
        for path in self.paths:
            if not path.exists():
                return f"{path} is not there any more; remove it from the list."
        return next((told for s in self.layers if (told := s.problem())), "")

    def _title_problem(self, names: bool) -> str:
        if not self.title:
            return "Name the new weights."
        if not names:
            return ""
        from napari_ips.registry import check_name

        try:
            check_name(self.title)
        except IPSError as error:
            return str(error)
        return ""


def preset_values(preset: str, fine_tuned: bool) -> dict[str, Any]:
    """Return the fields of `TrainConfig` that a preset decides, and their values.

    Parameters
    ----------
    preset : str
    fine_tuned : bool
        Whether the training starts from other weights.
    """
    values = {
        name: known.default
        for name, known in TrainConfig.model_fields.items()
        if name not in _OWN
    }
    chosen = {k: v for k, v in PRESETS[preset].items() if k not in _OWN}
    careful = FINE_TUNING if fine_tuned and preset == "microscopy" else {}
    return values | chosen | careful


def images_of(
    source: LayerSource, values: Mapping[str, Any], stop: threading.Event
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the name and the pixels (Y, X[, colours]) of what is trained on of a layer."""
    if source.z_axis is None or source.method == "slices":
        for place in source.places():
            yield source.name(place), source.read(place)
        return
    from napari_ips.training.stacks import in_focus_images

    yield from in_focus_images(
        source.stack(),
        source.method,
        crop_size=values["crop_size"],
        min_sharpness=values["min_sharpness"],
        device=values["device"],
        stop=stop,
    )
