import json
import re
import sys

import numpy as np
import pytest

from napari_ips.cli import run
from napari_ips.io import read_image, write_image, write_stack
from napari_ips.simulation import save_simulated, simulate_stack

SHARP = np.random.default_rng(0).integers(0, 250, (48, 60)).astype(np.uint8)


@pytest.fixture
def stacks(tmp_path):
    """Two small stacks with their truth."""
    folder = tmp_path / "stacks"
    for seed, name in enumerate(("one", "two")):
        made = simulate_stack(SHARP, 4, relief="tilt", seed=seed)
        save_simulated(folder / name, made, info={})
    return folder


@pytest.fixture
def program(tmp_path):
    """Command line of a program that copies the first slice."""
    path = tmp_path / "copy.py"
    path.write_text(
        "import shutil, sys; shutil.copy(sys.argv[1] + '/0000.png', sys.argv[2])"
    )
    return f"{sys.executable} {path} {{input}} {{output}}"


def test_help_names_every_method_and_measure(success):
    from napari_ips.evaluation.measures import MEASURES
    from napari_ips.evaluation.methods import CLASSICAL, IPS

    words = re.findall(r"[\w-]+", success("benchmark", "--help"))
    assert {*MEASURES, *CLASSICAL, *IPS} <= set(words)


def test_json_has_means_rows_and_significance(success, stacks):
    options = ["--methods", "window-energy, mean", "--json"]
    told = json.loads(success("benchmark", stacks, *options))
    selected, mean = told["means"]
    assert (selected["method"], selected["dataset"]) == ("window-energy", "stacks")
    assert selected["psnr"] > mean["psnr"]
    assert selected["height_error"] < 1.0
    assert "height_error" not in mean
    assert [row["sample"] for row in told["rows"]] == ["one", "one", "two", "two"]
    assert told["significance"][0]["other"] == "mean"
    again = json.loads(success("benchmark", stacks, *options, "--reference", "mean"))
    assert again["significance"][0]["other"] == "window-energy"


def test_tables_are_printed_whole_in_narrow_terminals(success, stacks, tmp_path):
    for part in "AB":
        (tmp_path / "pair" / part).mkdir(parents=True)
        write_image(tmp_path / "pair" / part / "x.png", SHARP)
    methods = ["--methods", "best-slice,window-energy", "--measures", "all"]
    text = success("benchmark", tmp_path, *methods)
    for words in ("best-slice", "window-energy", "pair (no truth)", "PSNR", "Q_MI", "Q_Y"):
        assert words in text


def test_report_of_own_and_other_methods(success, failure, stacks, tmp_path, program):
    report = tmp_path / "report"
    options = ["--methods", "max", "--command", f"first={program}", "-o", report]
    success("benchmark", stacks, *options, "--show", "two")
    assert {path.name for path in report.iterdir()} == {
        "benchmark.json",
        "samples.csv",
        "means.csv",
        "significance.csv",
        "table.md",
        "report.html",
        "fused",
    }
    page = (report / "report.html").read_text()
    assert "stacks, two: crops" in page
    assert "stacks, one: crops" not in page
    settings = json.loads((report / "benchmark.json").read_text())
    assert settings["options"]["command"] == [f"first={program}"]
    assert "--overwrite" in failure("benchmark", stacks, *options)
    success("benchmark", stacks, *options, "--overwrite", "--pictures", "0")
    assert "crops" not in (report / "report.html").read_text()
    fused = ["--fused", f"again={report / 'fused' / 'first'}", "--json"]
    (mean,) = json.loads(success("benchmark", stacks, *fused))["means"]
    assert (mean["samples"], mean["seconds"]) == (2, None)
    first = read_image(report / "fused" / "first" / "stacks" / "one.png")
    assert first.shape == SHARP.shape


