"""The rarely needed fields of the training widget, made from the settings."""

import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractSpinBox, QApplication

from napari_ips.config import NetworkConfig, TrainConfig
from napari_ips.widgets.fuse.surroundings import Surroundings
from napari_ips.widgets.train.advanced import AdvancedForm
from napari_ips.widgets.train.form import TrainForm
from napari_ips.widgets.train.state import preset_values


@pytest.fixture
def advanced(qtbot):
    form = AdvancedForm()
    qtbot.addWidget(form)
    form.set_values(preset_values("microscopy", False))
    return form


@pytest.fixture
def form(qtbot):
    form = TrainForm(ViewerModel())
    qtbot.addWidget(form)
    qtbot.addWidget(form.advanced)
    return form


def test_no_setting_is_missing_from_the_form(form):
    form.start_from.value = ""
    assert form.values().keys() == TrainConfig.model_fields.keys() - {"images", "output"}
    assert form.advanced.network.keys() == NetworkConfig.model_fields.keys()


def test_every_setting_can_be_changed_in_the_form(form):
    """Whatever a file says comes out again, so no field shows what is not there."""
    form.start_from.value = ""
    changed = TrainConfig(
        images=(),
        output="w.safetensors",
        preset="paper",
        notes="mine",
        network=NetworkConfig(
            in_channels=3,
            width=8,
            local_blocks=1,
            mamba_blocks=2,
            d_state=4,
            d_conv=2,
            expand=1,
            output="image",
            global_stride=4,
            unshuffle=1,
        ),
        start_from=None,
        z_stacks="fused",
        iterations=77,
        batch_size=9,
        crop_size=96,
        learning_rate=2e-5,
        decay_start=0.9,
        gradient_clip=0.0,
        ema_decay=0.5,
        decision_loss=0.25,
        decision_floor=0.125,
        low_pass=("median",),
        kernel_range=(5, 9),
        mask_ratio=0.1,
        coherent=0.2,
        blob_scale=(1.5, 3.25),
        both_defocused=0.4,
        surroundings=False,
        dark_border=0.6,
        overexposed=0.35,
        noise="measured",
        noise_grain=0.7,
        jpeg=0.8,
        intensity_jitter=False,
        min_sharpness=0.1,
        max_saturated=0.3,
        validation_crops=3,
        validation_interval=7,
        checkpoint_seconds=1.5,
        seed=5,
        teacher="mine.safetensors",
        teacher_share=0.25,
        precision="bfloat16",
        device="cpu",
        backend="chunked",
    )
    form.set_values(changed)
    state = form.state()
    again = state.config(changed.output, changed.images)
    assert again == changed
    plain = TrainConfig(images=(), output="w.safetensors", minutes=1)
    same = {"images", "output", "start_from"}
    for name in TrainConfig.model_fields.keys() - same:
        assert getattr(again, name) != getattr(plain, name), f"{name} is as it was"


@pytest.mark.parametrize("preset", ["paper", "microscopy"])
def test_fields_show_the_preset(advanced, preset):
    values = preset_values(preset, fine_tuned=False)
    advanced.set_values(values)
    found = advanced.values()
    assert found == {name: values[name] for name in found}


def test_fields_are_bound_as_the_settings_are(advanced):
    for name, least, most in [
        ("crop_size", 16, None),
        ("batch_size", 1, None),
        ("mask_ratio", 0.0, 1.0),
        ("noise", 0.0, 0.5),
        ("learning_rate", 1e-9, 1.0),
    ]:
        field = advanced.fields[name]
        field.put(-5)
        assert _box(field).value() == least
        if most is not None:
            field.put(5)
            assert _box(field).value() == most


def _box(field):
    return field.findChild(QAbstractSpinBox)


def test_every_field_tells_what_it_is_for(advanced):
    for name, field in advanced.fields.items():
        assert f"Setting {name}" in field.toolTip()
    assert "swap" in advanced.fields["mask_ratio"].toolTip()
    assert "network.width" in advanced.network["width"].toolTip()


def test_numbers_are_written_briefly(advanced):
    advanced.fields["learning_rate"].put(0.0003)
    assert _box(advanced.fields["learning_rate"]).text() == "0.0003"
    advanced.fields["crop_size"].put(128)
    assert _box(advanced.fields["crop_size"]).text() == "128 pixels"


def test_noise_comes_from_the_images_or_is_a_number(advanced):
    noise = advanced.fields["noise"]
    noise.put("measured")
    assert advanced.values()["noise"] == "measured"
    assert not _box(noise).isEnabled()
    noise.put(0.1)
    assert advanced.values()["noise"] == 0.1
    assert _box(noise).isEnabled()


def test_what_does_not_go_together_is_told_below_its_field(form):
    form.advanced.fields["kernel_range"].put((4, 31))
    problems = form.problems()
    assert "two odd sizes" in problems["kernel_range"]
    form.show_problems(problems)
    assert not form.advanced.notes["kernel_range"].isHidden()
    form.advanced.fields["kernel_range"].put((3, 31))
    form.advanced.fields["low_pass"].put(())
    assert "low_pass" in form.problems()


def test_the_network_can_only_be_chosen_from_scratch(form):
    assert form.advanced._network.isHidden()
    assert not form.advanced.as_the_weights.isHidden()
    form.start_from.value = ""
    assert not form.advanced._network.isHidden()
    assert form.advanced.as_the_weights.isHidden()


def test_it_is_told_what_computes(advanced):
    devices = {"cpu": "x86", "cuda:0": "A100"}
    advanced.set_surroundings(
        Surroundings({}, devices, dict.fromkeys(devices, ""), "cuda:0")
    )
    assert advanced.computes_on.text() == "cuda:0 (A100)"
    advanced.fields["device"].put("cpu")
    assert advanced.computes_on.text() == "cpu (x86)"
    assert advanced.device_problem() == ""


def test_the_wheel_scrolls_and_changes_nothing(advanced):
    box = _box(advanced.fields["batch_size"])
    event = QWheelEvent(
        QPointF(5, 5),
        QPointF(5, 5),
        QPoint(0, 120),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(box, event)
    assert box.value() == 4


def test_a_change_is_told_once(advanced, qtbot):
    with qtbot.waitSignal(advanced.changed, timeout=1000):
        _box(advanced.fields["seed"]).setValue(3)
