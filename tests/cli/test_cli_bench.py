import json
import sys

import pytest

from napari_ips.cli import run
from napari_ips.evaluation.speed import fusing
from napari_ips.evaluation.speed.specimen import Specimen


@pytest.fixture
def small_stacks(monkeypatch):
    stacks = {Specimen(48, 2, "uint8"): (), Specimen(64, 2): ("fast",)}
    monkeypatch.setattr(fusing, "STACKS", stacks)


def command(name, code="shutil.copy(source + '/0000.png', target)"):
    head = "import shutil, sys; source, target = sys.argv[1:]; "
    return ["--command", f'{name}={sys.executable} -c "{head}{code}" {{input}} {{output}}']


def test_json_has_the_machine_and_every_timing(success, small_stacks, tmp_path):
    file = tmp_path / "speed.json"
    options = ["--only", "fusing", "--rounds", "1", "--device", "cpu", *command("copy")]
    told = json.loads(success("bench", *options, "--json", "-o", file))
    assert told == json.loads(file.read_text())
    assert list(told) == ["machine", "fusing"]
    assert told["machine"]["cores"] >= 1
    rows = told["fusing"]
    assert [(row["method"], row["dtype"]) for row in rows] == [
        ("copy", "uint8"),
        ("napari-ips fast", "uint16"),
        ("copy", "uint16"),
    ]
    for row in rows:
        assert (row["rounds"], len(row["runs"])) == (1, 1)
        assert row["runs"][0]["seconds"] > 0
        assert 10 < row["psnr"] < 80
    assert rows[2]["ratio"] < 1


def test_tables_say_what_failed_and_the_code_is_1(capsys, monkeypatch):
    monkeypatch.setattr(fusing, "STACKS", {Specimen(48, n): () for n in (2, 3)})
    given = ["--only", "fusing", "--rounds", "2", *command("copy"), *command("bad", "1/0")]
    assert run(["bench", *given]) == 1
    out, err = capsys.readouterr()
    for words in ("Fusing a stack, 48 x 48 x 2, 16 bits", "copy", "PSNR", "failed"):
        assert words in out
    last = err.strip().splitlines()[-1]
    assert last.startswith("Error: 2 measurements failed, the first of them bad on 48 x 48")
    assert "ZeroDivisionError" in last


def test_sections_are_those_asked_for(success, monkeypatch):
    from napari_ips.cli import bench_sections
    from napari_ips.evaluation.speed.startup import StartRow
    from napari_ips.evaluation.speed.training import TrainingRow

    rows = [StartRow("x", 0.4, 0.25, (0.25,)), StartRow("y", 1.0, why="there is no screen")]
    steps = [TrainingRow("float32", 2.0, 1.0, (0.5,))]
    monkeypatch.setattr(bench_sections, "measure_startup", lambda **_: rows)
    monkeypatch.setattr(bench_sections, "measure_training", lambda **_: steps)
    out = success("bench", "--only", "training, start-up")
    assert out.index("Start-up") < out.index("Training")
    assert "0.25" in out
    told = json.loads(success("bench", "--only", "start-up", "--json"))
    assert list(told) == ["machine", "start-up"]
    assert told["start-up"][1]["why"] == "there is no screen"


def test_what_was_measured_before_it_was_stopped_is_kept(capsys, monkeypatch, tmp_path):
    from napari_ips.cli import bench_sections

    def stop(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_sections, "measure_startup", lambda **_: [])
    monkeypatch.setattr(bench_sections, "startup_table", lambda _: None)
    monkeypatch.setattr(bench_sections, "print_table", lambda _: None)
    monkeypatch.setattr(bench_sections, "measure_training", stop)
    file, given = tmp_path / "speed.json", ["bench", "--only", "start-up,training"]
    assert run([*given, "-o", str(file)]) == 130
    assert f"Stopped; what was measured so far is in {file}." in capsys.readouterr().err
    assert list(json.loads(file.read_text())) == ["machine", "start-up"]
    assert run(given) == 130
    assert capsys.readouterr().err.endswith("Stopped.\n")


def test_bad_requests_are_told_at_once(failure, tmp_path):
    def fails(*options):
        return failure("bench", *options)

    assert "--only speed: choose from fusing" in fails("--only", "fusing,speed")
    file = tmp_path / "speed.json"
    file.write_text("mine")
    assert "--overwrite" in fails("-o", file)
    assert file.read_text() == "mine"
    assert "end the name in .json" in fails("-o", tmp_path / "speed.txt")
    assert "end the name in .png" in fails("--plot", tmp_path / "growth.pdf")
    assert "--only name it" in fails("--only", "fusing", "--plot", tmp_path / "x.png")
    assert "needs {output}" in fails("--command", f"x={sys.executable} {{input}}")
    assert "two programs copy" in fails(*command("copy"), *command("copy"))
    assert "--largest must be" in fails("--largest", 100)
    assert "needs both --pairs and --train" in fails("--pairs", tmp_path)
    assert "no such folder" in fails("--pairs", tmp_path, "--train", tmp_path / "none")
    assert "Nothing to evaluate" in fails("--pairs", tmp_path, "--train", tmp_path)


def test_a_picture_needs_matplotlib(failure, monkeypatch, tmp_path):
    from napari_ips.evaluation.speed import plot

    monkeypatch.setattr(plot.importlib.util, "find_spec", lambda name: None)
    told = failure("bench", "--plot", tmp_path / "growth.png")
    assert told.endswith("--plot needs matplotlib: pip install napari-ips[benchmark]")
