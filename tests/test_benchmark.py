import math
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.evaluation import benchmark
from napari_ips.evaluation.benchmark import Row, first_of_each, means
from napari_ips.evaluation.datasets import find_samples
from napari_ips.evaluation.measures import parse_measures
from napari_ips.evaluation.methods import Fused, parse_methods
from napari_ips.io import write_image
from samples import SHARP, put_pairs, put_stack


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


def run(folder, methods, config=None, **options):
    chosen = parse_methods(methods, config or FuseConfig())
    return list(benchmark.run(find_samples(folder), chosen, **options))


def test_rows_of_pairs(tmp_path):
    put_pairs(tmp_path / "set")
    events = []
    rows = run(tmp_path / "set", ["window-energy,mean"], callback=events.append)
    assert [(row.sample, row.method) for row in rows] == [
        ("one", "window-energy"),
        ("one", "mean"),
        ("two", "window-energy"),
        ("two", "mean"),
    ]
    assert list(rows[0].figures) == ["psnr", "psnr_inner", "ssim"]
    for name in ("psnr", "ssim"):
        assert rows[0].figures[name] > rows[1].figures[name]
    assert all(row.seconds > 0 for row in rows)
    assert [(event.done, event.total) for event in events] == [(n, 4) for n in (1, 2, 3, 4)]


def test_inner_psnr_ignores_the_border(tmp_path):
    put_pairs(tmp_path, names=["x"])
    spoilt = SHARP.copy()
    spoilt[:12], spoilt[-12:], spoilt[:, :12], spoilt[:, -12:] = 0, 0, 0, 0
    for part in "AB":
        write_image(tmp_path / part / "x.png", spoilt, overwrite=True)
    (row,) = run(tmp_path, ["mean"])
    assert row.figures["psnr_inner"] == math.inf
    assert row.figures["psnr"] < 20


def test_small_images_have_no_inner_figure(tmp_path):
    put_pairs(tmp_path, names=["x"], image=SHARP[:20])
    (row,) = run(tmp_path, ["mean"])
    assert list(row.figures) == ["psnr", "ssim"]


def test_one_measure_that_is_impossible_leaves_the_others(tmp_path):
    put_pairs(tmp_path, names=["x"], image=SHARP[:6])
    (row,) = run(tmp_path, ["mean"])
    assert list(row.figures) == ["psnr"]


def test_the_true_slice_is_what_a_choice_can_reach(tmp_path):
    put_stack(tmp_path / "stacks" / "known")
    put_stack(tmp_path / "stacks" / "unknown", height=False)
    known, unknown = run(tmp_path, ["true-slice"])
    assert known.figures["psnr"] == math.inf
    assert known.figures["height_error"] == 0
    assert "height.npy" in unknown.failure


def test_height_error_of_a_stack(tmp_path, calls):
    put_stack(tmp_path / "stacks" / "s")
    rows = run(tmp_path, ["window-energy", "ips", "max"])
    figures = {row.method: row.figures for row in rows}
    assert figures["window-energy"]["height_error"] < 0.1
    assert figures["ips"]["height_error"] == pytest.approx(0.5)
    assert "height_error" not in figures["max"]


def test_flat_stacks_have_no_height_error(tmp_path):
    flat = np.full_like(SHARP, 100)
    flat[0, 0] = 101
    put_stack(tmp_path / "stacks" / "s", image=flat)
    (row,) = run(tmp_path, ["window-energy"])
    assert list(row.figures) == ["psnr", "psnr_inner", "ssim"]


def test_ips_methods_choose_their_settings(tmp_path, calls):
    put_pairs(tmp_path / "pairs", names=["x"])
    put_stack(tmp_path / "stacks" / "s", image=np.stack([SHARP] * 3, -1))
    mine = str(tmp_path / "mine.safetensors")
    (tmp_path / "mine.safetensors").touch()
    names = [
        "ips,ips-hard,ips:mode=hard,temperature=0.5",
        f"ips-best:weights={mine},ips-raw",
    ]
    rows = run(tmp_path, names, FuseConfig(tile=512))
    assert [row.method for row in rows[:5]] == [
        "ips",
        "ips-hard",
        "ips:mode=hard,temperature=0.5",
        f"ips-best:weights={mine}",
        "ips-raw",
    ]
    assert [(kind, rgb) for kind, _, rgb, _ in calls] == [("pair", False)] * 5 + [
        ("stack", True)
    ] * 5
    configs = [config for *_, config in calls]
    assert {config.tile for config in configs} == {512}
    told = [(c.mode, c.regularise, c.temperature, c.weights, c.skip) for c in configs]
    assert told == 2 * [
        ("soft", True, None, "default", True),
        ("hard", True, None, "default", True),
        ("hard", True, 0.5, "default", True),
        ("soft", True, None, mine, False),
        ("soft", False, None, "default", True),
    ]


def test_methods_that_do_not_exist_are_named():
    config = FuseConfig()
    with pytest.raises(IPSError, match=r"Unknown method: foo; choose from ips, "):
        parse_methods(["max,foo"], config)
    with pytest.raises(IPSError, match="none given"):
        parse_methods([""], config)
    with pytest.raises(IPSError, match="no setting sharpness"):
        parse_methods(["ips:sharpness=3"], config)
    with pytest.raises(IPSError, match="no weights 'mine'"):
        parse_methods(["ips:weights=mine"], config)
    with pytest.raises(IPSError, match="FIELD=VALUE"):
        parse_methods(["ips:hard"], config)
    with pytest.raises(IPSError, match="Unknown method: max:mode=hard"):
        parse_methods(["max:mode=hard"], config)


