"""What the network says of neighbouring slices, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from napari_ips.fusion.tiles import Tile, tiles
from napari_ips.network import CrossImageFusionNetwork

# The local branch sees 11 pixels around a pixel; the scan sees on, but ever less.
_HALO = 16
# Log-odds of a network that regresses the image, where it meets one source exactly.
_IMAGE_LOG_ODDS = 4.0


def neighbour_log_odds(
    network: CrossImageFusionNetwork, slices: Tensor, tile: int
) -> Tensor:
    """Compare every slice with the one below it.

    Parameters
    ----------
    network : CrossImageFusionNetwork
        With one input channel.
    slices : Tensor, shape (n, H, W)
        Normalised intensities, on the device of the network.
    tile : int
        Edge of the tiles the network sees, in pixels.

    Returns
    -------
    Tensor, shape (n - 1, H, W)
        At k the log-odds that slice k + 1 is sharper than slice k.
    """
    count, height, width = slices.shape
    log_odds = slices.new_empty((count - 1, height, width))

    def compare(part: Tile) -> None:
        y, x = part.inner
        for k, odds in enumerate(_compare(network, slices[:, *part.padded])):
            log_odds[k, *part.core] = odds[y, x]

    _for_each(compare, tiles((height, width), tile, _HALO), slices.device)
    return log_odds


def _for_each(
    work: Callable[[Tile], None], parts: list[Tile], device: torch.device
) -> None:
    """Work on tiles: side by side on the CPU, one after another elsewhere.

    A thread per tile, each computing with one thread, keeps every core busy; threads
    inside the small operations of a tile would mostly wait for each other.
    """
    threads = min(torch.get_num_threads(), len(parts))
    if device.type != "cpu" or threads == 1:
        for part in parts:
            work(part)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(
            threads, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            list(pool.map(work, parts))
    finally:
        torch.set_num_threads(before)


def _compare(network: CrossImageFusionNetwork, slices: Tensor) -> list[Tensor]:
    """Compare the slices of one tile; each is encoded once, for both its neighbours."""
    outputs = []
    with torch.inference_mode():
        below = network.encode(slices[:1, None])
        for k in range(1, len(slices)):
            above = network.encode(slices[k : k + 1, None])
            raw = network.decide(above, below)[0, 0]
            if network.config.output == "image":
                raw = _odds_of_image(raw, slices[k], slices[k - 1])
            outputs.append(raw)
            below = above
    return outputs


def _odds_of_image(fused: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """Turn a regressed image into log-odds by which source it is nearer to."""
    difference = (upper - lower).abs().clamp(min=1e-6)
    nearer = ((fused - lower).abs() - (fused - upper).abs()) / difference
    return _IMAGE_LOG_ODDS * nearer
