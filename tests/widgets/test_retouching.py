"""Edits of an index map: what napari's tools write into it shows in the fused image."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from weakref import ref

import dask.array as da
import numpy as np
import pytest
from napari.utils.interactions import (
    mouse_move_callbacks,
    mouse_press_callbacks,
    mouse_release_callbacks,
)
from napari.utils.notifications import notification_manager
from wrapt import ObjectProxy

from napari_ips.widgets.retouch.retouching import begin

KEY = "napari-ips"


@pytest.fixture
def fused(result_layers):
    return result_layers["fused"]


@pytest.fixture
def labels(viewer, fused):
    return opened(viewer, fused)


def opened(viewer, fused):
    return begin(viewer.layers, fused).show_in(viewer)


def run_of(viewer, stack, axes: str, *, index=None, letters: str | None = None, **options):
    """Add a stack and its results, as if it was fused: all zeros, from the middle slice."""
    z = axes.index("Z")
    source = viewer.add_image(stack, name="source", axis_labels=tuple(axes), **options)
    # An axis of slices that is not the first one stays, of length 1.
    shape = [1 if k == z else n for k, n in enumerate(stack.shape) if k != z or z]
    told = {"run": "r", "source": str(source.unique_id), "z axis": z}
    flat = shape[: len(shape) - ("rgb" in options)]
    if index is None:
        index = np.full(flat, stack.shape[z] // 2, np.uint16)
    viewer.add_image(index, name="index", metadata={KEY: {"role": "index", **told}})
    return viewer.add_image(
        np.zeros(shape, stack.dtype),
        name="fused",
        metadata={KEY: {"role": "fused", **told}},
        **options,
    )


def test_opening_changes_nothing(labels, fused, simulated):
    assert np.array_equal(fused.data, simulated.truth)
    assert "retouched pixels" not in fused.metadata[KEY]


def test_the_map_opens_as_labels_coloured_by_slice(labels, result_layers, viewer):
    index = result_layers["index"]
    assert np.array_equal(labels.data, index.data + 1)
    assert viewer.layers.selection.active == labels
    assert np.array_equal(labels.scale, index.scale)
    assert labels.units == index.units
    low, high = index.contrast_limits
    for z in (0, 3, 5):
        colour = index.colormap.map(np.array([np.clip((z - low) / (high - low), 0, 1)]))[0]
        assert np.allclose(labels.colormap.map(z + 1), colour, atol=0.01)
    assert labels.colormap.map(0)[3] == 0


def test_painting_takes_the_slice_there_and_nowhere_else(labels, fused, simulated):
    before = fused.data.copy()
    labels.brush_size = 11
    labels.paint((20, 30), 6)
    painted = (labels.data == 6) & (labels.data != np.rint(simulated.height) + 1)
    assert painted.sum() > 50
    assert np.array_equal(fused.data[painted], simulated.stack[5][painted])
    assert np.array_equal(fused.data[~painted], before[~painted])
    assert fused.metadata[KEY]["retouched pixels"] == painted.sum()


def test_undo_and_redo_are_exact(labels, fused):
    before = fused.data.copy()
    labels.brush_size = 9
    labels.paint((20, 30), 6)
    once = fused.data.copy()
    labels.fill((50, 50), 1)
    labels.paint_polygon([[5, 5], [5, 25], [25, 25]], 2)
    thrice = fused.data.copy()
    assert not np.array_equal(once, thrice)
    labels.undo()
    labels.undo()
    assert np.array_equal(fused.data, once)
    labels.undo()
    assert np.array_equal(fused.data, before)
    assert fused.metadata[KEY]["retouched pixels"] == 0
    for _ in range(3):
        labels.redo()
    assert np.array_equal(fused.data, thrice)


def test_a_stroke_of_the_mouse_shows_while_it_is_drawn(labels, fused, simulated):
    before = fused.data.copy()
    labels.mode, labels.selected_label, labels.brush_size = "paint", 6, 5

    def event(kind, x):
        told = SimpleNamespace(
            type=kind,
            is_dragging=kind == "mouse_move",
            position=labels.data_to_world((10, x)),
            view_direction=None,
            dims_displayed=[0, 1],
            dims_point=[0, 0],
            modifiers=(),
            button=1,
        )
        # napari puts the next event into the wrapper of the first.
        return ObjectProxy(told)

    mouse_press_callbacks(labels, event("mouse_press", 10))
    for x in (14, 30):
        mouse_move_callbacks(labels, event("mouse_move", x))
        assert fused.data[10, x] == simulated.stack[5, 10, x]
    mouse_release_callbacks(labels, event("mouse_release", 30))
    # Also between the places that the mouse told.
    assert np.array_equal(fused.data[10, 10:31], simulated.stack[5, 10, 10:31])
    labels.undo()
    assert np.array_equal(fused.data, before)


def test_erasing_brings_the_fused_pixels_back(labels, fused):
    before = fused.data.copy()
    labels.brush_size = 20
    labels.paint((20, 30), 6)
    assert not np.array_equal(fused.data, before)
    labels.brush_size = 40
    labels.paint((20, 30), 0)
    assert np.array_equal(fused.data, before)


def test_painting_the_slice_of_the_beginning_brings_the_fused_pixels_back(labels, fused):
    before, start = fused.data.copy(), labels.data.copy()
    labels.paint((20, 30), 6)
    labels.paint((20, 30), start[20, 30])
    same = labels.data == start
    assert same[20, 30]
    assert np.array_equal(fused.data[same], before[same])
    assert fused.metadata[KEY]["retouched pixels"] == (~same).sum()


def test_a_label_beyond_the_stack_leaves_the_image_as_it_was(labels, fused):
    before = fused.data.copy()
    labels.paint((20, 30), 40)
    assert np.array_equal(fused.data, before)


def test_data_written_by_a_script_shows_too(labels, fused, simulated):
    labels.data[10:20, :] = 1
    labels.data_setitem((np.array([40, 41]), np.array([3, 4])), 6)
    edited = labels.data[10:20] != np.rint(simulated.height[10:20]) + 1
    assert np.array_equal(fused.data[10:20][edited], simulated.stack[0, 10:20][edited])
    assert fused.data[41, 4] == simulated.stack[5, 41, 4]
    labels.data = np.full_like(labels.data, 6)
    labels.paint((50, 50), 1)
    assert fused.data[50, 50] == simulated.stack[0, 50, 50]
    assert fused.data[41, 4] == simulated.stack[5, 41, 4]


@pytest.mark.parametrize("axes", ["TZYX", "ZTYX", "CTZYX", "ZCYX"])
def test_with_more_axes_only_the_plane_painted_in_changes(viewer, rng, axes):
    lengths = {"T": 2, "C": 3, "Z": 4, "Y": 30, "X": 32}
    stack = rng.integers(1, 900, [lengths[a] for a in axes]).astype(np.uint16)
    fused = run_of(viewer, stack, axes)
    labels = opened(viewer, fused)
    labels.brush_size = 3
    z = axes.index("Z")
    last = [n - 1 for n in labels.data.shape[:-2]]
    labels.paint((*last, 12, 13), 4)
    expected = np.zeros_like(fused.data)
    where = labels.data == 4
    expected[where] = stack.take(3, axis=z).reshape(where.shape)[where]
    assert where.sum() >= 5
    assert np.array_equal(fused.data, expected)


def test_one_map_for_all_channels_edits_all(viewer, rng):
    stack = rng.integers(1, 900, (2, 4, 30, 32)).astype(np.uint16)
    index = np.full((1, 1, 30, 32), 2, np.uint16)
    fused = run_of(viewer, stack, "CZYX", index=index)
    labels = opened(viewer, fused)
    labels.paint((0, 0, 12, 13), 1)
    where = labels.data[0, 0] == 1
    for c in (0, 1):
        assert np.array_equal(fused.data[c, 0][where], stack[c, 0][where])
        assert not fused.data[c, 0][~where].any()


def test_layers_of_one_run_are_edited_together(viewer, result_layers, simulated):
    other = viewer.add_image(simulated.stack[::-1].copy(), name="other channel")
    told = {**result_layers["fused"].metadata[KEY], "source": str(other.unique_id)}
    second = viewer.add_image(np.zeros_like(simulated.truth), metadata={KEY: told})
    labels = opened(viewer, result_layers["fused"])
    labels.paint((20, 30), 6)
    assert result_layers["fused"].data[20, 30] == simulated.stack[5, 20, 30]
    assert second.data[20, 30] == simulated.stack[0, 20, 30]
    labels.undo()
    assert not second.data.any()


def test_edits_do_not_keep_the_layer_of_the_stack(viewer, rng):
    stack = rng.integers(1, 255, (5, 30, 32)).astype(np.uint8)
    fused = run_of(viewer, stack, "ZYX")
    labels = opened(viewer, fused)
    source = ref(viewer.layers["source"])
    viewer.layers.remove("source")
    gc.collect()
    assert source() is None
    labels.paint((12, 13), 5)
    assert fused.data[12, 13] == stack[4, 12, 13]


def test_colours_are_retouched(viewer, rng):
    stack = rng.integers(1, 255, (5, 30, 32, 3)).astype(np.uint8)
    fused = run_of(viewer, stack, "ZYX", rgb=True)
    labels = opened(viewer, fused)
    labels.paint((12, 13), 5)
    where = labels.data == 5
    assert np.array_equal(fused.data[where], stack[4][where])
    assert not fused.data[~where].any()


def test_a_large_area_of_a_stack_in_memory_ends_up_right(viewer, qtbot, rng):
    stack = rng.integers(1, 900, (3, 600, 500)).astype(np.uint16)
    fused = run_of(viewer, stack, "ZYX")
    labels = opened(viewer, fused)
    labels.fill((3, 3), 3)
    labels.paint((300, 300), 1)
    expected = np.where(labels.data == 1, stack[0], stack[2])
    qtbot.waitUntil(lambda: np.array_equal(fused.data, expected), timeout=10_000)
    labels.undo()
    labels.undo()
    qtbot.waitUntil(lambda: not fused.data.any(), timeout=10_000)


def test_a_lazy_stack_is_read_elsewhere_and_ends_up_right(viewer, qtbot, rng):
    stack = rng.integers(1, 900, (5, 40, 40)).astype(np.uint16)
    fused = run_of(viewer, da.from_array(stack, chunks=(1, 16, 16)), "ZYX")
    fused.data = np.zeros((40, 40), np.uint16)
    labels = opened(viewer, fused)
    for n, label in enumerate((1, 2, 4, 5, 1, 5)):
        labels.paint((12 + n, 13), label)
    labels.undo()
    edited = labels.data != 3
    expected = np.where(
        edited, np.take_along_axis(stack, labels.data[None].astype(int) - 1, 0)[0], 0
    )
    qtbot.waitUntil(lambda: np.array_equal(fused.data, expected), timeout=10_000)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("the disk is away"), "disk is away"),
        (MemoryError("no 9 TiB"), "too little memory; close other layers or programs"),
    ],
)
def test_a_read_that_fails_is_told_and_tried_again(viewer, qtbot, rng, error, words):
    stack = rng.integers(1, 900, (5, 40, 40)).astype(np.uint16)
    broken = [False]

    def read(block):
        if broken[0]:
            raise error
        return block

    fused = run_of(viewer, da.from_array(stack).map_blocks(read, dtype="u2"), "ZYX")
    fused.data = np.zeros((40, 40), np.uint16)
    labels = opened(viewer, fused)
    # Only now: napari reads it too, to show it.
    broken[0] = True
    with notification_manager:
        count = len(notification_manager.records)
        labels.paint((12, 13), 1)
        qtbot.waitUntil(lambda: len(notification_manager.records) > count, timeout=10_000)
        assert words in notification_manager.records[-1].message
    assert not fused.data.any()
    broken[0] = False
    labels.data[12, 13] = 1
    qtbot.waitUntil(lambda: fused.data[12, 13] == stack[0, 12, 13], timeout=10_000)