def test_colour_is_measured_as_asked(tmp_path):
    colour = np.stack([SHARP, SHARP, SHARP], -1)
    put_pairs(tmp_path, names=["x"], image=colour)
    # Blue counts 11 % of the luminance, but a third of the colour.
    truth = colour.copy()
    truth[..., 2] = 0
    write_image(tmp_path / "GT" / "x.png", truth, overwrite=True)
    (grey,) = run(tmp_path, ["mean"])
    (colours,) = run(tmp_path, ["mean"], channel="rgb")
    assert grey.figures["psnr"] > colours.figures["psnr"] + 3


def test_sixteen_bits_are_measured_against_the_range_of_the_truth(tmp_path):
    wide = SHARP.astype(np.uint16) * 4
    put_pairs(tmp_path / "a", names=["x"], image=wide)
    put_pairs(tmp_path / "b", names=["x"], image=wide * 50)
    first, second = run(tmp_path, ["mean"])
    assert first.figures["psnr"] == pytest.approx(second.figures["psnr"], abs=0.1)


def test_pairs_without_truth_are_measured_by_their_sources(tmp_path):
    put_pairs(tmp_path / "known", names=["x"])
    put_pairs(tmp_path / "unknown", names=["x"], truth=False)
    put_stack(tmp_path / "stacks" / "s", truth=False, height=False)
    known, stack, unknown = run(tmp_path, ["window-energy"])
    assert list(known.figures) == ["psnr", "psnr_inner", "ssim"]
    assert {"q_mi", "q_g", "q_s"} <= set(unknown.figures)
    assert stack.figures == {}
    assert (known.truth, unknown.truth, stack.truth) == (True, False, False)
    assert stack.seconds > 0


def test_chosen_measures_are_taken_wherever_they_can_be(tmp_path):
    put_pairs(tmp_path / "known", names=["x"])
    put_pairs(tmp_path / "unknown", names=["x"], truth=False)
    known, unknown = run(tmp_path, ["max"], measures=parse_measures("q_g, psnr"))
    assert list(known.figures) == ["psnr", "q_g"]
    assert list(unknown.figures) == ["q_g"]
    assert unknown.figures["q_g"] == known.figures["q_g"]
    with pytest.raises(IPSError, match="Unknown measure: mse; choose from all, psnr, "):
        parse_measures("psnr,mse")


def test_limit_counts_for_each_data_set(tmp_path):
    put_pairs(tmp_path / "a")
    put_pairs(tmp_path / "b")
    kept = first_of_each(find_samples(tmp_path), 1)
    assert [(sample.dataset, sample.name) for sample in kept] == [
        ("a", "one"),
        ("b", "one"),
    ]
    with pytest.raises(IPSError, match="limit"):
        first_of_each(kept, 0)


def test_samples_that_do_not_fit_are_told_and_passed_over(tmp_path):
    put_pairs(tmp_path / "a", names=["truth", "good", "sources"])
    put_stack(tmp_path / "s")
    write_image(tmp_path / "a" / "GT" / "truth.png", SHARP[:-1], overwrite=True)
    write_image(tmp_path / "a" / "B" / "sources.png", SHARP[:-1], overwrite=True)
    (tmp_path / "s" / "height.npy").write_bytes(b"nothing")
    rows = {row.sample: row for row in run(tmp_path, ["max"])}
    assert "truth: the truth has the shape" in rows["truth"].failure
    assert "sources: the images in A and B differ" in rows["sources"].failure
    assert "height.npy cannot be read" in rows["s"].failure
    assert rows["good"].failure == ""
    assert rows["good"].figures["psnr"] > 0
    (mean, _) = means(list(rows.values()))
    assert (mean.samples, mean.failed) == (3, 2)
    assert mean.figures == rows["good"].figures


def test_failing_methods_stop_nothing_but_themselves(tmp_path):
    put_pairs(tmp_path)

    def breaks_on_two(scene):
        if scene.sample.name == "two":
            raise ZeroDivisionError("two is too much")
        return Fused(scene.slices[0])

    methods = {"mine": breaks_on_two} | parse_methods(["max"], FuseConfig())
    kept = []
    rows = list(
        benchmark.run(
            find_samples(tmp_path), methods, keep=lambda s, m, f: kept.append((s.name, m))
        )
    )
    assert [row.failure for row in rows] == [
        "",
        "",
        "ZeroDivisionError: two is too much",
        "",
    ]
    assert rows[2].figures == {}
    assert rows[2].seconds is None
    assert kept == [("one", "mine"), ("one", "max"), ("two", "max")]


def row(method="m", dataset="d", seconds=1.0, **figures):
    return Row(dataset, "s", method, truth=True, figures=figures, seconds=seconds)


def test_means_are_taken_by_data_set_and_method():
    rows = [
        row(psnr=30.0, height_error=1.0, seconds=60.0),
        row(psnr=40.0, psnr_inner=40.0),
        row(psnr=41.0, seconds=2.0),
        row("other", psnr=math.inf),
        row("other", psnr=30.0, seconds=None),
        row(dataset="e", psnr=30.0),
    ]
    first, other, last = means(rows)
    assert first.figures == {"psnr": 37.0, "psnr_inner": 40.0, "height_error": 1.0}
    assert (first.samples, first.seconds) == (3, 2.0)
    assert other.figures == {"psnr": math.inf}
    assert other.seconds == 1.0
    assert (last.dataset, last.samples) == ("e", 1)
