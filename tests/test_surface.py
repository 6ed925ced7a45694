from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from napari_ips.errors import IPSError
from napari_ips.surface.files import companions, write_surface
from napari_ips.surface.heights import smooth_heights
from napari_ips.surface.mesh import as_texture, stride_for, surface_mesh

trimesh = pytest.importorskip("trimesh")


def tilted(shape: tuple[int, int], slope: tuple[float, float]) -> np.ndarray:
    y, x = np.indices(shape, dtype=np.float32)
    return slope[0] * y + slope[1] * x


def letter_f() -> np.ndarray:
    """Return a red F on white, of a shape that no mirror or turn leaves as it is."""
    image = np.full((14, 10, 3), 255, np.uint8)
    for area in (np.s_[1:13, 2:4], np.s_[1:3, 2:9], np.s_[6:8, 2:7]):
        image[area] = (255, 0, 0)
    return image


def normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the normals z, y, x of triangles, as long as twice their areas."""
    a, b, c = (vertices[faces[:, n]].astype(float) for n in range(3))
    return np.cross(b - a, c - a)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 24), st.integers(2, 24)),
    slope=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    pixel=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)),
    step=st.floats(0.1, 10),
    sigma=st.floats(0, 4),
)
def test_a_tilted_plane_has_its_true_slope_and_area(shape, slope, pixel, step, sigma):
    mesh = surface_mesh(tilted(shape, slope), pixel_size=pixel, z_step=step, sigma=sigma)

    rise = step * slope[0] / pixel[0], step * slope[1] / pixel[1]
    sides = (shape[0] - 1) * pixel[0], (shape[1] - 1) * pixel[1]
    found = normals(mesh.vertices, mesh.faces)
    area = np.linalg.norm(found, axis=1).sum() / 2
    assert_allclose(area, sides[0] * sides[1] * np.hypot(1, np.hypot(*rise)), rtol=1e-3)
    assert_allclose(
        found[:, 1:] / found[:, :1],
        [(-rise[0], -rise[1])] * len(found),
        rtol=1e-2,
        atol=1e-2,
    )
    assert_allclose(mesh.vertices[:, 1:].max(axis=0), sides, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    heights=arrays(
        np.float32,
        st.tuples(st.integers(2, 20), st.integers(2, 20)),
        elements=st.floats(-100, 100, width=32) | st.sampled_from([np.nan, np.inf]),
    ),
    sigma=st.floats(0, 5),
    stride=st.integers(1, 4),
)
def test_smooth_heights_stay_within_what_was_measured(heights, sigma, stride):
    finite = heights[np.isfinite(heights)]
    if not finite.size:
        with pytest.raises(IPSError, match="no finite height"):
            smooth_heights(heights, sigma=sigma, stride=stride)
        return
    smooth = smooth_heights(heights, sigma=0, stride=stride)
    assert smooth.shape == tuple(-(-n // stride) for n in heights.shape)
    assert smooth.min() >= finite.min() - 1e-3
    assert smooth.max() <= finite.max() + 1e-3
    assert np.isfinite(smooth_heights(heights, sigma=sigma, stride=stride)).all()


def test_spikes_and_holes_are_mended_by_their_surroundings():
    truth = tilted((60, 80), (0.1, 0.05))
    noisy = truth + np.random.default_rng(1).normal(0, 0.05, truth.shape)
    noisy[20, 30] = 50
    noisy[40:43, 60] = -50
    noisy[5:10, 5:10] = np.nan
    assert np.abs(smooth_heights(noisy, sigma=2) - truth).max() < 0.35


def test_sure_heights_fill_in_for_unsure_ones():
    truth = tilted((64, 64), (0.1, 0))
    measured, confidence = truth.copy(), np.full(truth.shape, 0.999, np.float32)
    measured[20:44, 20:44] = 0
    confidence[20:44, 20:44] = 0.3
    with_it = smooth_heights(measured, confidence)
    without = smooth_heights(measured)
    assert np.abs(with_it - truth).max() < 1
    assert np.abs(without - truth).max() > 2


def test_heights_that_are_all_unsure_are_not_thrown_away():
    truth = tilted((32, 32), (0.2, 0.1))
    for unsure in (0.0, 0.1):
        smooth = smooth_heights(truth, np.full(truth.shape, unsure))
        assert_allclose(smooth, truth, atol=0.05)


def test_smoothing_flattens_noise():
    noise = np.random.default_rng(0).normal(0, 1, (64, 64))
    spread = [smooth_heights(noise, sigma=sigma).std() for sigma in (0, 1, 3)]
    assert spread[0] > 2 * spread[1] > 4 * spread[2]


@pytest.mark.parametrize("budget", [9, 100, 5000])
def test_a_budget_of_vertices_is_kept_at_true_scale(budget):
    heights = tilted((61, 47), (1, 2))
    texture = as_texture(heights)
    mesh = surface_mesh(heights, None, texture, sigma=0, max_vertices=budget)
    stride = stride_for(heights.shape, budget)
    assert len(mesh.vertices) <= budget
    assert len(mesh.vertices) == len(mesh.uv) == len(mesh.colors)
    z, y, x = mesh.vertices.T
    assert_allclose(z, y + 2 * x, atol=1e-3)
    assert y.max() >= 60 - stride / 2
    assert_allclose(mesh.uv[:, 0], (x + 0.5) / 47, atol=1e-6)
    assert_allclose(mesh.uv[:, 1], 1 - (y + 0.5) / 61, atol=1e-6)


def test_a_texture_shows_what_the_viewer_shows():
    grey = np.array([[0, 100], [200, 300]], np.uint16)
    assert as_texture(grey)[..., 0].tolist() == [[0, 85], [170, 255]]
    green = np.linspace((0, 0, 0, 1), (0, 1, 0, 1), 256)
    shown = as_texture(grey, (100, 200), green)
    assert shown[..., 1].tolist() == [[0, 0], [255, 255]]
    assert not shown[..., [0, 2]].any()
    assert as_texture(np.array([[np.nan, 2.0, 3.0]]))[0, :, 0].tolist() == [0, 0, 255]
    rgba = np.full((2, 2, 4), 65535, np.uint16)
    assert as_texture(rgba).tolist() == [[[255] * 3] * 2] * 2
    assert as_texture(np.full((2, 2, 3), 0.5))[0, 0].tolist() == [128] * 3


def test_what_does_not_fit_is_told():
    heights = np.zeros((4, 5), np.float32)
    for call, told in (
        (lambda: surface_mesh(heights, np.zeros((5, 4))), "confidence has shape"),
        (lambda: surface_mesh(heights, None, np.zeros((5, 4, 3), np.uint8)), "texture has"),
        (lambda: surface_mesh(heights, pixel_size=(0, 1)), "above 0"),
        (lambda: surface_mesh(np.zeros(5)), "two axes"),
        (lambda: surface_mesh(np.full((4, 5), np.nan)), "no finite height"),
        (lambda: as_texture(np.zeros((2, 3, 4, 5))), "grey or RGB"),
    ):
        with pytest.raises(IPSError, match=told):
            call()


@pytest.fixture
def letter():
    image = letter_f()
    heights = tilted(image.shape[:2], (0.2, 0.4))
    return surface_mesh(heights, None, image, pixel_size=(0.5, 0.25), z_step=2, sigma=0)


def seen_from_above(xyz: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Return the image that somebody sees who looks down z, with y upwards."""
    x, y = xyz[:, 0], xyz[:, 1]
    order = np.lexsort((x.round(4), -y.round(4)))
    return colors[order].reshape(14, 10, -1)[..., :3]


