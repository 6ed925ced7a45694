"""What the training widget shows of the images before anybody trains."""

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_ips import TrainConfig
from napari_ips.simulation import demo_image
from napari_ips.training.quality import Quality
from napari_ips.training.reading import ImageFacts
from napari_ips.training.survey import CropSample, ImageSurvey, survey_images
from napari_ips.widgets.train.contact_sheet import ContactSheet


@pytest.fixture
def sheet(qtbot):
    sheet = ContactSheet()
    qtbot.addWidget(sheet)
    sheet.set_min_sharpness(0.06)
    sheet.set_max_saturated(0.5)
    return sheet


def crop(sharpness, saturated=0.0):
    pixels = np.random.default_rng(0).random((128, 128), np.float32)
    return CropSample("/data/cells.tif, page 2", pixels, Quality(sharpness, saturated))


def survey(*crops, images=None):
    config = TrainConfig(images=("cells.tif",), output="w.safetensors", minutes=1)
    fact = ImageFacts("cells.tif", (512, 512), 0, "uint8", Quality(0.2, 0.0))
    return ImageSurvey(config, images or (fact,), crops, 0.03)


@pytest.fixture
def mixed():
    """Five crops that are sharp, in any order, and one of every other kind."""
    sharp = [crop(0.1 + n / 100) for n in range(5)]
    return survey(crop(0.03), *sharp, crop(0.0), crop(0.3, saturated=0.8))


def words(sheet):
    return [sheet.crops.item(n).text() for n in range(sheet.crops.count())]


def frame(sheet, row):
    picture = sheet.crops.item(row).icon().pixmap(sheet.crops.iconSize()).toImage()
    return picture.pixelColor(0, picture.height() // 2).name()


def test_sharp_crops_come_first_and_others_say_why_not(sheet, mixed):
    sheet.show_survey(mixed)
    assert words(sheet) == [
        "0.14", "0.13", "0.12", "0.11", "0.10", "saturated", "soft", "empty",
    ]  # fmt: skip
    assert sheet.counted.text().startswith("5 of 8 crops used")
    frames = [frame(sheet, row) for row in range(8)]
    assert len(set(frames[:5])) == 1
    assert len(set(frames)) == 4
    assert "cells.tif, page 2" in sheet.crops.item(0).toolTip()


def test_the_threshold_judges_at_once(sheet, mixed, qtbot):
    sheet.show_survey(mixed)
    with qtbot.waitSignal(sheet.threshold_changed, timeout=1000) as told:
        sheet.slider.setValue(0.12)
    assert told.args == [pytest.approx(0.12)]
    assert sheet.counted.text().startswith("3 of 8 crops used")
    assert words(sheet)[3:] == ["saturated", "soft", "soft", "soft", "empty"]
    assert "Only 3 of 8 crops are sharp" in sheet.problem
    sheet.slider.setValue(0.06)
    assert sheet.problem == ""
    sheet.set_max_saturated(1.0)
    assert sheet.counted.text().startswith("6 of 8 crops used")


def test_a_threshold_is_kept_as_it_was_given(sheet):
    for value in (0.0123456789, 0.9):
        sheet.set_min_sharpness(value)
        assert sheet.min_sharpness == value
    sheet.slider.setValue(0.2)
    assert sheet.min_sharpness == pytest.approx(0.2)


def test_images_that_are_left_out_are_listed_with_the_reason(sheet):
    facts = [
        ImageFacts("/data/a.tif", (512, 512), 0, "uint8", Quality(0.2, 0.0)),
        ImageFacts("/data/b.tif", (512, 512), 0, "uint8", Quality(0.1, 0.0)),
        ImageFacts("/data/c.tif", flaw="cannot be read"),
        ImageFacts("/data/d.tif", flaw="/data/d.tif is damaged."),
    ]
    sheet.show_survey(survey(crop(0.2), images=tuple(facts)))
    assert sheet.left_out.text() == "2 left out"
    assert sheet.reasons.text() == "c.tif: cannot be read\nd.tif is damaged."
    sheet.slider.setValue(0.15)
    assert sheet.left_out.text() == "3 left out"
    assert "b.tif: soft" in sheet.reasons.text()
    assert "1 usable" in sheet.summary.text()


def test_many_reasons_are_cut_short(sheet):
    facts = tuple(ImageFacts(f"{n}.tif", flaw="cannot be read") for n in range(200))
    sheet.show_survey(survey(images=facts))
    assert sheet.reasons.text().endswith("and 150 more")
    assert sheet.crops.isHidden()
    assert sheet.problem


def test_crops_of_real_images_are_shown_as_they_are(sheet):
    config = TrainConfig(images=(), output="w.safetensors", minutes=1, crop_size=64)
    found = survey_images(config, [("gravel", demo_image("gravel"))], count=6)
    sheet.show_survey(found)
    assert sheet.crops.count() == 6
    picture = sheet.crops.item(0).icon().pixmap(sheet.crops.iconSize()).toImage()
    shown = {picture.pixelColor(x, 30).lightness() for x in range(8, 54)}
    assert len(shown) > 5
    assert sheet.crops.item(0).flags() == Qt.ItemFlag.ItemIsEnabled


def test_nothing_is_shown_of_no_images(sheet, mixed):
    sheet.show_survey(mixed)
    sheet.clear(problem="There is no file a.tif.")
    assert sheet.problem == "There is no file a.tif."
    for part in (sheet.summary, sheet.crops, sheet.slider, sheet.left_out):
        assert part.isHidden()
