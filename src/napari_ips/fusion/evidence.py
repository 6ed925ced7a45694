"""What the network says of neighbouring slices, pixel by pixel."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from napari_ips.network import CrossImageFusionNetwork

# Log-odds of a network that regresses the image, where it meets one source exactly.
_IMAGE_LOG_ODDS = 4.0
# Pairs compared at once: one on the CPU, whose cache holds no more; as many as fill a GPU.
_GPU_BATCH = 16
_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}

_log = logging.getLogger(__name__)


def log_odds(
    network: CrossImageFusionNetwork,
    slices: Tensor,
    pairs: Sequence[int],
    precision: str = "float32",
    both_orders: bool = False,
) -> Tensor:
    """Compare slices with the ones above them.

    Parameters
    ----------
    network : CrossImageFusionNetwork
        With one input channel.
    slices : Tensor, shape (n, H, W)
        Normalised intensities, on the device of the network.
    pairs : sequence of int
        Ascending; k stands for the slices k and k + 1.
    precision : {"float32", "bfloat16", "float16"}
        Of the network's matrix products (autocast).
    both_orders : bool
        Compare each pair in both orders and average, so that the order of z is of no
        importance.

    Returns
    -------
    Tensor, shape (len(pairs), H, W), float32
        The log-odds that slice k + 1 is sharper than slice k.

    Raises
    ------
    torch.OutOfMemoryError
        If not even a single pair fits into the memory of a GPU.
    """
    odds = slices.new_empty((len(pairs), *slices.shape[1:]))
    batch = 1 if slices.device.type == "cpu" else _GPU_BATCH
    dtype = _AUTOCAST.get(precision)
    with (
        torch.inference_mode(),
        torch.autocast(slices.device.type, dtype, enabled=dtype is not None),
    ):
        while True:
            try:
                _compare(network, slices, pairs, batch, both_orders, odds)
                return odds
            except torch.OutOfMemoryError:
                if batch == 1:
                    raise
                batch //= 2
                _log.warning("GPU memory is short: comparing %d pairs at once", batch)


def _compare(
    network: CrossImageFusionNetwork,
    slices: Tensor,
    pairs: Sequence[int],
    batch: int,
    both_orders: bool,
    odds: Tensor,
) -> None:
    """Fill ``odds``; each slice is encoded once, for both its neighbours."""
    features: dict[int, Tensor] = {}
    for start in range(0, len(pairs), batch):
        some = pairs[start : start + batch]
        needed = sorted({z for k in some for z in (k, k + 1)})
        features = {z: features[z] for z in needed if z in features}
        missing = [z for z in needed if z not in features]
        # One by one on the CPU, whatever is missing: in a batch, rounding is another, and
        # the result would depend on how many threads share the pairs.
        for first in range(0, len(missing), batch):
            group = missing[first : first + batch]
            encoded = network.encode(slices[group, None])
            features |= dict(zip(group, encoded.chunk(len(group)), strict=True))
        above = torch.cat([features[k + 1] for k in some])
        below = torch.cat([features[k] for k in some])
        upper = _Side(above, slices[[k + 1 for k in some]])
        lower = _Side(below, slices[list(some)])
        found = _odds_of(network, upper, lower)
        if both_orders:
            found = (found - _odds_of(network, lower, upper)) / 2
        odds[start : start + len(some)] = found


class _Side(NamedTuple):
    """One slice of each pair: what the network made of it, and its intensities."""

    features: Tensor
    values: Tensor


def _odds_of(network: CrossImageFusionNetwork, first: _Side, second: _Side) -> Tensor:
    height, width = first.values.shape[1:]
    raw = network.decide(first.features, second.features)[:, 0, :height, :width]
    if network.config.output == "image":
        raw = _odds_of_image(raw, first.values, second.values)
    return raw


def _odds_of_image(fused: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """Turn a regressed image into log-odds by which source it is nearer to."""
    difference = (upper - lower).abs().clamp(min=1e-6)
    nearer = ((fused - lower).abs() - (fused - upper).abs()) / difference
    return _IMAGE_LOG_ODDS * nearer