def test_a_report_keeps_what_is_to_be_measured(success, failure, stacks, tmp_path):
    report = tmp_path / "report"
    success("benchmark", stacks, "--methods", "max", "-o", report)
    options = ["-o", report, "--overwrite"]
    fused = ["--fused", f"again={report / 'fused' / 'max'}"]
    assert "another folder" in failure("benchmark", stacks, *fused, *options)
    stacks.rename(report / "stacks")
    assert "another folder" in failure("benchmark", report / "stacks", *options)
    assert (report / "fused" / "max" / "stacks" / "one.png").is_file()


def test_stacks_with_transparency_are_fused_without(success, tmp_path, program):
    layers = np.dstack([SHARP, SHARP, SHARP, np.full_like(SHARP, 255)])
    (tmp_path / "stack").mkdir()
    write_stack(tmp_path / "stack" / "stack.tif", np.stack([layers, layers]))
    report = tmp_path / "report"
    command = ["--methods", "max", "--command", f"first={program}", "-o", report]
    success("benchmark", tmp_path, *command)
    for method in ("max", "first"):
        place = report / "fused" / method / tmp_path.name / "stack.png"
        assert read_image(place).shape == (*SHARP.shape, 3)
    assert "stack: crops" in (report / "report.html").read_text()


def test_failures_come_last_and_with_code_1(capsys, stacks, tmp_path):
    bad = f"bad={sys.executable} -c 'raise SystemExit(7)' {{input}} {{output}}"
    report = tmp_path / "report"
    options = ["--methods", "max", "--command", bad, "-o", str(report), "--json"]
    assert run(["benchmark", str(stacks), *options]) == 1
    out, err = capsys.readouterr()
    rows = json.loads(out)["rows"]
    assert [bool(row["failure"]) for row in rows] == [False, True] * 2
    assert "Error: 2 of 4 fusions failed, the first of them bad on stacks/one" in err
    assert "code 7" in err
    assert "bad on stacks/two: bad failed with code 7" in (report / "table.md").read_text()


def test_stopping_keeps_what_was_measured(capsys, monkeypatch, stacks, tmp_path):
    from napari_ips.evaluation import methods

    def stop_at_two(scene):
        if scene.sample.name == "two":
            raise KeyboardInterrupt
        return methods.Fused(scene.slices[0])

    monkeypatch.setitem(methods.CLASSICAL, "max", stop_at_two)
    report = tmp_path / "report"
    assert run(["benchmark", str(stacks), "--methods", "max", "-o", str(report)]) == 130
    assert f"Stopped; what was measured so far is in {report}." in capsys.readouterr().err
    assert len((report / "samples.csv").read_text().splitlines()) == 2


def test_identical_images_are_inf_in_table_and_json(success, tmp_path):
    for part in ("A", "B", "GT"):
        (tmp_path / part).mkdir()
        write_image(tmp_path / part / "x.png", SHARP)
    assert " inf " in success("benchmark", tmp_path, "--methods", "mean")
    out = success("benchmark", tmp_path, "--methods", "mean", "--json")
    told = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert told["rows"][0]["psnr"] == "inf"


def test_bad_requests_are_told_at_once(failure, stacks, tmp_path):
    def fails(*options):
        return failure("benchmark", stacks, *options)

    assert "is not a folder" in failure("benchmark", tmp_path / "none")
    assert "Unknown method: foo" in fails("--methods", "foo")
    assert "Unknown measure: bar" in fails("--measures", "bar")
    assert "--channel" in fails("--channel", "red")
    assert "--reference" in fails("--reference", "ips-raw")
    assert "--show three" in fails("--show", "one,three")
    assert "no program" in fails("--command", "x=no-tool {input} {output}")
    twice = ["--methods", "max", "--fused", f"max={tmp_path}"]
    assert "there is no one.png" in fails(*twice)
    for name in ("one", "two"):
        write_image(tmp_path / f"{name}.png", SHARP)
    assert "two methods max" in fails(*twice)
    assert "no benchmark wrote" in fails("-o", tmp_path)
