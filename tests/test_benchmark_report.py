import csv
import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.evaluation import benchmark
from napari_ips.evaluation.benchmark import Row, means
from napari_ips.evaluation.datasets import find_samples
from napari_ips.evaluation.external import parse_fused
from napari_ips.evaluation.measures import columns
from napari_ips.evaluation.methods import Fused, parse_methods
from napari_ips.evaluation.record import Record
from napari_ips.evaluation.report import write_report
from napari_ips.evaluation.report_pictures import choose, draw, draw_all
from napari_ips.evaluation.significance import compare
from napari_ips.evaluation.tables import markdown, mean_tables
from napari_ips.io import read_image
from samples import SHARP, halves, put_pairs, put_stack

METHODS = ("window-energy", "mean")


def run(folder, report, methods=METHODS, **options):
    """Benchmark a folder; return samples, rows and record."""
    samples = find_samples(folder)
    chosen = parse_methods(methods, FuseConfig()) | options
    names = columns(samples, None)
    record = Record(report, list(chosen), names, {"folder": str(folder)})
    rows = []
    for row in benchmark.run(samples, chosen, keep=record.keep):
        record.add(row)
        rows.append(row)
    return samples, rows, record


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_samples_are_kept_one_by_one(tmp_path):
    put_pairs(tmp_path / "set")
    kept = []

    def fails_on_two(scene):
        if scene.sample.name == "two":
            kept.extend(table(tmp_path / "report" / "samples.csv"))
            raise IPSError("mine, on two")
        return Fused(scene.slices[0])

    _, rows, record = run(tmp_path / "set", tmp_path / "report", mine=fails_on_two)
    assert [row["sample"] for row in kept] == ["one"] * 3 + ["two"] * 2
    first, *_, last = table(tmp_path / "report" / "samples.csv")
    assert float(first["psnr"]) == rows[0].figures["psnr"]
    assert (first["truth"], first["failure"], first["method"]) == ("yes", "", METHODS[0])
    assert (last["failure"], last["psnr"], last["seconds"]) == ("mine, on two", "", "")
    image = read_image(tmp_path / "report" / "fused" / "mine" / "set" / "one.png")
    np.testing.assert_array_equal(image, halves(SHARP)[0])
    sample = find_samples(tmp_path / "set")[0]
    assert set(np.unique(record.index(sample, "window-energy"))) == {0, 1}
    assert record.index(sample, "mean") is None
    assert json.loads((tmp_path / "report" / "benchmark.json").read_text())["folder"]


def test_images_of_a_report_can_be_measured_again(tmp_path):
    put_pairs(tmp_path / "set")
    samples, rows, _ = run(tmp_path / "set", tmp_path / "report", ["mean"])
    _, method = parse_fused(f"again={tmp_path / 'report' / 'fused' / 'mean'}", samples)
    again = benchmark.run(samples, {"again": method})
    assert [row.figures for row in again] == [row.figures for row in rows]


def test_only_an_earlier_benchmark_is_overwritten(tmp_path):
    folder = tmp_path / "report"
    put_pairs(tmp_path / "set")
    run(tmp_path / "set", folder)
    with pytest.raises(IPSError, match="--overwrite"):
        Record(folder, ["max"], [], {})
    (folder / "notes.txt").write_text("mine")
    Record(folder, ["max"], [], {}, overwrite=True)
    left = {path.name for path in folder.iterdir()}
    assert left == {"notes.txt", "samples.csv", "benchmark.json"}
    (folder / "benchmark.json").unlink()
    with pytest.raises(IPSError, match="no benchmark wrote"):
        Record(folder, ["max"], [], {}, overwrite=True)
    with pytest.raises(IPSError, match="is a file"):
        Record(folder / "notes.txt", ["max"], [], {})


def test_methods_with_one_folder_are_refused(tmp_path):
    with pytest.raises(IPSError, match="ips:weights=a/b and ips:weights=a:b"):
        Record(tmp_path / "r", ["ips:weights=a/b", "ips:weights=a:b"], [], {})


def test_the_best_figures_stand_out():
    rows = [
        Row("d|e", "s", name, True, {"psnr": psnr, "height_error": error}, 1.0)
        for name, psnr, error in (("a", 30.0, 0.5), ("b", 40.0, 0.25), ("c", 35.0, 0.125))
    ]
    rows.append(Row("d|e", "s", "broken", True, failure="no"))
    (found,) = mean_tables(means(rows))
    title, _, header, _, a, b, c, broken = markdown(found).splitlines()
    assert title == "## d\\|e"
    assert header == "| method | n | PSNR | height | time |"
    assert a == "| a | 1 | 30.00 | 0.500 | 1.00 |"
    assert b == "| b | 1 | **40.00** | 0.250 | 1.00 |"
    assert c == "| c | 1 | 35.00 | **0.125** | 1.00 |"
    assert broken == "| broken | 0 of 1 | - | - | - |"


def rows_with(psnr_inner):
    return [
        Row("set", name, "mine", True, {"psnr": 50.0, "psnr_inner": value})
        for name, value in psnr_inner.items()
    ]


