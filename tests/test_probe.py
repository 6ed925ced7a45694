"""The focus curve of a place is the one by which the stack is fused."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from napari_ips import FuseConfig, IPSError, fuse_stack, simulate_stack
from napari_ips.events import Progress
from napari_ips.fusion import Stopped
from napari_ips.fusion import probe as module
from napari_ips.fusion.probe import FocusProbe, best_slice, peak
from napari_ips.fusion.scales import Evidence
from napari_ips.io import wrap_array
from volumes import config, noise, tiny_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


def probe_of(stack: np.ndarray, settings: FuseConfig, **place) -> FocusProbe:
    wrapped = wrap_array(stack, "TCZYXS"[-stack.ndim :] if stack.ndim > 3 else "ZYX")
    values = {"t": 0, "c": 0, "z": (0, wrapped.shape[2])} | place
    return FocusProbe(wrapped, config=settings, **values)


def pixel(y: int, x: int) -> tuple[slice, slice]:
    return slice(y, y + 1), slice(x, x + 1)


@pytest.mark.parametrize(
    "values",
    [{}, {"strategy": "fold"}, {"regularise": False}, {"skip": False}],
    ids=["default", "fold", "raw", "no skipping"],
)
def test_the_curve_of_every_pixel_peaks_where_the_fusion_does(weights, values):
    stack = noise(5, 60, 70)
    settings = config(weights, **values)
    result = fuse_stack(stack, config=settings)
    assert len(np.unique(result.index)) == 5
    probe = probe_of(stack, settings)
    curves = [[probe.curve(pixel(y, x)) for x in range(70)] for y in range(0, 60, 7)]
    index = [[best_slice(curve) for curve in row] for row in curves]
    depth = [[peak(curve) for curve in row] for row in curves]
    assert np.array_equal(index, result.index[::7])
    assert np.allclose(depth, result.depth[::7], atol=1e-5)


@pytest.mark.parametrize("tile", [256, 512, 1024])
def test_it_does_so_across_the_parts_and_scales_of_a_larger_image(weights, tile):
    stack = noise(4, 611, 533)
    result = fuse_stack(stack, config=config(weights, tile=512))
    picks = np.random.default_rng(1).integers((611, 533), size=(60, 2))
    corners = [(0, 0), (610, 532), (255, 255), (256, 256), (511, 400)]
    probe = probe_of(stack, config(weights, tile=tile))
    for y, x in [*corners, *picks]:
        curve = probe.curve(pixel(y, x))
        assert best_slice(curve) == result.index[y, x]
        assert peak(curve) == pytest.approx(result.depth[y, x], abs=1e-5)


def test_the_curve_of_an_area_is_the_mean_of_those_of_its_pixels(weights):
    probe = probe_of(noise(4, 530, 300), config(weights))
    area = slice(252, 260), slice(10, 15)
    pixels = [probe.curve(pixel(y, x)) for y in range(252, 260) for x in range(10, 15)]
    assert np.allclose(probe.curve(area), np.mean(pixels, axis=0), atol=1e-5)


def test_time_channel_and_slices_are_those_asked_for(weights):
    stack = noise(2, 3, 6, 50, 40)
    settings = config(weights)
    expected = fuse_stack(stack[1, 2, 2:5], config=settings)
    probe = FocusProbe(wrap_array(stack, "TCZYX"), 1, 2, (2, 5), settings)
    assert probe.curve(pixel(20, 30)).shape == (3,)
    for x in range(40):
        assert best_slice(probe.curve(pixel(20, x))) == expected.index[20, x]


def test_colours_are_probed_on_their_luminance(weights):
    stack = noise(3, 40, 50, 3, dtype="uint8")
    expected = fuse_stack(stack, config=config(weights))
    wrapped = wrap_array(stack, "ZYXS")
    probe = FocusProbe(wrapped, 0, 0, (0, 3), config(weights))
    found = [best_slice(probe.curve(pixel(9, x))) for x in range(50)]
    assert np.array_equal(found, expected.index[9])


def test_slices_without_a_value_are_never_the_best(weights):
    stack = noise(4, 50, 60, dtype="float32")
    stack[2, 10:20] = np.nan
    stack[:, 30] = np.nan
    expected = fuse_stack(stack, config=config(weights))
    probe = probe_of(stack, config(weights))
    curve = probe.curve(pixel(15, 5))
    assert np.isnan(curve).tolist() == [False, False, True, False]
    assert np.isfinite(probe.curve((slice(15, 25), slice(0, 9)))).all()
    for x in range(60):
        assert best_slice(probe.curve(pixel(15, x))) == expected.index[15, x]
    assert best_slice(probe.curve(pixel(30, 0))) == 0
    assert peak(probe.curve(pixel(30, 0))) == 0


def test_one_slice_is_the_best_of_its_own():
    probe = probe_of(noise(1, 30, 40), FuseConfig())
    assert probe.curve(pixel(3, 4)).tolist() == [0]
    assert probe.ready


def test_the_best_slice_of_a_large_view_is_found_at_a_coarse_scale():
    truth = noise(900, 1200)
    scene = simulate_stack(truth, 5, relief="tilt", seed=3)
    calls: list[Progress] = []
    probe = probe_of(scene.stack, FuseConfig(device="cpu"))
    view = slice(0, 900), slice(0, 1200)
    scale = probe.scale_for(view)
    assert scale > 1
    for columns in (slice(0, 150), slice(1050, 1200)):
        part = slice(0, 900), columns
        curve = probe.curve(part, scale, callback=calls.append)
        assert abs(best_slice(curve) - scene.height[part].mean()) < 1
    assert [event.total for event in calls if event.task == "comparing"] == [2, 2, 2, 2]


def test_scales_follow_the_size_of_the_area(weights):
    probe = probe_of(noise(2, 1100, 1100), config(weights))
    assert probe.scale_for(pixel(5, 5)) == 1
    assert probe.scale_for((slice(0, 512), slice(100, 500))) == 1
    assert probe.scale_for((slice(0, 1100), slice(0, 1100))) == 2
    probe = probe_of(noise(2, 1100, 1100), config(weights, strategy="fold"))
    assert probe.scale_for((slice(0, 1100), slice(0, 1100))) == 1


def test_only_what_an_area_touches_is_computed_and_once(weights, monkeypatch):
    probe = probe_of(noise(3, 1030, 1030), config(weights))
    compared: list[str] = []
    known = module.StackFuser._compare
    monkeypatch.setattr(
        module.StackFuser,
        "_compare",
        lambda self, *args: compared.append(args[1].key) or known(self, *args),
    )
    probe.curve(pixel(300, 300))
    assert sorted(compared) == ["1-256-256", "16-0-0", "2-0-0", "4-0-0", "8-0-0"]
    probe.curve((slice(256, 512), slice(256, 512)))
    assert len(compared) == 5


def test_the_evidence_that_is_kept_is_bounded(weights, monkeypatch):
    stack = noise(3, 600, 600)
    expected = fuse_stack(stack, config=config(weights))
    monkeypatch.setattr(module, "_KEPT", 2 * 2**20)
    store = module._LatestEvidence()
    for core in module.cores((2560, 2560), 1):
        store.put(core, Evidence(module.torch.zeros(2, 3, 128, 128), core.area))
        assert store._bytes() <= 2 * 2**20
        assert store.get(core) is not None
    probe = probe_of(stack, config(weights))
    for y, x in [(5, 5), (400, 5), (5, 400), (400, 400), (5, 5)]:
        assert best_slice(probe.curve(pixel(y, x))) == expected.index[y, x]


def test_it_stops_when_asked_and_goes_on_later(weights):
    probe = probe_of(noise(3, 600, 600), config(weights))
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        probe.curve(pixel(0, 0), stop=stop)
    assert not probe.ready
    stop = threading.Event()

    def at_comparing(event: Progress) -> None:
        if event.task == "comparing":
            stop.set()

    with pytest.raises(Stopped):
        probe.curve((slice(0, 600), slice(0, 600)), stop=stop, callback=at_comparing)
    assert probe.ready
    assert probe.curve(pixel(0, 0)).shape == (3,)


@pytest.mark.parametrize("area", [(slice(60, 70), slice(0, 5)), (slice(3, 3), slice(0, 5))])
def test_an_area_outside_the_image_is_refused(weights, area):
    with pytest.raises(IPSError, match="outside the image of 50 x 40"):
        probe_of(noise(3, 40, 50), config(weights)).curve(area)


def test_slices_and_scales_that_are_not_there_are_refused(weights):
    with pytest.raises(IPSError, match="2:7 are not among them"):
        probe_of(noise(3, 40, 50), config(weights), z=(2, 7))
    with pytest.raises(IPSError, match="scale of 2"):
        probe_of(noise(3, 40, 50), config(weights)).curve(pixel(0, 0), 2)
