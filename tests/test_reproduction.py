"""The script that repeats the paper's ablations, on images of noise and in few steps."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import data

from napari_ips.intensity import IntensityRange
from napari_ips.weights import load_weights, read_card

SCRIPT = Path(__file__).parents[1] / "scripts" / "reproduce_paper.py"
# What each training is to differ in from the shared one, and in nothing else.
DIFFERENCES = {
    "shared": {},
    "no-global": {"mamba_blocks": 0},
    "no-local": {"local_blocks": 0},
    "median": {"low_pass": ["median"]},
    "gaussian": {"low_pass": ["gaussian"]},
    "p0.1": {"mask_ratio": 0.1},
    "p0.3": {"mask_ratio": 0.3},
    "p0.7": {"mask_ratio": 0.7},
    "p0.9": {"mask_ratio": 0.9},
}


@pytest.fixture
def script(monkeypatch):
    """The script as a module, with a network and crops that take no time."""
    spec = importlib.util.spec_from_file_location("reproduce_paper", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "reproduce_paper", module)
    spec.loader.exec_module(module)
    small = {"width": 4, "local_blocks": 1, "mamba_blocks": 1, "d_state": 4}
    monkeypatch.setattr(module, "NETWORK", module.NETWORK | small)
    quick = {"crop_size": 32, "validation_crops": 2}
    monkeypatch.setattr(module, "BUDGET", module.BUDGET | quick)
    monkeypatch.setattr(module, "VALIDATION_EDGE", 32)
    return module


@pytest.fixture
def run(script, monkeypatch, tmp_path):
    """Run the script on small images; return what it wrote."""
    tiles, pairs, output = (tmp_path / name for name in ("tiles", "pairs", "results"))
    for folder in (tiles, pairs / "A", pairs / "B", pairs / "GT"):
        folder.mkdir(parents=True)
    for k in range(3):
        truth = data.astronaut()[100 * k : 100 * k + 64, 180:252]
        soft = ndimage.gaussian_filter(truth, (2, 2, 0))
        left = np.arange(72)[:, None] < 36
        Image.fromarray(truth).save(tiles / f"{k}.png")
        Image.fromarray(truth).save(pairs / "GT" / f"{k}.png")
        Image.fromarray(np.where(left, truth, soft)).save(pairs / "A" / f"{k}.png")
        Image.fromarray(np.where(left, soft, truth)).save(pairs / "B" / f"{k}.png")

    def call(*arguments, tiles=tiles):
        words = ["reproduce_paper.py", tiles, pairs, "-o", output, *arguments]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        script.main()
        (written,) = output.glob("results*.json")
        return json.loads(written.read_text()), output

    return call


def test_nine_trainings_differ_in_what_the_tables_vary_alone(run):
    results, output = run("--iterations", 2, "--pair-count", 2)
    assert [row["run"] for row in results["runs"]] == list(DIFFERENCES)
    assert {row["seed"] for row in results["runs"]} == {0}

    def everything(name):
        card = read_card(output / f"{name}-seed0.safetensors")
        return json.loads(card["settings"]) | json.loads(card["network"])

    shared = everything("shared")
    assert shared["preset"] == "paper"
    assert (shared["output"], shared["iterations"]) == ("image", 2)
    assert (shared["low_pass"], shared["mask_ratio"]) == (["mean"], 0.5)
    for name, difference in DIFFERENCES.items():
        assert everything(name) == shared | difference
    figures = [row["pairs"] for row in results["runs"]]
    assert len({f["psnr"] for f in figures}) == len(figures)
    assert all(f["nearest_psnr"] > f["psnr"] for f in figures)
    references = results["references"]["pairs"]
    assert references["source nearest to the truth"]["psnr"] > 60
    assert 10 < references["mean of the sources"]["psnr"] < 40


def test_the_tables_stand_beside_those_of_the_paper(run):
    results, output = run("--iterations", 2, "--tables", "IV,V")
    text = (output / "results-IV-V.md").read_text()
    titles = [line.split(" | ")[0] for line in text.splitlines() if "paper" in line]
    assert titles == ["| Table IV", "| Table V"]
    median = next(row for row in results["runs"] if row["run"] == "median")
    psnr, ssim = (median["pairs"][figure] for figure in ("psnr", "ssim"))
    start = f"| median filter | 41.51 / 0.987 | {psnr:.2f} / {ssim:.3f} |"
    assert start in text


def test_more_seeds_give_mean_and_deviation(run):
    results, output = run("--iterations", 2, "--tables", "V", "--seeds", 2)
    shared = [row for row in results["runs"] if row["run"] == "shared"]
    assert [row["seed"] for row in shared] == [0, 1]
    first, second = (row["pairs"]["psnr"] for row in shared)
    mean, deviation = (first + second) / 2, abs(first - second) / math.sqrt(2)
    assert f"| {mean:.2f} ± {deviation:.2f} / " in (output / "results-V.md").read_text()


def test_a_finished_training_is_not_repeated(run, script, monkeypatch):
    before, output = run("--iterations", 2, "--tables", "V")
    (output / "median-seed0.safetensors").unlink()
    trained = []

    def train(config, **options):
        trained.append(config.output.stem)
        return original(config, **options)

    original = script.train
    monkeypatch.setattr(script, "train", train)
    after, _ = run("--iterations", 2, "--tables", "V")
    assert trained == ["median-seed0"]
    for row, former in zip(after["runs"], before["runs"], strict=True):
        assert row | {"minutes": 0} == former | {"minutes": 0}
    with pytest.raises(SystemExit, match="trained with other settings"):
        run("--iterations", 3, "--tables", "V")
    load_weights(output / "median-seed0.safetensors")


def test_weights_of_other_images_are_not_taken(run, tmp_path):
    run("--iterations", 2, "--tables", "V")
    (tmp_path / "tiles").rename(tmp_path / "others")
    with pytest.raises(SystemExit, match="other settings or images"):
        run("--iterations", 2, "--tables", "V", tiles=tmp_path / "others")


def test_right_choices_with_drifted_intensities_are_told_apart(script, rng):
    truth = rng.uniform(0, 255, (40, 40))
    other = truth + 60
    pair = script.Pair(truth, other, truth, IntensityRange(0.0, 255.0), 255.0)
    drifted = script.measure([pair], [truth + 10.0])
    assert drifted["psnr"] == pytest.approx(20 * math.log10(25.5))
    assert drifted["nearest_psnr"] == math.inf
    wrong = script.measure([pair], [truth + 40.0])
    assert wrong["nearest_psnr"] == pytest.approx(20 * math.log10(255 / 60))


def test_unknown_tables_and_runs_are_refused(run, capsys):
    for words in (("--tables", "VII"), ("--repeat", "p0.2"), ("--seeds", "0")):
        with pytest.raises(SystemExit, match="2"):
            run(*words)
    assert "'VII' is none of IV, V, VI" in capsys.readouterr().err
