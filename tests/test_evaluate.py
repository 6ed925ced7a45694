import math
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.evaluation.datasets import PairSample, StackSample, find_samples
from napari_ips.evaluation.evaluate import Row, evaluate, means
from napari_ips.io import write_image, write_stack

SHARP = np.random.default_rng(0).integers(0, 250, (48, 60)).astype(np.uint8)


def put_pairs(folder, names=("one", "two"), truth=True, image=SHARP):
    for part in ("A", "B", *(["GT"] if truth else [])):
        (folder / part).mkdir(parents=True)
        for name in names:
            shown = image if part == "GT" else halves(image)["AB".index(part)]
            write_image(folder / part / f"{name}.png", shown)


def halves(image):
    soft = gaussian_filter(image, (3, 3, 0)[: image.ndim])
    left, right = image.copy(), image.copy()
    left[:, 30:], right[:, :30] = soft[:, 30:], soft[:, :30]
    return left, right


def put_stack(folder, image=SHARP, height=True, truth=True):
    folder.mkdir(parents=True)
    write_stack(folder / "stack.tif", np.stack(halves(image)))
    if truth:
        write_image(folder / "truth.tif", image)
    if height:
        heights = np.zeros(image.shape[:2], np.float32)
        heights[:, 30:] = 1
        np.save(folder / "height.npy", heights)


@pytest.fixture
def calls(monkeypatch):
    """Stand in for the network, record how it is called, and take the first slice."""
    seen = []

    def fuse_stack(stack, axis=0, *, rgb=None, config=None, callback=None):
        seen.append(("stack", len(stack), rgb, config))
        index = np.zeros(stack.shape[1:3], np.uint16)
        depth = np.full(index.shape, 0.5, np.float32)
        return SimpleNamespace(fused=stack[0], index=index, depth=depth)

    def fuse_pair(a, b, *, rgb=None, config=None, callback=None):
        result = fuse_stack(np.stack([a, b]), rgb=rgb, config=config)
        seen[-1] = ("pair", *seen[-1][1:])
        return result

    module = ModuleType("napari_ips.fusion")
    module.fuse_stack, module.fuse_pair = fuse_stack, fuse_pair
    monkeypatch.setitem(sys.modules, "napari_ips.fusion", module)
    return seen


def test_finds_pairs_and_stacks_at_every_depth(tmp_path):
    put_pairs(tmp_path / "pairs" / "set")
    put_pairs(tmp_path / "pairs" / "untrue", truth=False)
    put_stack(tmp_path / "stacks" / "first")
    put_stack(tmp_path / "stacks" / "second", height=False, truth=False)
    pairs = find_samples(tmp_path / "pairs" / "set")
    assert [(type(s), s.dataset, s.name) for s in pairs] == [
        (PairSample, "set", "one"),
        (PairSample, "set", "two"),
    ]
    everything = find_samples(tmp_path)
    assert [s.name for s in everything] == ["one", "two", "one", "two", "first", "second"]
    assert [s.truth is None for s in everything] == [False, False, True, True, False, True]
    (alone,) = find_samples(tmp_path / "stacks" / "first")
    assert isinstance(alone, StackSample)
    assert alone.dataset == "stacks"
    assert alone.height is not None


def test_pairs_match_by_stem_over_suffixes(tmp_path):
    put_pairs(tmp_path, names=["x"])
    (tmp_path / "GT" / "x.png").unlink()
    write_image(tmp_path / "GT" / "x.tif", SHARP)
    (tmp_path / "A" / "notes.txt").write_text("no image")
    (sample,) = find_samples(tmp_path)
    assert sample.truth.name == "x.tif"


def test_lonely_image_is_named(tmp_path):
    put_pairs(tmp_path)
    (tmp_path / "B" / "two.png").unlink()
    with pytest.raises(IPSError, match=r"two\.png has no image of the same name"):
        find_samples(tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path):
    put_pairs(tmp_path)
    write_image(tmp_path / "A" / "one.tif", SHARP)
    with pytest.raises(IPSError, match="two images called one"):
        find_samples(tmp_path)


def test_nothing_found_says_what_is_needed(tmp_path):
    with pytest.raises(IPSError, match="is not a folder"):
        find_samples(tmp_path / "missing")
    with pytest.raises(IPSError, match=r"sub-folders A, B .*stack\.tif"):
        find_samples(tmp_path)


def test_rows_of_pairs(tmp_path):
    put_pairs(tmp_path / "set")
    events = []
    rows = list(
        evaluate(tmp_path / "set", ["window-energy", "mean"], callback=events.append)
    )
    assert [(row.sample, row.method) for row in rows] == [
        ("one", "window-energy"),
        ("one", "mean"),
        ("two", "window-energy"),
        ("two", "mean"),
    ]
    assert rows[0].psnr > rows[1].psnr
    assert rows[0].ssim > rows[1].ssim
    assert rows[0].height_error is None
    assert [(event.done, event.total) for event in events] == [(n, 4) for n in (1, 2, 3, 4)]


