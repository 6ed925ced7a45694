"""The program by which ``napari-ips bench`` times the opening of the fuse dock."""

from __future__ import annotations

import os
import sys

from napari_ips.evaluation.running import run_program


def test_opening_the_dock_is_timed(tmp_path):
    told = tmp_path / "seconds.txt"
    settings = {"NAPARI_CONFIG": str(tmp_path / "napari.yaml")}
    command = [sys.executable, "-m", "napari_ips.widgets.opening", str(told)]
    run_program(command, "napari", timeout=120, environment=os.environ | settings)
    assert 0.01 < float(told.read_text()) < 30
