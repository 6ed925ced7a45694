"""Fusions that are killed at any moment, and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from volumes import noise, tiny_weights, tree

PROGRAM = Path(__file__).with_name("killed.py")
TILES = 4

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")


def check_kills(folder: Path, name: str, before: str, shares: list[float]) -> None:
    """Kill fusions after a share of their work, and compare what comes of them."""
    tiny_weights(folder)
    np.save(folder / "stack.npy", noise(3, 530, 600))
    run = subprocess.run(
        [sys.executable, PROGRAM, folder, name, before, *map(str, shares)],
        check=True,
        capture_output=True,
        text=True,
    )
    _, *kills = map(json.loads, run.stdout.splitlines())
    expected = tree(folder / "whole")
    assert any(Path(file).parts[0] == name for file in expected)
    for number, kill in enumerate(kills):
        place = folder / str(number)
        assert tree(place) == expected, kill
        assert sorted(os.listdir(place)) == sorted([name, "i.tif"]), kill
        assert kill["left"] + kill["tiles"] == TILES or kill["tiles"] == 0, kill
    # They were killed before, between and after the tiles.
    assert {kill["tiles"] for kill in kills} >= {0, TILES}
    assert len({kill["tiles"] for kill in kills}) > 2


def test_killed_and_resumed_is_as_if_undisturbed(tmp_path):
    check_kills(tmp_path, "a.ome.zarr", "new", [0.0, 0.38, 0.45, 0.6, 0.8, 0.95])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "before"),
    [("a.ome.zarr", "new"), ("a.ome.zarr", "overwrite"), ("a.ome.tif", "overwrite")],
)
def test_killed_at_many_moments(tmp_path, name, before):
    shares = [n / 20 for n in range(20)] + [n / 1000 for n in range(970, 1001, 3)]
    check_kills(tmp_path, name, before, shares)
