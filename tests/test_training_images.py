"""Images for training: which are found, taken and left out, and crops of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage import data

from napari_ips import IPSError, TrainConfig
from napari_ips.shuffling import low_pass
from napari_ips.training.images import load_images
from napari_ips.training.quality import sharpness


@pytest.fixture
def folder(tmp_path) -> Path:
    """Sharp images in the formats that labs have."""
    images = tmp_path / "images"
    (images / "deeper").mkdir(parents=True)
    camera, coins = data.camera(), data.coins()
    Image.fromarray(camera).save(images / "camera.png")
    Image.fromarray(coins).save(images / "coins.jpg", quality=95)
    tifffile.imwrite(images / "pages.tif", np.stack([coins, coins[::-1]]) * np.uint16(200))
    tifffile.imwrite(images / "deeper" / "float.tif", camera.astype(np.float32) / 3 - 9)
    Image.fromarray(data.astronaut()).save(images / "colour.png")
    return images


def settings(*images: Path, **values) -> TrainConfig:
    run = {"images": images, "output": "w.safetensors", "iterations": 1, "crop_size": 64}
    return TrainConfig(**(run | values))


def test_images_of_all_formats_are_found_in_folders(folder):
    pool = load_images(settings(folder))
    assert pool.rejected == ()
    assert sorted(str(i.data.dtype) for i in pool.images) == [
        "float32", "float32", "uint16", "uint16", "uint8", "uint8",
    ]  # fmt: skip
    crops = pool.draw(20, 64, np.random.default_rng(0))
    assert crops.shape == (20, 1, 64, 64)
    assert crops.dtype == np.float32
    assert -0.5 < crops.min() < 0.2 < 0.8 < crops.max() < 1.5


def test_soft_empty_small_and_unreadable_images_are_left_out_with_the_reason(folder):
    camera = torch.from_numpy(data.camera().astype(np.float32))[None, None]
    soft = low_pass(camera, "gaussian", 31)[0, 0].numpy().astype(np.uint8)
    Image.fromarray(soft).save(folder / "soft.png")
    dark = np.random.default_rng(0).integers(3, 9, (256, 256), dtype=np.uint8)
    Image.fromarray(dark).save(folder / "dark.png")
    lonely = np.zeros((256, 256), np.uint8)
    lonely[:20, :20] = 255
    Image.fromarray(lonely).save(folder / "lonely.png")
    Image.fromarray(data.camera()[:20]).save(folder / "small.png")
    (folder / "broken.png").write_bytes(b"\x89PNG nothing more")
    tifffile.imwrite(folder / "nan.tif", np.full((64, 64), np.nan, np.float32))
    pool = load_images(settings(folder))
    reasons = {Path(name).name: why for name, why in pool.rejected}
    assert reasons.keys() == {
        "soft.png", "dark.png", "lonely.png", "small.png", "broken.png", "nan.tif",
    }  # fmt: skip
    assert "soft" in reasons["soft.png"]
    assert "empty" in reasons["dark.png"]
    assert "empty" in reasons["lonely.png"]
    assert "smaller than a crop" in reasons["small.png"]
    assert "NaN" in reasons["nan.tif"]
    assert len(pool.images) == 6


def test_a_folder_without_usable_images_is_refused(tmp_path):
    Image.fromarray(np.zeros((99, 99), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(IPSError, match="None of 1 images"):
        load_images(settings(tmp_path))
    with pytest.raises(IPSError, match="does not exist"):
        load_images(settings(tmp_path / "nowhere"))


def test_sharpness_falls_with_blur():
    image = torch.from_numpy(data.camera().astype(np.float32) / 255)[None, None]
    values = [sharpness(low_pass(image, "mean", k)[0].numpy()) for k in (1, 3, 9, 31)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.1
    assert values[-1] < 0.06
