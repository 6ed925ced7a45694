import json
import os
import subprocess
import sys

import pytest

from napari_ips.cli import run
from napari_ips.errors import IPSError


def in_process(*arguments, **options):
    command = [sys.executable, "-c", "from napari_ips.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from napari_ips.cli import run; code = run(['fuse', '--help']); "
        "heavy = {'torch', 'numba', 'numpy', 'scipy', 'zarr', 'dask'} & set(sys.modules); "
        "sys.exit(code or bool(heavy) and str(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "--index-map" in done.stdout


def test_help_is_quick():
    """Beside the smallest program of typer, for machines differ and are busy."""
    smallest = "import typer; app = typer.Typer(); app.command()(lambda: None); app()"
    own = "from napari_ips.cli import main; main()"

    def seconds(program, *arguments):
        before = os.times()
        command = [sys.executable, "-c", program, *arguments, "--help"]
        subprocess.run(command, capture_output=True, check=True, timeout=60)
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    times = [(seconds(own, "fuse"), seconds(smallest)) for _ in range(4)]
    # About twice as long; with PyTorch or SciPy it would be ten times.
    assert min(t for t, _ in times) < 4 * min(t for _, t in times)


@pytest.mark.parametrize(
    "command", ["demo", "fuse", "train", "benchmark", "simulate", "info", "weights"]
)
def test_every_help_teaches_by_examples(success, command):
    text = " ".join(success(command, "--help").split())
    assert "Examples" in text
    assert f"napari-ips {command}" in text.split("Examples", 1)[1]


def test_no_arguments_show_the_help(capsys):
    assert run([]) != 0
    out, err = capsys.readouterr()
    assert "Usage" in out + err


def test_version(success):
    from napari_ips import __version__

    assert success("--version").strip() == __version__


def test_usage_errors_are_one_line_with_code_2(failure):
    line = failure("fuse", "a.tif", "-o", "b.tif", "--wrong", code=2)
    assert line.startswith("Error: No such option")
    assert "--wrong" in line
    assert line.endswith("Try 'napari-ips fuse --help'.")
    assert "nonsense" in failure("nonsense", code=2)


@pytest.mark.parametrize("place", [0, 1, 4])
def test_debug_shows_the_traceback_wherever_it_stands(failure, capsys, tmp_path, place):
    arguments = ["fuse", str(tmp_path / "missing.tif"), "-o", str(tmp_path / "out.tif")]
    failure(*arguments)
    arguments.insert(place, "--debug")
    assert run(arguments) == 1
    assert "Traceback" in capsys.readouterr().err


def test_unexpected_errors_ask_for_a_report(failure, put_fusion, stack_file):
    def fuse_to_file(*_, **__):
        raise ZeroDivisionError("a\nb")

    put_fusion(fuse_to_file=fuse_to_file)
    line = failure("fuse", stack_file, "-o", stack_file.with_name("o.tif"))
    assert line == "Unexpected ZeroDivisionError: a; run again with --debug and report it."


@pytest.fixture
def known_backends(monkeypatch):
    from napari_ips import scan, weights
    from napari_ips.scan import mamba

    monkeypatch.setattr(scan, "backends", lambda: {"numba": None, "triton": "no GPU"})
    monkeypatch.setattr(scan, "choose_backend", lambda device: ("numba", f"for {device}"))
    card = {"psnr": "41.5", "licence": "BSD", "set": '{"images": 3, "types": {"uint8": 2}}'}
    entry = weights.WeightsInfo("default", "path", True, card)
    monkeypatch.setattr(weights, "list_weights", lambda: [entry])
    monkeypatch.setattr(mamba, "conv_unavailable", lambda: "not installed")


def test_info_tells_backends_and_weights(success, known_backends):
    text = success("info")
    for words in ("numba", "no: no GPU", "default", "licence: BSD", "torch", "cpu"):
        assert words in text
    assert "set: images 3, types (uint8 2)" in text
    assert "causal_conv1d" in text


def test_info_json(success, known_backends):
    told = json.loads(success("info", "--json"))
    assert told["backends"] == {"numba": None, "triton": "no GPU"}
    assert told["auto"]["backend"] == "numba"
    assert told["convolutions"] == {"causal_conv1d": "not installed"}
    card = told["weights"][0]["card"]
    assert (card["psnr"], card["set"]["images"]) == (41.5, 3)
    assert told["threads"] >= 1


def test_brackets_of_a_message_are_text(failure, monkeypatch, known_backends):
    from napari_ips import weights

    def broken():
        raise IPSError("the folder of weights is [red]gone")

    monkeypatch.setattr(weights, "list_weights", broken)
    assert failure("info") == "Error: the folder of weights is [red]gone"