def test_the_worst_samples_of_each_data_set_are_chosen(tmp_path):
    put_pairs(tmp_path / "set", names=["a", "b", "c"])
    put_pairs(tmp_path / "unknown", names=["d", "e"], truth=False)
    samples = find_samples(tmp_path)
    rows = rows_with({"a": 40.0, "b": 30.0, "c": 35.0})
    rows += [
        Row("unknown", name, "mine", False, {"q_g": q})
        for name, q in {"d": 2.0, "e": 1.0}.items()
    ]
    chosen = choose(samples, rows, "mine", 1)
    assert [sample.name for sample in chosen] == ["b", "e"]
    assert [s.name for s in choose(samples, rows, "mine", 2)] == ["b", "c", "e", "d"]
    assert choose(samples, rows, "mine", 0) == []


def test_sheet_of_a_pair_with_truth(tmp_path):
    image = np.random.default_rng(3).integers(0, 250, (200, 260)).astype(np.uint8)
    put_pairs(tmp_path / "set", names=["one"], image=image)

    def spoils_a_corner(scene):
        spoilt = image.copy()
        spoilt[150:160, 30:40] //= 2
        return Fused(spoilt)

    (sample,), rows, record = run(
        tmp_path / "set", tmp_path / "r", [], mine=spoils_a_corner
    )
    sheet = draw(sample, rows, record)
    row, column = map(int, re.findall(r"from row (\d+) and column (\d+)", sheet.title)[0])
    assert row <= 150 < 160 <= row + 128 <= 200
    assert column <= 30 < 40 <= column + 128
    (_, sources), (title, pictures) = sheet.rows
    assert [p.caption for p in sources[1:]] == ["A", "B", "truth"]
    assert title.startswith("mine: PSNR ")
    crop, error, whole = pictures
    assert crop.pixels.shape == error.pixels.shape == (128, 128, 3)
    bright = np.argwhere(error.pixels.sum(axis=-1) > error.pixels.sum(axis=-1).min())
    assert bright.min(axis=0).tolist() == [150 - row, 30 - column]
    assert bright.max(axis=0).tolist() == [159 - row, 39 - column]
    assert whole.pixels.shape == (200, 260, 3)


def test_sheets_without_truth_show_differences_to_the_sources(tmp_path):
    put_pairs(tmp_path / "pairs", names=["one"], truth=False)
    put_stack(tmp_path / "stacks" / "s", truth=False)
    samples, rows, record = run(tmp_path, tmp_path / "r")
    pair, stack = draw_all(samples, rows, "mean", record)
    assert "(no truth)" in pair.title
    assert [title.partition(":")[0] for title, _ in pair.rows] == [
        "sources",
        "mean",
        "window-energy",
    ]
    _, _, (_, (_, to_a, to_b, index)) = pair.rows
    assert to_a.caption.startswith("difference to A")
    # Window energy takes the left half from A, so that it differs from B alone there.
    assert to_a.pixels[:, :20].sum() < to_b.pixels[:, :20].sum()
    assert index.caption == "slice taken, violet: 0, yellow: 1"
    _, (_, (_, nearest)), _ = stack.rows
    assert nearest.caption.startswith("difference to the nearest slice")
    assert stack.rows[0][1][0].caption.startswith("slice ")


def test_samples_that_nothing_was_made_of_have_no_sheet(tmp_path):
    put_pairs(tmp_path / "set")

    def fails(scene):
        raise IPSError("no")

    samples, rows, record = run(tmp_path / "set", tmp_path / "r", [], mine=fails)
    assert list(draw_all(samples, rows, "mine", record)) == []


class Page(HTMLParser):
    """Counts tags, and keeps what the pictures and links of a page point to."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "html"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "html":
            assert self.open.pop() == tag


def test_report_is_complete_and_needs_nothing_else(tmp_path):
    put_pairs(tmp_path / "<set>")
    folder = tmp_path / "report"

    def fails(scene):
        raise IPSError("it has <no> lens")

    samples, rows, record = run(tmp_path / "<set>", folder, mine=fails)
    compared = compare(rows, "window-energy")
    sheets = draw_all(samples, rows, "window-energy", record)
    write_report(folder, means(rows), compared, rows, sheets, {"channel": "luminance"})
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.sources) == 2 * (4 + 4 + 3)
    for source in page.sources:
        head, _, data = source.partition(",")
        assert head == "data:image/png;base64"
        assert Image.open(BytesIO(b64decode(data))).size >= (48, 48)
    assert "&lt;set&gt;" in text
    assert "it has &lt;no&gt; lens" in text
    assert "<set>" not in text
    told = (folder / "table.md").read_text()
    assert "- mine on <set>/one: it has <no> lens" in told
    assert "| PSNR, mean | +" in told
    found = {row["method"]: row for row in table(folder / "means.csv")}
    assert float(found["mean"]["psnr"]) == means(rows)[1].figures["psnr"]
    assert found["mine"]["failed"] == "2"
    (psnr, *_) = table(folder / "significance.csv")
    assert (psnr["measure"], psnr["other"], psnr["wins"]) == ("psnr", "mean", "2")
