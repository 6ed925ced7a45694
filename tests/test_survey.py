"""The survey tells before a training what it would find in the images."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from napari_ips import IPSError, NetworkConfig, TrainConfig
from napari_ips.errors import Stopped
from napari_ips.training.images import load_images, measured_noise
from napari_ips.training.quality import Quality
from napari_ips.training.reading import ImageFacts
from napari_ips.training.survey import CropSample, ImageSurvey, survey_images

shares = st.floats(0, 1)


def soften(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image.astype(float), 6).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two sharp images, one of them in colour, one soft, and one that is damaged."""
    Image.fromarray(data.camera()).save(tmp_path / "a.png")
    Image.fromarray(soften(data.camera())).save(tmp_path / "b_soft.png")
    Image.fromarray(data.astronaut()[:400]).save(tmp_path / "c.png")
    (tmp_path / "d_broken.tif").write_bytes(b"II*\0")
    return tmp_path


def settings(*images, **values) -> TrainConfig:
    run = {"images": images, "output": "w.safetensors", "iterations": 1, "crop_size": 64}
    return TrainConfig(**(run | values))


def test_the_survey_names_all_images_and_agrees_with_what_training_loads(folder):
    found = survey_images(settings(folder))
    pool = load_images(settings(folder))
    assert [image.name for image in found.usable] == [image.name for image in pool.images]
    assert found.rejected == pool.rejected
    assert found.noise == measured_noise(pool)
    assert found.problem == ""
    assert found.summary.splitlines()[:3] == [
        "4 images: 2 usable, 2 left out.",
        "From 512 x 400 to 512 x 512 pixels.",
        "8 bit; 2 grey, 1 RGB, taken as luminance.",
    ]


def test_crops_are_spread_over_all_images_even_soft_ones(folder):
    found = survey_images(settings(folder), count=30)
    names = [crop.image.rpartition("/")[2] for crop in found.crops]
    assert names == ["a.png"] * 10 + ["b_soft.png"] * 10 + ["c.png"] * 10
    for crop in found.crops:
        assert crop.pixels.shape == (64, 64)
        assert crop.pixels.dtype == np.float32
        assert 0 <= crop.pixels.min() <= crop.pixels.max() <= 1
    verdicts = {crop.verdict(0.06, 0.5) for crop in found.crops if "soft" in crop.image}
    assert verdicts <= {"soft", "empty"}
    assert 0.2 < found.usable_share(0.06, 0.5) < 0.67


def test_the_same_images_give_the_same_crops(folder):
    first, second = (survey_images(settings(folder), count=7) for _ in range(2))
    assert len(first.crops) == 7
    for one, other in zip(first.crops, second.crops, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("pages", [1, 3, 10, 11, 50])
def test_many_pages_share_the_crops_evenly(tmp_path, pages):
    page = data.camera()[150:230, 150:230]
    tifffile.imwrite(
        tmp_path / "pages.tif", np.stack([page] * pages), photometric="minisblack"
    )
    found = survey_images(settings(tmp_path), count=10)
    assert len(found.images) == pages
    names = [crop.image for crop in found.crops]
    counts = [names.count(name) for name in set(names)]
    assert sum(counts) == 10
    assert max(counts) - min(counts) <= 1
    assert len(counts) == min(pages, 10)


@given(shares, shares, shares, shares)
def test_stricter_thresholds_never_make_a_crop_sharp(sharpness, saturated, least, most):
    quality = Quality(sharpness, saturated)
    sharp = quality.verdict(least, most) == "sharp"
    assert sharp == (sharpness >= least and sharpness > 0 and saturated <= most)
    if not sharp:
        assert quality.verdict(min(1.0, least + 0.1), most * 0.9) != "sharp"


def only(tmp_path, *images: np.ndarray, **values):
    for n, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{n}.png")
    return survey_images(settings(tmp_path, **values))


def test_blurred_images_are_a_finding_and_not_an_error(tmp_path):
    found = only(tmp_path, soften(data.camera()), soften(data.coins()))
    assert found.problem.startswith("None of 2 images is in focus: the sharpness is 0.0")
    assert found.problem_at(0.001, 0.5) == ""


def test_small_images_are_a_finding(tmp_path):
    found = only(tmp_path, data.camera()[:60, :60], data.coins()[:50, :90])
    assert "None of 2 images is large enough for crops of 64 pixels" in found.problem
    assert found.crops == ()
    assert found.usable_share(0.0, 1.0) == 0.0


def test_a_folder_without_images_or_with_damaged_ones_is_a_finding(tmp_path):
    assert "No images were found" in survey_images(settings(tmp_path)).problem
    (tmp_path / "broken.png").write_bytes(b"nothing")
    assert "broken.png" in survey_images(settings(tmp_path)).problem
    with pytest.raises(IPSError, match="does not exist"):
        survey_images(settings(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("sharp", "count", "enough"),
    [(0, 48, False), (4, 48, False), (5, 48, True), (2, 2, False)],
)
def test_next_to_no_sharp_crops_are_a_finding(sharp, count, enough):
    quality = [Quality(0.2 if n < sharp else 0.01, 0.0) for n in range(count)]
    crops = tuple(CropSample("a", np.zeros((64, 64), np.float32), q) for q in quality)
    image = ImageFacts("a", (512, 512), 0, "uint8", Quality(0.1, 0.0))
    found = ImageSurvey(settings(), (image,), crops, 0.01)
    assert found.usable_share(0.06, 0.5) == sharp / count
    assert (found.problem == "") == enough
    if not enough:
        assert f"Only {sharp} of {count} crops are sharp" in found.problem


def test_what_becomes_of_colours_depends_on_the_network(folder):
    wide = settings(folder, network=NetworkConfig(in_channels=3))
    assert "2 grey, repeated to 3 channels, 1 RGB, as 3 channels" in (
        survey_images(wide).summary
    )


def test_a_survey_tells_how_far_it_is_and_stops_when_asked(folder):
    told, stop = [], threading.Event()

    def watch(progress):
        told.append((progress.done, progress.total))
        if progress.done == 1:
            stop.set()

    with pytest.raises(Stopped):
        survey_images(settings(folder), stop=stop, callback=watch)
    assert told == [(0, 4), (1, 4)]
