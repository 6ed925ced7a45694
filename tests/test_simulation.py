from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ips import samples
from napari_ips.errors import IPSError
from napari_ips.io import read_image, read_stack
from napari_ips.simulation import demo_image, save_simulated, simulate_stack

RELIEFS = ["relief", "tilt", "cells"]
LAYERINGS = ["opaque", "additive"]


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    return demo_image("gravel")[:128, :144]


def detail(image: np.ndarray) -> np.ndarray:
    """Return the energy of the finest detail around every pixel."""
    from scipy import ndimage

    fine = np.asarray(image, float) - ndimage.gaussian_filter(np.asarray(image, float), 1.5)
    return ndimage.gaussian_filter(fine**2, 4)


@pytest.mark.parametrize("relief", RELIEFS)
@pytest.mark.parametrize("layering", LAYERINGS)
@pytest.mark.parametrize("blur", ["disc", "gaussian"])
def test_sharpest_slice_is_the_height(texture, relief, layering, blur):
    simulated = simulate_stack(
        texture, 7, relief=relief, layering=layering, blur=blur, blur_per_slice=1.5
    )
    found = np.argmax([detail(image) for image in simulated.stack], axis=0)
    error = np.abs(found - simulated.height)
    assert np.median(error) < 0.6
    assert np.mean(error > 1.5) < 0.2


@pytest.mark.parametrize("layering", LAYERINGS)
def test_pixels_in_focus_are_those_of_the_truth(texture, layering):
    simulated = simulate_stack(texture, 5, relief="tilt", layering=layering)
    for z, image in enumerate(simulated.stack):
        near = np.abs(simulated.height - z) < 0.1
        difference = np.abs(image.astype(float) - simulated.truth)
        assert near.any()
        far = np.abs(simulated.height - z) > 1.5
        assert difference[near].mean() < 3
        assert difference[far].mean() > 3 * difference[near].mean()


@pytest.mark.parametrize("layering", LAYERINGS)
def test_blur_keeps_the_light(texture, layering):
    simulated = simulate_stack(texture, 6, layering=layering, dtype=np.float32)
    means = simulated.stack.mean(axis=(1, 2))
    np.testing.assert_allclose(means, simulated.truth.mean(), rtol=0.01)


def test_blur_grows_with_distance_and_with_its_parameter(texture):
    weak = simulate_stack(texture, 6, relief="tilt", blur="gaussian", blur_per_slice=0.5)
    # A disc would not do: its spectrum has zeros, past which detail returns.
    strong = simulate_stack(texture, 6, relief="tilt", blur="gaussian", blur_per_slice=2)
    lowest = strong.height < 0.4
    sharpness = [detail(image)[lowest].mean() for image in strong.stack]
    assert all(
        nearer > farther for nearer, farther in zip(sharpness, sharpness[1:], strict=False)
    )
    assert detail(weak.stack[3])[lowest].mean() > 2 * sharpness[3]


@pytest.mark.parametrize("blur", ["disc", "gaussian"])
def test_point_of_light_is_blurred_to_the_stated_size(blur):
    image = np.zeros((81, 81), np.float32)
    # The tilt runs 0 to 8; the point is where the seed's plane is lowest.
    probe = simulate_stack(image, 9, relief="tilt", seed=1)
    y, x = np.argwhere((probe.height > 1.99) & (probe.height < 2.01))[0]
    y, x = np.clip((y, x), 20, 60)
    image[y, x] = 1
    height = float(probe.height[y, x])
    simulated = simulate_stack(
        image, 9, relief="tilt", layering="additive", blur=blur, blur_per_slice=1.5, seed=1
    )
    far = int(np.argmax(np.abs(np.arange(9) - height)))
    rows, columns = np.indices(image.shape)
    spread = simulated.stack[far] * ((rows - y) ** 2 + (columns - x) ** 2)
    radius = 1.5 * abs(far - height)
    # Mean squared distance from the centre of a disc: half its radius squared.
    assert spread.sum() / simulated.stack[far].sum() == pytest.approx(
        radius**2 / 2, rel=0.15
    )


def test_near_surface_hides_what_is_behind_it():
    image = np.zeros((96, 96), np.float32)
    height = simulate_stack(image, 12, relief="cells", seed=3).height
    ball = height > 6
    image[~ball] = 1
    z = round(float(np.median(height[ball])))
    in_focus = ball & (np.abs(height - z) < 0.5)
    leaks = {}
    for layering in LAYERINGS:
        simulated = simulate_stack(image, 12, relief="cells", layering=layering, seed=3)
        leaks[layering] = simulated.stack[z][in_focus].mean()
    # Blurred light of the glass shines through transparent balls, not through opaque ones.
    assert leaks["opaque"] < 0.02
    assert leaks["additive"] > 5 * leaks["opaque"]


@pytest.mark.parametrize("relief", RELIEFS)
def test_surface_of_one_colour_looks_the_same_from_every_slice(relief):
    image = np.full((96, 96), 0.7, np.float32)
    simulated = simulate_stack(image, 9, relief=relief, blur_per_slice=2, seed=3)
    np.testing.assert_allclose(simulated.stack, 0.7, rtol=0.01)


