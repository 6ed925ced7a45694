"""Z-stacks with known truth, simulated from one sharp image.

Every pixel of the image is given a height. A slice shows what lies at its own height in
focus and the rest blurred, the more the further away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import ndimage

from napari_ips.errors import IPSError
from napari_ips.files import written_whole
from napari_ips.optics import Blur, Floats, Optics

Relief = Literal["relief", "tilt", "cells"]
Layering = Literal["opaque", "additive"]

DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
SMALLEST = 8
# Each holds a few layers in memory.
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class SimulatedStack:
    """A simulated z-stack and what is known about it.

    Attributes
    ----------
    stack : ndarray, (Z, Y, X) or (Z, Y, X, 3), uint8, uint16 or float32
    truth : ndarray, (Y, X) or (Y, X, 3), dtype of the stack
        The sharp image, free of noise.
    height : ndarray, (Y, X), float32
        The slice, 0 to Z - 1 and fractional, in which each pixel is in focus.
    """

    stack: NDArray[Any]
    truth: NDArray[Any]
    height: Floats


def simulate_stack(
    image: NDArray[Any],
    n_slices: int = 12,
    *,
    relief: Relief = "relief",
    layering: Layering = "opaque",
    blur: Blur = "disc",
    blur_per_slice: float = 1.0,
    noise: float = 0.0,
    dtype: DTypeLike | None = None,
    seed: int = 0,
) -> SimulatedStack:
    """Simulate a z-stack of which `image` is the all-in-focus truth.

    Parameters
    ----------
    image : ndarray, (Y, X) or (Y, X, 3)
        Sharp image, uint8, uint16 or float (0 to 1 if `dtype` is an integer type).
    n_slices : int
        Number of slices, at least 2.
    relief : "relief", "tilt" or "cells"
        Heights: smooth hills and valleys, a tilted plane, or balls lying on glass.
    layering : "opaque" or "additive"
        Light of a surface that hides what is beneath it (brightfield, macro), or of
        transparent layers that add up (the haze of widefield fluorescence).
    blur : "disc" or "gaussian"
        Shape of the defocus; the Gaussian has the same variance as the disc.
    blur_per_slice : float
        Radius of the disc in pixels per slice of distance from focus.
    noise : float
        Standard deviation at the brightest value of the image, as a fraction of that
        value. A quarter of its variance is constant (camera), the rest grows with the
        intensity (photons).
    dtype : uint8, uint16 or float32, optional
        Of the result; the image's own by default.
    seed : int
        Decides heights and noise; the same seed gives the same stack.

    Returns
    -------
    SimulatedStack

    Raises
    ------
    IPSError
        If a parameter or the image cannot be used.
    """
    _check_options(n_slices, relief, layering, blur, blur_per_slice, noise)
    truth = _converted(image, dtype)
    rng = np.random.default_rng(seed)
    height = _HEIGHTS[relief](truth.shape[:2], rng)
    height = (height - height.min()) / max(float(np.ptp(height)), 1e-6) * (n_slices - 1)
    height = height.astype(np.float32)

    colour = truth[..., None] if truth.ndim == 2 else truth
    optics = Optics(colour.astype(np.float32), height, n_slices, blur, blur_per_slice)
    render = optics.opaque if layering == "opaque" else optics.additive
    slices = []
    with ThreadPoolExecutor(_THREADS) as pool:
        # The noise is drawn here, in the order of the slices: the same on any machine.
        for rendered in pool.map(render, range(n_slices)):
            noisy = _noisy(rendered, noise, float(truth.max()), rng)
            slices.append(_quantised(noisy, truth.dtype).reshape(truth.shape))
    return SimulatedStack(np.stack(slices), truth, height)


def save_simulated(
    folder: str | Path,
    simulated: SimulatedStack,
    *,
    info: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write ``stack.tif``, ``truth.tif``, ``height.npy`` and ``info.json`` to a folder.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    simulated : SimulatedStack
    info : dict, optional
        How it was simulated; goes into ``info.json`` beside shape and dtype.
    overwrite : bool
        Replace files of those names; otherwise their presence is an IPSError.
    """
    from napari_ips.io import check_writable, write_image, write_stack

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IPSError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    for name in ("stack.tif", "truth.tif", "height.npy", "info.json"):
        check_writable(folder / name, overwrite=overwrite)

    stack = simulated.stack
    described = {"n_slices": len(stack), "shape": list(stack.shape)}
    described |= {"dtype": str(stack.dtype)} | (info or {})
    write_stack(folder / "stack.tif", stack, overwrite=overwrite)
    write_image(folder / "truth.tif", simulated.truth, overwrite=overwrite)
    with written_whole(folder / "height.npy") as part:
        np.save(part, simulated.height)
    with written_whole(folder / "info.json") as part:
        part.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def demo_image(name: str = "tissue") -> NDArray[Any]:
    """Return a sharp image that ships with scikit-image; nothing is downloaded.

    Parameters
    ----------
    name : "tissue", "fluorescence", "gravel" or "coins"
        Stained tissue section (512, 512, 3) uint8; one of its stains as the light of
        a fluorescent label (512, 512) uint16; pebbles (512, 512) uint8; coins
        (303, 384) uint8.

    Returns
    -------
    ndarray
    """
    from skimage import data

    images: dict[str, Callable[[], Any]] = {
        "tissue": data.immunohistochemistry,
        "fluorescence": _fluorescence,
        "gravel": data.gravel,
        "coins": data.coins,
    }
    if name not in images:
        known = ", ".join(images)
        raise IPSError(f"There is no demo image {name!r}; choose one of: {known}.")
    return np.asarray(images[name]())