def test_a_ply_file_shows_the_letter_unmirrored_at_true_scale(tmp_path: Path, letter):
    path = tmp_path / "f.ply"
    assert write_surface(path, letter) == [path]
    loaded = trimesh.load(path, process=False)
    assert_allclose(
        np.ptp(loaded.vertices, axis=0), [9 * 0.25, 13 * 0.5, 2 * 6.2], rtol=1e-5
    )
    seen = seen_from_above(loaded.vertices, loaded.visual.vertex_colors)
    assert np.array_equal(seen, letter_f())
    assert (loaded.face_normals[:, 2] > 0).all()


def test_an_obj_file_shows_the_letter_unmirrored_by_its_texture(tmp_path: Path, letter):
    path = tmp_path / "the letter F.obj"
    written = write_surface(path, letter)
    assert {*written} == {path, *companions(path)} == {*tmp_path.iterdir()}
    # Names with blanks are cut short by many readers.
    inside = path.read_text() + (tmp_path / "the_letter_F.mtl").read_text()
    assert "map_Kd the_letter_F-texture.png" in inside

    loaded = trimesh.load(path, process=False)
    colors = loaded.visual.to_color().vertex_colors
    assert np.array_equal(seen_from_above(loaded.vertices, colors), letter_f())
    assert (loaded.face_normals[:, 2] > 0).all()
    material = loaded.visual.material
    assert np.array_equal(np.asarray(material.image), letter_f())
    assert material.diffuse.tolist() == [255] * 4


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_a_surface_without_an_image_can_be_written(tmp_path: Path, suffix: str):
    mesh = surface_mesh(tilted((5, 6), (1, 0)))
    (path,) = write_surface(tmp_path / f"plain{suffix}", mesh)
    assert len(trimesh.load(path, process=False).faces) == 2 * 4 * 5


def test_no_file_is_overwritten_unasked(tmp_path: Path, letter):
    path = tmp_path / "f.obj"
    theirs = companions(path)[1]
    theirs.write_text("mine")
    with pytest.raises(IPSError, match="f-texture.png exists"):
        write_surface(path, letter)
    assert theirs.read_text() == "mine"
    assert not path.exists()
    write_surface(path, letter, overwrite=True)
    assert path.exists()
    with pytest.raises(IPSError, match=r"\.obj or \.ply"):
        write_surface(tmp_path / "f.stl", letter)