def test_noise_is_of_the_stated_strength():
    white = np.full((64, 64), 40_000, np.uint16)
    white[:, :32] = 0
    stack = simulate_stack(white, 2, noise=0.05, blur_per_slice=0.2, dtype=np.float32).stack
    bright, dark = stack[:, :, 40:], stack[:, :, :24]
    scale = 40_000 / 65_535
    assert bright.std() == pytest.approx(0.05 * scale, rel=0.05)
    assert dark.std() == pytest.approx(0.025 * scale, rel=0.05)
    assert bright.mean() == pytest.approx(scale, rel=0.01)
    assert np.abs(np.corrcoef(bright[0].ravel(), bright[1].ravel())[0, 1]) < 0.1


def test_seed_decides_everything(texture):
    first, again, other = (
        simulate_stack(texture, 3, noise=0.02, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.stack, again.stack)
    np.testing.assert_array_equal(first.height, again.height)
    assert (first.height != other.height).mean() > 0.9


@given(
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    n_slices=st.integers(2, 5),
    colour=st.booleans(),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    relief=st.sampled_from(RELIEFS),
    layering=st.sampled_from(LAYERINGS),
    blur_per_slice=st.floats(0.01, 8),
    noise=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 99),
)
def test_any_size_and_type_works(height, width, n_slices, colour, dtype, seed, **options):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3) if colour else (height, width))
    simulated = simulate_stack(
        image.astype(np.uint8), n_slices, dtype=dtype, seed=seed, **options
    )
    assert simulated.stack.shape == (n_slices, *image.shape)
    assert simulated.stack.dtype == simulated.truth.dtype == dtype
    assert simulated.height.shape == (height, width)
    assert simulated.height.dtype == np.float32
    assert 0 <= simulated.height.min() <= simulated.height.max() <= n_slices - 1
    assert np.isfinite(simulated.stack).all()
    full = {"uint8": 1, "uint16": 257, "float32": 1 / 255}[dtype]
    np.testing.assert_allclose(simulated.truth, image * full, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_slices": 1}, "at least 2 slices"),
        (
            {"relief": "hills"},
            "relief cannot be 'hills'; choose one of: relief, tilt, cells",
        ),
        ({"layering": "glass"}, "layering"),
        ({"blur": "box"}, "blur"),
        ({"blur_per_slice": 0}, "blur_per_slice"),
        ({"noise": -0.1}, "noise"),
        ({"noise": float("nan")}, "noise"),
        ({"dtype": "int32"}, "int32"),
    ],
)
def test_wrong_options_are_explained(texture, options, message):
    with pytest.raises(IPSError, match=message):
        simulate_stack(texture, **options)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((20, 20, 4), np.uint8), "shape"),
        (np.zeros((4, 20, 20), np.uint8), "shape"),
        (np.zeros((5, 20), np.uint8), "at least 8 pixels"),
        (np.zeros((20, 20), np.int64), "int64"),
        (np.full((20, 20), np.nan), "NaN"),
        (np.full((20, 20), 2.0), "between 0 and 1"),
    ],
)
def test_unusable_images_are_explained(image, message):
    with pytest.raises(IPSError, match=message):
        simulate_stack(image, dtype=np.uint8)


def test_saved_simulation_is_read_back(tmp_path, texture):
    simulated = simulate_stack(texture, 3, seed=5)
    folder = tmp_path / "new" / "folder"
    save_simulated(folder, simulated, info={"relief": "relief", "seed": 5})
    np.testing.assert_array_equal(read_stack(folder / "stack.tif").data, simulated.stack)
    np.testing.assert_array_equal(read_image(folder / "truth.tif"), simulated.truth)
    np.testing.assert_array_equal(np.load(folder / "height.npy"), simulated.height)
    info = json.loads((folder / "info.json").read_text())
    assert (info["n_slices"], info["dtype"], info["seed"]) == (3, "uint8", 5)
    with pytest.raises(IPSError, match="exists"):
        save_simulated(folder, simulated)
    save_simulated(folder, simulated, overwrite=True)
    assert len(list(folder.iterdir())) == 4


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("tissue", (512, 512, 3), "uint8"),
        ("fluorescence", (512, 512), "uint16"),
        ("gravel", (512, 512), "uint8"),
        ("coins", (303, 384), "uint8"),
    ],
)
def test_demo_images_need_no_network(monkeypatch, name, shape, dtype):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)
    image = demo_image(name)
    assert (image.shape, image.dtype) == (shape, dtype)
    assert image.std() > 10
    with pytest.raises(IPSError, match="choose one of: tissue"):
        demo_image("moon")


@pytest.mark.parametrize(
    ("make", "shape", "dtype"),
    [
        (samples.brightfield_stack, (12, 512, 512, 3), "uint8"),
        (samples.fluorescence_stack, (12, 512, 512), "uint16"),
        (samples.two_source_pair, (2, 512, 512), "uint8"),
    ],
)
def test_sample_layers_carry_scale_and_units(make, shape, dtype):
    ((data, described, kind),) = make()
    assert (data.shape, data.dtype, kind) == (shape, dtype, "image")
    assert described["scale"][1:] == (0.5, 0.5)
    assert described["axis_labels"] == ("z", "y", "x")
    assert described["units"] == ("micrometer",) * 3
