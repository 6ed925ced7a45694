"""The evidence of one core at one scale, from the window that the network sees of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_ips.fusion.blend import STEP_REACH
from napari_ips.fusion.compute import Workers
from napari_ips.fusion.evidence import log_odds
from napari_ips.fusion.scales import Evidence, halo, weighted
from napari_ips.fusion.settings import FusionSettings
from napari_ips.fusion.tiles import Area, Core, Shape, grown, scaled, within
from napari_ips.network import CrossImageFusionNetwork

# Around a core, so that what is done at steps of the depth does not end at its border; the
# next finer scale, interpolated, needs 2.
_MARGIN = STEP_REACH
# Edge of the cells in which focus energies are compared, pixels.
_CELL = 32
# A slice may be the sharpest in a cell if it has this share of the highest energy there,
# above the lowest; and slices differ there if the highest is so many times the lowest.
_NEAR = 0.35
_STANDS_OUT = 1.7


def window(core: Core, settings: FusionSettings) -> Area:
    """Return the area that the network sees of a core, in pixels of its scale."""
    around = halo(core.scale, settings.scales, settings.smoothing)
    return grown(core.area, around, scaled(settings.shape, core.scale))


def evidence_area(core: Core, shape: Shape) -> Area:
    """Return the area of the evidence of a core, in pixels of its scale."""
    return grown(core.area, _MARGIN, scaled(shape, core.scale))


def core_evidence(
    network: CrossImageFusionNetwork,
    values: Tensor,
    core: Core,
    coarser: Evidence | None,
    settings: FusionSettings,
    workers: Workers | None = None,
) -> Evidence:
    """Compare the slices within a core and join in what coarser scales say.

    Parameters
    ----------
    network : CrossImageFusionNetwork
        With one input channel.
    values : Tensor, shape (n, h, w)
        Normalised intensities of the `window` of the core.
    core : Core
        Of one of the scales of ``settings``.
    coarser : Evidence or None
        Of the parent of the core; None at the coarsest scale.
    settings : FusionSettings
    workers : Workers, optional
        That compare the slices side by side.

    Returns
    -------
    Evidence
        Of the core and some pixels around it.
    """
    area = evidence_area(core, settings.shape)
    y, x = within(area, window(core, settings))
    device = next(network.parameters()).device
    # From pinned memory, a GPU fetches them while it works on another window.
    pinned = values.pin_memory() if device.type == "cuda" else values
    slices = pinned.to(device, non_blocking=True)
    compared = partial(
        log_odds,
        network,
        precision=settings.config.precision,
        both_orders=settings.config.both_orders,
    )
    if settings.config.strategy == "fold":
        return _plain(_fold(compared, slices, settings)[:, y, x], area)
    if not settings.config.regularise:
        pairs = range(len(slices) - 1)
        return _plain(compared(slices, pairs)[:, y, x], area)
    if coarser is None:
        sums = slices.new_zeros((2, len(slices) - 1, y.stop - y.start, x.stop - x.start))
        needed = list(range(len(slices) - 1))
    else:
        sums = coarser.enlarged(area).sums.clone()
        finer = core.scale < settings.config.finest
        needed = [] if finer else _needed(slices, settings.config.skip)

    def compare(pairs: list[int]) -> None:
        odds = compared(slices, pairs)
        for k, of_pair in zip(pairs, odds, strict=True):
            known = settings.scales, settings.smoothing
            both = weighted(of_pair, slices[k], slices[k + 1], core.scale, *known)
            sums[:, k] += both[:, y, x]

    if workers is None:
        compare(needed)
    else:
        share = max(1, -(-len(needed) // workers.count))
        workers.each(compare, [needed[k : k + share] for k in range(0, len(needed), share)])
    return Evidence(sums, area)


def _needed(slices: Tensor, skip: bool) -> list[int]:
    """Return the pairs of which a slice may be the sharpest somewhere.

    The others are judged by the coarser scales alone. A slice may be the sharpest in a
    cell if its focus energy comes near the highest there; in cells where no slice
    stands out, as where there is nothing but noise, this scale has nothing to say.
    """
    pairs = range(len(slices) - 1)
    if not skip or len(slices) == 2:
        return list(pairs)
    energy = _focus_energy(slices)
    least, most = energy.amin(0), energy.amax(0)
    telling = most > _STANDS_OUT * least
    near = energy - least >= _NEAR * (most - least)
    takes_part = (near & telling).flatten(1).any(1).tolist()
    return [k for k in pairs if takes_part[k] or takes_part[k + 1]]


def _focus_energy(slices: Tensor) -> Tensor:
    """Return the mean square of the Laplacian in cells of (n, h, w)."""
    inner = slices[:, 1:-1, 1:-1]
    around = slices[:, :-2, 1:-1] + slices[:, 2:, 1:-1]
    around = around + slices[:, 1:-1, :-2] + slices[:, 1:-1, 2:]
    squares = (4 * inner - around).square()[:, None]
    # Cells of nearly one size: in smaller ones, noise alone would stand out.
    rows, columns = (max(1, round(n / _CELL)) for n in squares.shape[2:])
    return F.adaptive_avg_pool2d(squares, (rows, columns))[:, 0]


def _plain(odds: Tensor, area: Area) -> Evidence:
    return Evidence(torch.stack([odds, torch.ones_like(odds)]), area)


def _fold(
    compared: Callable[[Tensor, Sequence[int]], Tensor],
    slices: Tensor,
    settings: FusionSettings,
) -> Tensor:
    """Fuse slice after slice into a running result; return evidence (n - 1, h, w).

    A slice scores by how clearly it beat the result of those before it. Summed over z,
    what is returned gives the scores.
    """
    running = slices[0]
    scores = torch.zeros_like(slices)
    for k in range(1, len(slices)):
        pair = torch.stack([running, slices[k]])
        odds = compared(pair, [0])[0]
        if settings.config.regularise:
            known = settings.scales, settings.smoothing
            sums = weighted(odds, running, slices[k], 1, *known)
            odds = Evidence(sums[:, None], (slice(None), slice(None))).mean()[0]
        scores[k] = scores[:k].amax(0) + odds
        running = torch.where(odds > 0, slices[k], running)
    return scores.diff(dim=0)