def test_inner_psnr_ignores_the_border(tmp_path):
    put_pairs(tmp_path, names=["x"])
    spoilt = SHARP.copy()
    spoilt[:12], spoilt[-12:], spoilt[:, :12], spoilt[:, -12:] = 0, 0, 0, 0
    for part in "AB":
        write_image(tmp_path / part / "x.png", spoilt, overwrite=True)
    (row,) = evaluate(tmp_path, ["mean"])
    assert row.psnr_inner == math.inf
    assert row.psnr < 20


def test_small_images_have_no_inner_figure(tmp_path):
    put_pairs(tmp_path, names=["x"], image=SHARP[:20])
    (row,) = evaluate(tmp_path, ["mean"])
    assert row.psnr_inner is None


def test_height_error_of_a_stack(tmp_path, calls):
    put_stack(tmp_path / "stacks" / "s")
    rows = {row.method: row for row in evaluate(tmp_path, ["window-energy", "ips", "max"])}
    assert rows["window-energy"].height_error < 0.1
    assert rows["ips"].height_error == pytest.approx(0.5)
    assert rows["max"].height_error is None


def test_ips_methods_choose_their_settings(tmp_path, calls):
    put_pairs(tmp_path / "pairs", names=["x"])
    put_stack(tmp_path / "stacks" / "s", image=np.stack([SHARP] * 3, -1))
    config = FuseConfig(tile=512)
    list(evaluate(tmp_path, ["ips", "ips-hard", "ips-raw"], config=config))
    assert [(kind, rgb) for kind, _, rgb, _ in calls] == [("pair", False)] * 3 + [
        ("stack", True)
    ] * 3
    assert [(c.mode, c.regularise, c.tile) for *_, c in calls] == 2 * [
        ("soft", True, 512),
        ("hard", True, 512),
        ("soft", False, 512),
    ]


def test_colour_is_measured_as_asked(tmp_path):
    colour = np.stack([SHARP, SHARP, SHARP], -1)
    put_pairs(tmp_path, names=["x"], image=colour)
    # Blue counts 11 % of the luminance, but a third of the colour.
    truth = colour.copy()
    truth[..., 2] = 0
    write_image(tmp_path / "GT" / "x.png", truth, overwrite=True)
    (grey,) = evaluate(tmp_path, ["mean"])
    (colours,) = evaluate(tmp_path, ["mean"], channel="rgb")
    assert grey.psnr > colours.psnr + 3


def test_sixteen_bits_are_measured_against_the_range_of_the_truth(tmp_path):
    wide = SHARP.astype(np.uint16) * 4
    put_pairs(tmp_path / "a", names=["x"], image=wide)
    put_pairs(tmp_path / "b", names=["x"], image=wide * 50)
    rows = list(evaluate(tmp_path, ["mean"]))
    assert rows[0].psnr == pytest.approx(rows[1].psnr, abs=0.1)


def test_limit_counts_for_each_data_set(tmp_path):
    put_pairs(tmp_path / "a")
    put_pairs(tmp_path / "b")
    rows = list(evaluate(tmp_path, ["max"], limit=1))
    assert [(row.dataset, row.sample) for row in rows] == [("a", "one"), ("b", "one")]
    with pytest.raises(IPSError, match="limit"):
        evaluate(tmp_path, ["max"], limit=0)


def test_bad_requests_fail_before_anything_is_computed(tmp_path):
    put_pairs(tmp_path / "a", truth=False)
    with pytest.raises(IPSError, match=r"Unknown method: foo; choose from ips, "):
        evaluate(tmp_path, ["max", "foo"])
    with pytest.raises(IPSError, match="No truth"):
        evaluate(tmp_path, ["max"])


def test_samples_that_do_not_fit_are_named(tmp_path):
    put_pairs(tmp_path, names=["x"])
    write_image(tmp_path / "GT" / "x.png", SHARP[:-1], overwrite=True)
    with pytest.raises(IPSError, match="x: the truth has the shape"):
        list(evaluate(tmp_path, ["max"]))
    write_image(tmp_path / "B" / "x.png", SHARP[:-1], overwrite=True)
    with pytest.raises(IPSError, match="x: the images in A and B differ"):
        list(evaluate(tmp_path, ["max"]))


def test_damaged_height_map_is_named(tmp_path):
    put_stack(tmp_path / "s")
    (tmp_path / "s" / "height.npy").write_bytes(b"nothing")
    with pytest.raises(IPSError, match=r"height\.npy cannot be read"):
        list(evaluate(tmp_path, ["max"]))


def row(**changes):
    values = {
        "dataset": "d",
        "sample": "s",
        "method": "m",
        "psnr": 30.0,
        "psnr_inner": 40.0,
        "ssim": 0.9,
        "height_error": None,
        "seconds": 1.0,
    }
    return Row(**(values | changes))


def test_means_are_taken_by_data_set_and_method():
    rows = [
        row(psnr=30.0, psnr_inner=None, height_error=1.0),
        row(psnr=40.0),
        row(method="other", psnr=math.inf),
        row(method="other"),
        row(dataset="e"),
    ]
    first, other, last = means(rows)
    assert (first.psnr, first.psnr_inner, first.height_error) == (35.0, 40.0, 1.0)
    assert (first.sample, first.samples) == ("mean", 2)
    assert other.psnr == math.inf
    assert (last.dataset, last.samples, last.height_error) == ("e", 1, None)
