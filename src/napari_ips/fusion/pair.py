"""Fusion of two images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.events import ProgressCallback
from napari_ips.fusion.decide import FusionResult
from napari_ips.fusion.stack import fuse_stack


def fuse_pair(
    a: ArrayLike,
    b: ArrayLike,
    *,
    rgb: bool | None = None,
    config: FuseConfig | None = None,
    callback: ProgressCallback | None = None,
) -> FusionResult:
    """Fuse two images of one scene, focused differently.

    Parameters
    ----------
    a, b : array_like, shape (Y, X) or (Y, X, 3 or 4)
        Of one shape and dtype.
    rgb, config, callback
        See `fuse_stack`, by which the pair is fused as a stack of two.

    Returns
    -------
    FusionResult
        Index 0 stands for ``a``, 1 for ``b``.

    Raises
    ------
    IPSError
        If the images do not fit together; and see `fuse_stack`.
    """
    first, second = np.asarray(a), np.asarray(b)
    if first.shape != second.shape:
        raise IPSError(f"The images differ in size: {first.shape} and {second.shape}.")
    if first.dtype != second.dtype:
        raise IPSError(f"The images differ in dtype: {first.dtype} and {second.dtype}.")
    return fuse_stack(np.stack([first, second]), rgb=rgb, config=config, callback=callback)