def _fluorescence() -> NDArray[np.uint16]:
    """Return the brown stain of the tissue section as if it emitted light."""
    from skimage import color, data

    stain = color.rgb2hed(data.immunohistochemistry())[..., 2]
    light = np.clip(stain / np.percentile(stain, 99.9), 0, 1)
    # A camera's offset, and room above: a 12-bit sensor in a 16-bit file.
    return np.asarray(100 + 3500 * light, np.uint16)


def _check_options(
    n_slices: int,
    relief: str,
    layering: str,
    blur: str,
    blur_per_slice: float,
    noise: float,
) -> None:
    choices = ((relief, Relief), (layering, Layering), (blur, Blur))
    for (value, kind), name in zip(choices, ("relief", "layering", "blur"), strict=True):
        if value not in get_args(kind):
            known = ", ".join(get_args(kind))
            raise IPSError(f"{name} cannot be {value!r}; choose one of: {known}.")
    if n_slices < 2:
        raise IPSError(f"A stack needs at least 2 slices, not {n_slices}.")
    if not 0 < blur_per_slice <= 50:
        raise IPSError(f"blur_per_slice must be in (0, 50] pixels, not {blur_per_slice}.")
    if not 0 <= noise <= 1:
        raise IPSError(f"noise must be a fraction from 0 to 1, not {noise}.")


def _converted(image: NDArray[Any], dtype: DTypeLike | None) -> NDArray[Any]:
    """Check the sharp image and bring it to `dtype`, full range to full range."""
    image = np.asarray(image)
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise IPSError(
            f"The image must be (Y, X) or (Y, X, 3), but its shape is {image.shape}."
        )
    if min(image.shape[:2]) < SMALLEST:
        raise IPSError(f"The image must be at least {SMALLEST} pixels wide and high.")
    if image.dtype.kind == "f":
        if not np.isfinite(image).all():
            raise IPSError("The image holds NaN or infinite values; replace them first.")
        image = image.astype(np.float32)
    target = image.dtype if dtype is None else np.dtype(dtype)
    if image.dtype not in DTYPES or target not in DTYPES:
        wrong = image.dtype if image.dtype not in DTYPES else target
        raise IPSError(f"Simulation knows uint8, uint16 and float32, but not {wrong}.")
    if target == image.dtype:
        return image
    if image.dtype.kind == "f" and (image.min() < 0 or image.max() > 1):
        raise IPSError("A float image must lie between 0 and 1 to become an integer one.")
    scaled = image.astype(np.float64) * (_full_range(target) / _full_range(image.dtype))
    return _quantised(scaled.astype(np.float32), target)


def _full_range(dtype: np.dtype[Any]) -> float:
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def _quantised(values: Floats, dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "f":
        return values.astype(dtype)
    return np.clip(np.rint(values), 0, _full_range(dtype)).astype(dtype)


def _noisy(values: Floats, noise: float, white: float, rng: np.random.Generator) -> Floats:
    """Add photon and camera noise of deviation ``noise * white`` at intensity `white`."""
    if noise == 0 or white <= 0:
        return values
    photons = 1 / (0.75 * noise**2)
    counted = rng.poisson(np.maximum(values, 0) * (photons / white)) * (white / photons)
    camera = rng.standard_normal(values.shape, np.float32) * (0.5 * noise * white)
    return np.asarray(counted + np.minimum(values, 0) + camera, np.float32)


def _hills(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    coarse = rng.standard_normal(shape, np.float32)
    return np.asarray(ndimage.gaussian_filter(coarse, min(shape) / 8, mode="reflect"))


def _plane(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.indices(shape, np.float32)
    return np.asarray(y * np.sin(angle) + x * np.cos(angle), np.float32)


def _balls(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Heights of a dozen balls on glass, seen from above: steep steps at their rims."""
    height = np.zeros(shape, np.float32)
    y, x = np.indices(shape, np.float32)
    for _ in range(12):
        radius = rng.uniform(0.06, 0.15) * min(shape)
        centre_y, centre_x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        squared = ((y - centre_y) ** 2 + (x - centre_x) ** 2) / radius**2
        dome = radius * (1 + np.sqrt(np.maximum(1 - squared, 0)))
        height = np.where(squared < 1, np.maximum(height, dome), height)
    return height.astype(np.float32)


_HEIGHTS: dict[str, Callable[[tuple[int, int], np.random.Generator], Floats]] = {
    "relief": _hills,
    "tilt": _plane,
    "cells": _balls,
}
