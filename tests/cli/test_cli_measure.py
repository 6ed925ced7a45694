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


def test_simulated_stack_is_written(simulate, tmp_path):
    told = json.loads(simulate("--relief", "tilt", "--json"))
    assert told["shape"] == [4, 48, 60]
    folder = tmp_path / "stacks" / "one"
    np.testing.assert_array_equal(read_image(folder / "truth.tif"), SHARP)


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
