"""Images for training: which are found, taken and left out, and crops of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image
from skimage import data
from skimage.transform import downscale_local_mean

from napari_ips import IPSError, TrainConfig
from napari_ips.intensity import IntensityRange
from napari_ips.shuffling import low_pass
from napari_ips.training.images import ImagePool, TrainingImage, load_images, measured_noise
from napari_ips.training.quality import sharpness
from napari_ips.training.reading import find_files


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


def test_an_image_named_twice_is_taken_once_and_hidden_files_never(folder, monkeypatch):
    (folder / "._camera.png").write_bytes(b"of another system")
    monkeypatch.chdir(folder)
    found = find_files([folder, folder / "camera.png", Path("deeper"), Path("camera.png")])
    assert found == find_files([folder])
    assert len(found) == 5
    assert found == sorted(found)


def test_zarr_is_found_under_any_name_and_not_searched(tmp_path):
    for name in ("plain", "deeper/IMAGE.ZARR", ".hidden.zarr"):
        store = tmp_path / name
        group = zarr.open_group(store, mode="w")
        group.create_array("0", data=data.camera()[:64, :64])
        Image.fromarray(data.coins()).save(store / "thumbnail.png")
    expected = [tmp_path / "deeper" / "IMAGE.ZARR", tmp_path / "plain"]
    assert find_files([tmp_path]) == expected
    assert find_files([tmp_path / "plain"]) == expected[1:]


def test_an_image_too_large_for_the_memory_is_left_out(folder, monkeypatch):
    true_range = IntensityRange.of

    def short(image):
        if image.shape[1:] == data.coins().shape:
            raise MemoryError
        return true_range(image)

    monkeypatch.setattr(IntensityRange, "of", short)
    pool = load_images(settings(folder))
    reasons = {Path(name).name: why for name, why in pool.rejected}
    assert reasons.keys() == {"coins.jpg", "pages.tif"}
    assert all(why.startswith("too large for the memory") for why in reasons.values())


def test_a_folder_without_usable_images_is_refused(tmp_path):
    Image.fromarray(np.zeros((99, 99), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(IPSError, match="None of 1 images"):
        load_images(settings(tmp_path))
    (tmp_path / "void").mkdir()
    with pytest.raises(IPSError, match="No images were found"):
        load_images(settings(tmp_path / "void"))
    with pytest.raises(IPSError, match="does not exist"):
        load_images(settings(tmp_path / "nowhere"))


def test_sharpness_falls_with_blur():
    image = torch.from_numpy(data.camera().astype(np.float32) / 255)[None, None]
    values = [sharpness(low_pass(image, "mean", k)[0].numpy()) for k in (1, 3, 9, 31)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.1
    assert values[-1] < 0.06


def test_noise_is_empty_and_not_sharp(rng):
    noise = rng.normal(0.5, 0.1, (1, 128, 128)).astype(np.float32)
    assert sharpness(noise) == 0.0
    camera = data.camera()[None, 150:278, 150:278].astype(np.float32) / 255
    assert sharpness(camera + 0.2 * (noise - 0.5)) > 0.1


def white_around(image: np.ndarray, edge: int) -> np.ndarray:
    return np.pad(image, edge, constant_values=255)


def test_a_saturated_image_is_left_out_and_a_white_background_is_not(tmp_path, rng):
    shown = data.camera()[100:228, 100:228]
    Image.fromarray(white_around(shown, 100)).save(tmp_path / "background.png")
    blown = shown.copy()
    blown[rng.random(blown.shape) < 0.8] = 255
    Image.fromarray(blown).save(tmp_path / "blown.png")
    dark = np.pad(data.coins()[:128, :128], 40)
    Image.fromarray(dark).save(tmp_path / "fluorescence.png")
    pool = load_images(settings(tmp_path))
    assert {Path(image.name).name for image in pool.images} == {
        "background.png", "fluorescence.png",
    }  # fmt: skip
    ((name, reason),) = pool.rejected
    assert Path(name).name == "blown.png"
    assert reason == "saturated: everywhere more than 50% of the pixels"
    assert load_images(settings(tmp_path, max_saturated=1.0)).rejected == ()


def test_saturated_crops_are_drawn_again(tmp_path):
    Image.fromarray(white_around(data.camera()[:256, :256], 100)).save(tmp_path / "a.png")
    strict, lax = (
        load_images(settings(tmp_path, max_saturated=share)).draw(
            40, 64, np.random.default_rng(0)
        )
        for share in (0.2, 1.0)
    )
    white = [(np.isclose(crops, crops.max())).mean((1, 2, 3)) for crops in (strict, lax)]
    assert (white[0] > 0.2).mean() < 0.1 < (white[1] > 0.2).mean()


def test_an_image_of_one_value_is_empty_and_not_saturated():
    image = np.full((1, 64, 64), 7, np.uint8)
    assert TrainingImage("flat", image, IntensityRange.of(image)).top == float("inf")


def test_of_a_pyramid_only_the_full_resolution_is_read(tmp_path):
    group = zarr.open_group(tmp_path / "image.zarr", mode="w")
    for level in (0, 1):
        group.create_array(str(level), data=data.camera()[:: level + 1, :: level + 1])
    levels = [
        {
            "path": str(n),
            "coordinateTransformations": [{"type": "scale", "scale": [n + 1.0, n + 1.0]}],
        }
        for n in (0, 1)
    ]
    axes = [{"name": name, "type": "space"} for name in "yx"]
    multiscales = [{"name": "", "axes": axes, "datasets": levels}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    pool = load_images(settings(tmp_path))
    ((plane,),) = [image.data for image in pool.images]
    np.testing.assert_array_equal(plane, data.camera())


@pytest.mark.parametrize("level", [0.02, 0.04, 0.06])
def test_the_noise_to_add_is_four_times_that_of_the_images(tmp_path, rng, level):
    for n, clean in enumerate((data.camera(), data.cell(), data.chelsea()[..., 1])):
        # At half the resolution they have hardly any noise of their own.
        image = downscale_local_mean(clean[:300, :300] / 255, (2, 2))
        image = (image - image.min()) / np.ptp(image)
        image += level * np.sqrt(0.3 + 0.7 * image) * rng.standard_normal(image.shape)
        tifffile.imwrite(tmp_path / f"{n}.tif", (9000 * image + 3000).astype(np.uint16))
    pool = load_images(settings(tmp_path))
    # Noise widens the range of an image.
    assert measured_noise(pool) == pytest.approx(4 * level, rel=0.2)


def test_clean_images_get_little_noise_and_the_noisiest_are_bounded(folder, tmp_path, rng):
    assert 0.01 <= measured_noise(load_images(settings(folder))) < 0.06
    smooth = 40 * np.add.outer(np.arange(192), np.arange(192)) % 3000
    smooth[::16] = 0
    tifffile.imwrite(tmp_path / "clean.tif", smooth.astype(np.uint16))
    assert measured_noise(load_images(settings(tmp_path / "clean.tif"))) == 0.01
    grain = data.camera() / 255 + 0.2 * rng.standard_normal((512, 512))
    image = TrainingImage("grain", grain[None], IntensityRange(0.0, 1.0))
    assert measured_noise(ImagePool((image,), (), 0.06)) == 0.3


@pytest.mark.parametrize("edge, enough", [(150, False), (130, False), (320, True)])
def test_room_for_a_handful_of_crops_is_needed(tmp_path, edge, enough):
    for number in range(2):
        tifffile.imwrite(tmp_path / f"{number}.tif", data.camera()[:edge, 60 : 60 + edge])
    if enough:
        assert len(load_images(settings(tmp_path, crop_size=128)).images) == 2
        return
    with pytest.raises(IPSError, match="hold 2 of the 5 crops of 128 x 128"):
        load_images(settings(tmp_path, crop_size=128))
