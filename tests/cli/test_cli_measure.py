import json

import numpy as np
import pytest

from napari_ips.io import read_image, read_stack, write_image

SHARP = np.random.default_rng(0).integers(0, 250, (48, 60)).astype(np.uint8)


def test_demo_writes_everything_and_again(success, tmp_path, fusion, monkeypatch):
    from napari_ips import simulation

    small = simulation.demo_image()[100:228, 100:260]
    monkeypatch.setattr(simulation, "demo_image", lambda: small)
    folder = tmp_path / "demo"
    text = success("demo", "-o", folder)
    for name in ("fused", "max projection", "mean projection", "best single slice"):
        assert name in text
    told = json.loads(success("demo", "-o", folder, "--json"))
    assert sorted(told["files"]) == sorted(
        ["stack", "truth", "fused", "index", "confidence", "panel"]
    )
    truth, stack = read_image(folder / "truth.tif"), read_stack(folder / "stack.tif")
    assert stack.data.shape[1:] == truth.shape
    panel = read_image(folder / "panel.png")
    assert panel.shape[1] > panel.shape[0] > 600
    assert panel.std() > 30
    # The stand-in fuses to the first slice, which cannot beat the best single one.
    figures = told["figures"]
    assert figures["fused"]["psnr"] <= figures["best single slice"]["psnr"]


def test_demo_leaves_foreign_folders_alone(failure, tmp_path, fusion):
    (tmp_path / "thesis.txt").write_text("mine")
    assert "no demo wrote" in failure("demo", "-o", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert "is a file" in failure("demo", "-o", tmp_path / "thesis.txt")


@pytest.fixture
def simulate(success, tmp_path):
    """Simulate a small stack in stacks/one; return what the command prints."""

    def run_command(*options):
        image = tmp_path / "sharp.png"
        write_image(image, SHARP, overwrite=True)
        folder = tmp_path / "stacks" / "one"
        return success("simulate", image, "-o", folder, "--slices", "4", *options)

    return run_command


def test_simulated_stack_can_be_measured(success, simulate, tmp_path):
    told = json.loads(simulate("--relief", "tilt", "--json"))
    assert told["shape"] == [4, 48, 60]
    folder = tmp_path / "stacks" / "one"
    np.testing.assert_array_equal(read_image(folder / "truth.tif"), SHARP)
    options = ["--methods", "window-energy, mean", "--json"]
    told = json.loads(success("benchmark", tmp_path / "stacks", *options))
    selected, mean = told["means"]
    assert (selected["method"], selected["dataset"]) == ("window-energy", "stacks")
    assert selected["psnr"] > mean["psnr"]
    assert selected["height_error"] < 1.0
    assert "height_error" not in mean
    assert [row["method"] for row in told["rows"]] == ["window-energy", "mean"]


def test_benchmark_prints_a_table(success, simulate, tmp_path):
    simulate()
    text = success("benchmark", tmp_path / "stacks", "--methods", "max,best-slice")
    assert "best-slice" in text
    assert "PSNR" in text


def test_identical_images_are_inf_in_table_and_json(success, tmp_path):
    for part in ("A", "B", "GT"):
        (tmp_path / part).mkdir()
        write_image(tmp_path / part / "x.png", SHARP)
    assert " inf " in success("benchmark", tmp_path, "--methods", "mean")
    out = success("benchmark", tmp_path, "--methods", "mean", "--json")
    told = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert told["rows"][0]["psnr"] == "inf"


def test_benchmark_failures(failure, simulate, tmp_path):
    assert "is not a folder" in failure("benchmark", tmp_path / "none")
    simulate()
    folder = tmp_path / "stacks"
    assert "Unknown method: foo" in failure("benchmark", folder, "--methods", "foo")
    assert "--channel" in failure("benchmark", folder, "--channel", "red")
    assert "--reference" in failure("benchmark", folder, "--reference", "ips-raw")
    twice = ["--methods", "max", "--fused", f"max={tmp_path}"]
    assert "there is no one.png" in failure("benchmark", folder, *twice)
    write_image(tmp_path / "one.png", SHARP)
    assert "two methods max" in failure("benchmark", folder, *twice)
    assert "no program" in failure(
        "benchmark", folder, "--command", "x=y- {input} {output}"
    )


def test_simulate_failures(failure, simulate, tmp_path):
    simulate()
    image, folder = tmp_path / "sharp.png", tmp_path / "stacks" / "one"
    assert "--overwrite" in failure("simulate", image, "-o", folder)
    simulate("--overwrite")
    new = tmp_path / "new"
    assert "--dtype" in failure("simulate", image, "-o", new, "--dtype", "int3")
    assert "heap" in failure("simulate", image, "-o", new, "--relief", "heap")
    assert "none.png" in failure("simulate", tmp_path / "none.png", "-o", new)
    assert not new.exists()
