"""What users get for the time they give: fast, balanced, best."""

import numpy as np
import pytest

from napari_ips import FuseConfig, fuse_stack, simulate_stack
from napari_ips.config import QUALITIES
from napari_ips.evaluation.metrics import psnr
from napari_ips.simulation import demo_image


@pytest.fixture(scope="module")
def simulated():
    return simulate_stack(demo_image("gravel")[:256, :256], 5, relief="tilt", seed=1)


def fuse(stack, quality):
    return fuse_stack(stack, config=FuseConfig(**QUALITIES[quality]))


def test_more_time_is_never_much_worse(simulated):
    found = {q: psnr(fuse(simulated.stack, q).fused, simulated.truth) for q in QUALITIES}
    assert found["fast"] > 30
    assert found["balanced"] > found["fast"] + 1
    assert found["best"] > found["balanced"] - 0.1


def test_best_does_not_depend_on_the_order_of_z(simulated):
    there = fuse(simulated.stack, "best")
    back = fuse(simulated.stack[::-1], "best")
    assert np.mean(there.index == 4 - back.index) > 0.999
    np.testing.assert_allclose(there.fused.astype(int), back.fused, atol=1)


def test_balanced_is_the_default():
    assert FuseConfig(**QUALITIES["balanced"]) == FuseConfig()
