"""What the tests share."""

from __future__ import annotations

import os

# Before torch is loaded: threads that spin while they wait slow down a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Before pytest-qt is set up, which by itself takes PySide6 first, unlike napari.
os.environ.setdefault("PYTEST_QT_API", os.environ.get("QT_API") or "pyqt6")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# A slow or busy machine is no failure, and the same examples run every time.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("default")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def stack(rng: np.random.Generator) -> np.ndarray:
    """Five grey slices of 12 bits."""
    return rng.integers(0, 4000, (5, 24, 31)).astype(np.uint16)


@pytest.fixture
def colour(rng: np.random.Generator) -> np.ndarray:
    """Five slices in colour."""
    return rng.integers(0, 256, (5, 24, 31, 3)).astype(np.uint8)
