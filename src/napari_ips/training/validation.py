"""Validation on held-out crops whose focus regions look like those of a real pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from skimage.metrics import structural_similarity

from napari_ips.config import TrainConfig
from napari_ips.events import Preview
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.training.images import ImagePool
from napari_ips.training.pairs import PairBatch, make_batch
from napari_ips.training.step import enough_memory

_BATCH = 8


def split_pool(pool: ImagePool, config: TrainConfig) -> tuple[ImagePool, ImagePool]:
    """Hold out at most a tenth of the images, evenly spread, at least one.

    With a single image both pools hold it: the figures are then of seen images.
    """
    count = len(pool.images)
    held = min(config.validation_crops, max(1, count // 10))
    if count == 1:
        return pool, pool
    chosen = {round(k * count / held) for k in range(held)}
    training = tuple(x for k, x in enumerate(pool.images) if k not in chosen)
    validation = tuple(x for k, x in enumerate(pool.images) if k in chosen)
    return replace(pool, images=training), replace(pool, images=validation)


def validation_batches(pool: ImagePool, config: TrainConfig) -> list[PairBatch]:
    """Draw the fixed validation pairs: Gaussian defocus in coherent regions, little noise.

    Of the settings only the size and number of the crops matter, so that runs which share
    these can be compared.
    """
    # The paper's pairs have nothing but blur and mask: whatever else the training adds to
    # its own stays out.
    settings = TrainConfig.from_preset(
        "paper",
        images=config.images,
        output=config.output,
        crop_size=config.crop_size,
        low_pass=("gaussian",),
        kernel_range=(5, 31),
        coherent=1.0,
        blob_scale=(16.0, 48.0),
        noise=0.01,
    )
    pairs = [make_batch(pool, settings, k) for k in range(config.validation_crops)]
    return [
        PairBatch.join(pairs[start : start + _BATCH])
        for start in range(0, len(pairs), _BATCH)
    ]


def validate(
    network: CrossImageFusionNetwork, batches: list[PairBatch], device: torch.device
) -> tuple[float, float]:
    """Return mean PSNR (dB, for range 0..1) and mean SSIM of the fused crops.

    Raises
    ------
    IPSError
        If memory does not suffice.
    """
    psnr, ssim = [], []
    with torch.no_grad():
        for batch in (b.to(device) for b in batches):
            with enough_memory(len(batch.target), batch.target.shape[-1]):
                fused = network.fuse(batch.source1, batch.source2).cpu().numpy()
            target = batch.target.cpu().numpy()
            for one, truth in zip(fused, target, strict=True):
                error = float(np.mean((one - truth) ** 2))
                psnr.append(-10.0 * np.log10(max(error, 1e-12)))
                ssim.append(
                    structural_similarity(truth, one, data_range=1.0, channel_axis=0)
                )
    return float(np.mean(psnr)), float(np.mean(ssim))


def preview(
    network: CrossImageFusionNetwork,
    batches: list[PairBatch],
    iteration: int,
    device: torch.device,
) -> Preview:
    """Fuse the first of the held-out crops, always the same one, to be looked at."""
    first = batches[0]
    source1, source2, target = (x[:1] for x in (first.source1, first.source2, first.target))
    with torch.no_grad():
        fused = network.fuse(source1.to(device), source2.to(device)).cpu()
    shown = (x[0].numpy() for x in (source1, source2, fused, target))
    return Preview(iteration, *shown)
