"""The command line with the real core behind it, on small images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from napari_ips import fuse_stack
from napari_ips.cli import app
from napari_ips.weights import load_weights


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_simulate_fuse_and_benchmark(tmp_path):
    Image.fromarray(data.coins()[:64, :80]).save(tmp_path / "sharp.png")
    run("simulate", tmp_path / "sharp.png", "-o", tmp_path / "sets" / "one", "--slices", 4)
    stack = tmp_path / "sets" / "one" / "stack.tif"
    maps = {name: tmp_path / f"{name}.tif" for name in ("index-map", "confidence", "depth")}
    options = [part for name, path in maps.items() for part in (f"--{name}", path)]
    told = json.loads(run("fuse", stack, "-o", tmp_path / "fused.tif", *options, "--json"))
    assert told["positions"][0]["shape"] == [1, 1, 4, 64, 80]
    expected = fuse_stack(tifffile.imread(stack))
    assert np.array_equal(tifffile.imread(tmp_path / "fused.tif"), expected.fused)
    assert np.array_equal(tifffile.imread(maps["index-map"]), expected.index)
    assert np.array_equal(tifffile.imread(maps["confidence"]), expected.confidence)
    assert np.array_equal(tifffile.imread(maps["depth"]), expected.depth)
    table = run("benchmark", tmp_path / "sets", "--methods", "ips,ips-hard,ips-raw")
    assert "ips-raw" in table


def test_train_and_fuse_with_the_new_weights(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(data.camera()).save(folder / "a.png")
    Image.fromarray(data.coins()).save(folder / "b.png")
    weights = tmp_path / "mine.safetensors"
    run(
        "train", folder, "-o", weights, "--iterations", 1, "--crop-size", 32,
        "--batch-size", 1, "--set", "network.mamba_blocks=1", "--set", "network.width=4",
    )  # fmt: skip
    network, card = load_weights(weights)
    assert (card["iterations"], network.config.width) == ("1", 4)
    fused = tmp_path / "fused.png"
    run("fuse", folder / "a.png", folder / "a.png", "-o", fused, "--weights", weights)
    assert np.array_equal(np.asarray(Image.open(fused)), data.camera())
