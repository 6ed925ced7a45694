"""What users get for the time they give: fast, balanced, best."""

import numpy as np
import pytest

from napari_ips import FuseConfig, fuse_stack, simulate_stack
from napari_ips.config import QUALITIES
from napari_ips.evaluation.metrics import psnr
from napari_ips.evaluation.speed.specimen import Specimen
from napari_ips.simulation import demo_image
from napari_ips.weights import load_weights


@pytest.fixture(scope="module")
def simulated():
    return simulate_stack(demo_image("gravel")[:256, :256], 5, relief="tilt", seed=1)


@pytest.fixture(scope="module")
def beside_a_dark_border():
    """A stack that is in focus in the slices 3 to 6; its light spreads to the left."""
    return Specimen(1024, 20).array()[:, :256, :192]


def fuse(stack, quality):
    return fuse_stack(stack, config=FuseConfig().changed({}, quality))


def test_more_time_is_never_much_worse(simulated):
    found = {q: psnr(fuse(simulated.stack, q).fused, simulated.truth) for q in QUALITIES}
    assert found["fast"] > 30
    assert found["fast"] > found["balanced"] - 1
    assert found["best"] > found["balanced"] - 0.1


def test_best_does_not_depend_on_the_order_of_z(simulated):
    there = fuse(simulated.stack, "best")
    back = fuse(simulated.stack[::-1], "best")
    assert np.mean(there.index == 4 - back.index) > 0.999
    np.testing.assert_allclose(there.fused.astype(int), back.fused, atol=1)


def test_balanced_is_the_default():
    assert FuseConfig().changed({}, "balanced") == FuseConfig()


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("weights", ["default", "fast", "mine"])
def test_settings_know_their_quality(quality, weights):
    chosen = FuseConfig(weights=weights, mode="hard").changed({}, quality)
    assert (chosen.quality, chosen.mode) == (quality, "hard")
    assert chosen.changed({"skip": not chosen.skip}).quality is None


def test_fast_takes_the_small_network_or_with_own_weights_half_the_resolution():
    def fast(**values):
        chosen = FuseConfig().changed(values, "fast")
        return chosen.weights, chosen.finest

    assert fast() == fast(weights="fast") == ("fast", 1)
    assert fast(weights="default") == ("default", 2)
    assert fast(weights="mine") == ("mine", 2)
    assert FuseConfig().changed({"weights": "fast"}, "best").weights == "fast"
    assert fast(weights="mine", finest=1) == ("mine", 1)
    small, full = (load_weights(name)[0] for name in ("fast", "default"))
    sizes = [sum(p.numel() for p in network.parameters()) for network in (small, full)]
    assert sizes[0] < sizes[1] / 3


@pytest.mark.parametrize("quality", ["fast", "balanced"])
def test_glow_is_not_taken_for_sharp(beside_a_dark_border, quality):
    """A blurred border may be darkened, but not every border that is dark is blurred."""
    index = fuse(beside_a_dark_border, quality).index
    assert np.mean(index[:, :24] > 9) < 0.01
