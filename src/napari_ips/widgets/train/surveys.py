"""What a training would find in its images, and how long its steps would take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ips.events import ProgressCallback
from napari_ips.widgets.stacks import level_zero
from napari_ips.widgets.train.state import TrainState, images_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ips.training.estimate import RunEstimate
    from napari_ips.training.survey import ImageSurvey

_CROPS = 48
_NOTHING = "nothing in this z-stack is sharp enough, or surely in focus"
_NOWHERE = Path("weights.safetensors")


def survey(
    state: TrainState, stop: threading.Event, callback: ProgressCallback
) -> ImageSurvey:
    """Look at layers and files; nothing is written."""
    from napari_ips.training.reading import ImageFacts
    from napari_ips.training.survey import survey_images

    given: set[str] = set()
    config, pages = state.config(_NOWHERE, state.paths), _pages(state, stop, given)
    found = survey_images(config, pages, count=_CROPS, stop=stop, callback=callback)
    names = [source.layer.name for source in state.layers]
    soft = (ImageFacts(name, flaw=_NOTHING) for name in names if name not in given)
    return replace(found, images=(*found.images, *soft))


def decisive(state: TrainState) -> tuple[Any, ...]:
    """Return what a survey depends on."""
    values = state.values
    return (
        state.layers,
        [id(level_zero(source.layer)) for source in state.layers],
        state.paths,
        values["z_stacks"],
        values["crop_size"],
        values["network"].in_channels if "network" in values else None,
        # By it, parts of stacks are taken or not; all else is judged afterwards.
        values["min_sharpness"] if values["z_stacks"] != "slices" else None,
    )


def estimate(state: TrainState, stop: threading.Event) -> RunEstimate:
    """Try a few steps."""
    from napari_ips.training.estimate import estimate_run

    config, pages = state.config(_NOWHERE, state.paths), _pages(state, stop, set())
    return estimate_run(config, pages, stop=stop)


def _pages(
    state: TrainState, stop: threading.Event, given: set[str]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the images of all layers; add to `given` the layers that have any."""
    for source in state.layers:
        for page in images_of(source, state.values, stop):
            given.add(source.layer.name)
            yield page
