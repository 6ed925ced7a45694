"""Read the images of a sample and check that they fit together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.evaluation.datasets import PairSample, Sample, StackSample
from napari_ips.io import read_image, read_stack

Array = NDArray[Any]


@dataclass(frozen=True)
class Scene:
    """What a method gets: slices (Z, Y, X[, C]), and what is known of them.

    ``truth`` (Y, X[, C]) and ``height`` (Y, X), the true slice of every pixel, are None
    where they are not known. A pair is a stack of two.
    """

    sample: Sample
    slices: Array
    rgb: bool
    truth: Array | None = None
    height: Array | None = None

    @property
    def pair(self) -> bool:
        """Whether the sample is a pair of images."""
        return isinstance(self.sample, PairSample)


def load(sample: Sample) -> Scene:
    """Read a sample.

    Raises
    ------
    IPSError
        If a file cannot be read, or sources, truth and height map differ in shape.
    """
    slices, rgb, height = (
        _read_pair(sample) if isinstance(sample, PairSample) else _read_stack(sample)
    )
    truth = None if sample.truth is None else read_image(sample.truth)
    if truth is not None and slices.shape[1:] != truth.shape:
        raise IPSError(
            f"{sample.name}: the truth has the shape {truth.shape}, the sources "
            f"{slices.shape[1:]}."
        )
    if height is not None and height.shape != slices.shape[1:3]:
        raise IPSError(f"{sample.name}: height.npy and the stack differ in shape.")
    return Scene(sample, slices, rgb, truth, height)


def _read_pair(sample: PairSample) -> tuple[Array, bool, None]:
    a, b = read_image(sample.a), read_image(sample.b)
    if a.shape != b.shape or a.dtype != b.dtype:
        raise IPSError(f"{sample.name}: the images in A and B differ in size or dtype.")
    return np.stack([a, b]), a.ndim == 3, None


def _read_stack(sample: StackSample) -> tuple[Array, bool, Array | None]:
    stack = read_stack(sample.stack)
    height = None if sample.height is None else _read_height(sample.height)
    # As `read_image` does, transparency is dropped.
    return stack.data[..., :3] if stack.rgb else stack.data, stack.rgb, height


def _read_height(path: Path) -> Array:
    try:
        height: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IPSError(f"{path} cannot be read as a NumPy array: {error}") from error
    return height
