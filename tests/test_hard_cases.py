"""Noise, and places in which nothing is in focus; the script that measures both."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import data

from napari_ips import FuseConfig, fuse_stack

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_hard_cases.py"


@pytest.fixture(scope="module")
def script():
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("bench_hard_cases", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rms(values):
    return float(np.sqrt(np.square(values, dtype=float).mean()))


@pytest.mark.parametrize(("slices", "noise"), [(2, 0.05), (6, 0.02), (12, 0.05)])
def test_slices_that_differ_by_noise_alone_give_their_mean(slices, noise):
    image = data.coins()[:96, :96].astype(np.float32)
    sigma = 255 * noise
    rng = np.random.default_rng(0)
    stack = image + rng.normal(0, sigma, (slices, *image.shape)).astype(np.float32)
    result = fuse_stack(stack, config=FuseConfig(device="cpu"))
    assert rms(result.fused - stack.mean(0)) < 0.12 * sigma
    assert np.median(result.confidence) < 0.02
    assert np.percentile(result.confidence, 99) < 0.15


@pytest.mark.parametrize(
    ("dark", "noise", "mode"), [(False, 0.0, "hard"), (True, 0.01, "soft")]
)
def test_an_empty_background_gets_no_light_of_what_is_beside_it(script, dark, noise, mode):
    scene = script.halo_scene(dark=dark, noise=noise)
    # The upper half: a disc and two cells, in focus in the slices 3, 1 and 5.
    stack = scene.simulated.stack[1::2, :128]
    truth, objects = scene.simulated.truth[:128], scene.objects[:128]
    fused = fuse_stack(stack, config=FuseConfig(device="cpu", mode=mode)).fused
    mean, worst = script.halo(fused, truth, objects)
    assert abs(mean) < 0.1
    assert abs(worst) < 0.8
    # The blurred light is there: the mean of the slices has 25 times as much.
    assert script.halo(stack.mean(0), truth, objects)[1] > 15


def test_the_halo_is_the_excess_in_percent_of_the_contrast(script):
    scene = script.halo_scene()
    truth, objects = scene.simulated.truth, scene.objects
    assert script.halo(truth, truth, objects) == (0, 0)
    distance = ndimage.distance_transform_edt(objects == 0)
    ring = (np.rint(distance) == 7) & (objects == 0)
    contrast = float(truth.max()) - float(np.median(truth))
    raised = truth - 0.1 * contrast * ring
    mean, worst = script.halo(raised, truth, objects)
    assert worst == pytest.approx(-10, rel=1e-6)
    measured = (distance >= 3) & (distance <= 20)
    assert mean == pytest.approx(-10 * ring.sum() / measured.sum(), rel=1e-6)


def test_each_object_is_sharp_in_a_slice_of_its_own_and_nowhere_else(script):
    scene = script.halo_scene()
    stack, truth = scene.simulated.stack.astype(float), scene.simulated.truth.astype(float)
    for number in range(1, scene.objects.max() + 1):
        inside = scene.objects == number
        errors = [rms((image - truth)[inside]) for image in stack]
        expected = int(scene.simulated.height[inside].max())
        assert int(np.argmin(errors)) == expected
        assert sorted(errors)[1] > 2 * min(errors)


def test_tables_tell_the_lead_of_the_soft_mode_over_the_best_of_the_others(script):
    values = {"ips": 31.0, "ips-hard": 33.0, "mean": 30.0, "max": 20.0, "best-slice": 50.0}
    figures = {
        (f"noise-{percent}", "coins", method): value
        for percent in script.NOISES
        for method, value in values.items()
    }
    lines = list(script.noise_tables(figures))
    assert lines[-1].count("+1.00 (mean)") == len(script.NOISES)
    assert "| ips | 31.00 |" in "\n".join(lines)


@pytest.fixture
def halo_data(script, monkeypatch, tmp_path):
    """A folder with one scene."""
    monkeypatch.setattr(script, "product", lambda *_: [("bright", 0)])
    monkeypatch.setattr(script, "WIDE_BLUR", script.HALO_BLUR)
    script.make_halo_data(tmp_path / "data")
    return tmp_path / "data"


def call(script, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["bench_hard_cases.py", *map(str, words)])
    script.main()


def test_methods_that_fail_leave_a_gap_in_table_and_picture(
    script, monkeypatch, halo_data, tmp_path, capsys
):
    # Copies the first slice of the first stack that it gets, and then no more.
    once = tmp_path / "once.py"
    once.write_text(
        "import pathlib, shutil, sys\n"
        "pathlib.Path(sys.argv[3]).mkdir()\n"
        "shutil.copy(sys.argv[1] + '/0000.png', sys.argv[2])\n"
    )
    line = f"once={sys.executable} {once} {{input}} {{output}} {tmp_path / 'called'}"
    report = tmp_path / "report"
    options = ["--methods", "mean", "--command", line]
    call(script, monkeypatch, "halo", halo_data, "-o", report, *options)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| mean", "| once"]
    assert rows[3].endswith("| - |")
    width = Image.open(report / "halo.png").size[0]
    assert width == 3 * script.SIZE


def test_figures_of_an_earlier_report_are_not_taken_for_new(
    script, monkeypatch, halo_data, tmp_path, capsys
):
    report = tmp_path / "report"
    call(script, monkeypatch, "halo", halo_data, "-o", report, "--methods", "max")
    capsys.readouterr()
    for method in ("mean", "meen"):
        with pytest.raises(SystemExit):
            call(script, monkeypatch, "halo", halo_data, "-o", report, "--methods", method)
        assert "max" not in capsys.readouterr().out


def test_a_stack_that_was_not_finished_is_made_again(script, monkeypatch, halo_data):
    place = halo_data / "halo" / "bright-noise-0"
    untouched = (place / "stack.tif").stat().st_mtime_ns
    script.make_halo_data(halo_data)
    assert (place / "stack.tif").stat().st_mtime_ns == untouched
    for name in ("info.json", "truth.tif", "objects.npy"):
        (place / name).unlink()
    script.make_halo_data(halo_data)
    assert {path.name for path in place.iterdir()} == {
        "stack.tif",
        "truth.tif",
        "height.npy",
        "info.json",
        "objects.npy",
    }
