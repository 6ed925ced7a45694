"""The focus curve at a place of a z-stack: the evidence by which the stack is fused."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.events import Progress, ProgressCallback
from napari_ips.fusion.compute import Workers, load_network, stoppable
from napari_ips.fusion.focus import focus_curve, sub_slice_depth
from napari_ips.fusion.fuser import StackFuser
from napari_ips.fusion.plan import Plan, Plane
from napari_ips.fusion.scales import Evidence
from napari_ips.fusion.settings import finite, scales_of
from napari_ips.fusion.survey import LevelInMemory, prepare
from napari_ips.fusion.tiles import Area, Core, cores, is_empty, over, overlap, within
from napari_ips.intensity import FloatImage
from napari_ips.io import LazyStack

# Cores that a large area is looked at in; more take longer than a user likes to wait.
_FEW = 4
# Evidence that is kept, bytes.
_KEPT = 256 * 2**20


class FocusProbe:
    """Tells how sharp each slice of one z-stack is, in a pixel or in a larger area.

    The stack is measured and scaled down once, when a curve is first asked for. Then only
    the parts of the image that an area touches are compared, and the latest ones kept.
    One thread computes at a time; others wait.

    Parameters
    ----------
    stack : LazyStack
    t, c : int
        Time point and channel, from 0.
    z : (int, int)
        First slice, and the one after the last.
    config : FuseConfig
        How the stack is fused.

    Raises
    ------
    IPSError
        If there are no such slices.
    """

    def __init__(
        self, stack: LazyStack, t: int, c: int, z: tuple[int, int], config: FuseConfig
    ) -> None:
        self._plan = Plan.of(stack, z, None, config)
        self._plane = Plane(t, c)
        self._shape = self._plan.image_shape
        self._fuser: StackFuser | None = None
        self._one_caller = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether the stack was measured, so that a curve takes but a moment."""
        return self._fuser is not None or self._plan.slices == 1

    def scale_for(self, area: Area) -> int:
        """Return the finest scale at which an area is seen in a few parts.

        That of all scales at which the stack is fused, or the coarsest for a huge area.
        """
        scales = scales_of(self._plan.config, self._shape)
        inside = self._clipped(area)
        few = (k for k in scales if len(self._touched(inside, k)) <= _FEW)
        return next(few, scales[-1])

    def curve(
        self,
        area: Area,
        scale: int = 1,
        *,
        stop: threading.Event | None = None,
        callback: ProgressCallback | None = None,
    ) -> FloatImage:
        """Return the focus curve of an area: evidence of sharpness, summed over z.

        Parameters
        ----------
        area : (slice, slice)
            Rows and columns of the image; what lies outside is left out.
        scale : int
            The slices are compared at 1/``scale`` of the resolution and coarser. At 1,
            the curve of a pixel is the one that decides in `fuse_stack`. With that of
            `scale_for` even a huge area takes only seconds, and detail finer than
            ``scale`` pixels has no say.
        stop : threading.Event, optional
            Set from another thread, it ends the work with `Stopped`.
        callback : callable, optional
            Called with `Progress`; what it raises ends the work too.

        Returns
        -------
        ndarray of float32, shape (n,)
            Log-odds, averaged over the area: the highest is that of the sharpest slice.
            Only differences between slices mean something. NaN for slices that have no
            finite value in the area.

        Raises
        ------
        IPSError
            If the area is empty, the stack is not fused at such a scale or cannot be
            read, or weights or device are not there.
        Stopped
            If `stop` was set.
        """
        area = self._clipped(area)
        if self._plan.slices == 1:
            return np.zeros(1, np.float32)
        stop = stop or threading.Event()
        callback = stoppable(callback, stop)
        with self._one_caller:
            fuser = self._prepared(stop, callback)
            if scale not in fuser.settings.scales:
                raise IPSError(f"This stack is not compared at a scale of {scale}.")
            device = next(fuser.network.parameters()).device
            with Workers(device, asked=stop) as workers:
                fuser.workers = workers
                curve = self._averaged(fuser, area, scale, callback)
        curve[~self._has_values(area)] = np.nan
        return curve

    def _prepared(self, stop: threading.Event, callback: ProgressCallback) -> StackFuser:
        """Measure the stack as `fuse_stack` does, unless that was done."""
        if self._fuser is not None:
            return self._fuser
        plan, plane = self._plan, self._plane
        network = load_network(plan.config)
        with Workers(next(network.parameters()).device, asked=stop) as workers:
            settings, level = prepare(plan, plane, workers, callback, LevelInMemory)
            kept = _LatestEvidence()
            self._fuser = StackFuser(
                network, settings, plan.readers(plane), level, kept, workers
            )
        return self._fuser

    def _averaged(
        self,
        fuser: StackFuser,
        area: Area,
        scale: int,
        callback: ProgressCallback,
    ) -> FloatImage:
        """Average the focus curve over an area, part by part."""
        total, pixels = np.zeros(self._plan.slices), 0
        parts = self._touched(area, scale)
        for done, (core, touched) in enumerate(parts, start=1):
            evidence = fuser.evidence(core)
            assert evidence is not None, "its scale is one of the settings"
            curve = focus_curve(evidence.part(core.area).mean())
            inside = curve[:, *within(touched, core.area)]
            total += inside.double().sum((1, 2)).cpu().numpy()
            pixels += inside[0].numel()
            callback(Progress("comparing", done, len(parts)))
        return (total / pixels).astype(np.float32)

    def _touched(self, area: Area, scale: int) -> list[tuple[Core, Area]]:
        """Return the cores at a scale that an area touches, and which of their pixels."""
        wanted = over(area, scale)
        shared = [(core, overlap(wanted, core.area)) for core in cores(self._shape, scale)]
        return [(core, part) for core, part in shared if not is_empty(part)]

    def _clipped(self, area: Area) -> Area:
        y, x = (
            slice(*part.indices(n)[:2]) for part, n in zip(area, self._shape, strict=True)
        )
        if is_empty((y, x)):
            height, width = self._shape
            raise IPSError(f"The area lies outside the image of {width} x {height} pixels.")
        return y, x

    def _has_values(self, area: Area) -> NDArray[np.bool_]:
        """Tell which slices have a finite value in an area."""
        valid = None
        if self._plan.stack.dtype.kind == "f":
            (read,) = self._plan.readers(self._plane)
            valid = finite(read(*area))
        if valid is None:
            return np.ones(self._plan.slices, bool)
        return np.asarray(valid.any(axis=(1, 2)))


def best_slice(curve: ArrayLike) -> int:
    """Return the slice at which a focus curve, of shape (n,), is highest."""
    values = np.asarray(curve)
    return 0 if np.isnan(values).all() else int(np.nanargmax(values))


def peak(curve: ArrayLike) -> float:
    """Return where a focus curve, of shape (n,), peaks: `best_slice` in fractions."""
    values = torch.as_tensor(np.asarray(curve, np.float32))[:, None, None]
    best = best_slice(curve)
    depth = float(sub_slice_depth(values, torch.tensor([[best]])))
    # Beside a slice without values there is no parabola.
    return depth if np.isfinite(depth) else float(best)


class _LatestEvidence:
    """Evidence in memory, of which the one used longest ago makes place for new."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Evidence] = OrderedDict()

    def get(self, core: Core) -> Evidence | None:
        """Return what was kept for a core."""
        if core.key in self._known:
            self._known.move_to_end(core.key)
        return self._known.get(core.key)

    def put(self, core: Core, evidence: Evidence) -> None:
        """Keep the evidence of a core, at any rate until the next one."""
        self._known[core.key] = evidence
        while len(self._known) > 1 and self._bytes() > _KEPT:
            self._known.popitem(last=False)

    def _bytes(self) -> int:
        return sum(known.sums.nbytes for known in self._known.values())
