import json
import signal
import subprocess
import sys
import time

import pytest

from napari_ips.cli import run
from napari_ips.errors import IPSError


def in_process(*arguments, **options):
    command = [sys.executable, "-c", "from napari_ips.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from napari_ips.cli import run; code = run(['fuse', '--help']); "
        "heavy = {'torch', 'numba', 'skimage', 'numpy', 'scipy'} & set(sys.modules); "
        "sys.exit(code or bool(heavy) and str(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "--index-map" in done.stdout


def test_help_is_quick():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        in_process("--help")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.8  # 0.18 s on a free core; the rest is for a busy machine


@pytest.mark.parametrize(
    "command", ["demo", "fuse", "train", "evaluate", "simulate", "info"]
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
    def fuse_stack(*_, **__):
        raise ZeroDivisionError("a\nb")

    put_fusion(fuse_stack)
    line = failure("fuse", stack_file, "-o", stack_file.with_name("o.tif"))
    assert line == "Unexpected ZeroDivisionError: a; run again with --debug and report it."


def test_interrupt_is_one_line_and_130(failure, put_fusion, stack_file):
    def fuse_stack(*_, **__):
        raise KeyboardInterrupt

    put_fusion(fuse_stack)
    output = stack_file.with_name("o.tif")
    assert failure("fuse", stack_file, "-o", output, code=130) == "Stopped."
    assert not output.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_real_ctrl_c_ends_the_process_with_130(stack_file):
    program = (
        "import sys, time, types; fusion = types.ModuleType('napari_ips.fusion'); "
        "fusion.fuse_stack = lambda *a, **k: (print('ready', flush=True), time.sleep(60)); "
        "sys.modules['napari_ips.fusion'] = fusion; "
        "from napari_ips.cli import main; main()"
    )
    output = str(stack_file.with_name("o.tif"))
    process = subprocess.Popen(
        [sys.executable, "-c", program, "fuse", str(stack_file), "-o", output],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "ready"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "Stopped."


@pytest.fixture
def known_backends(monkeypatch):
    from napari_ips import scan, weights

    monkeypatch.setattr(scan, "backends", lambda: {"numba": None, "triton": "no GPU"})
    monkeypatch.setattr(scan, "choose_backend", lambda device: ("numba", f"for {device}"))
    entry = weights.WeightsInfo("default", "path", True, {"psnr": "41.5", "licence": "BSD"})
    monkeypatch.setattr(weights, "list_weights", lambda: [entry])


def test_info_tells_backends_and_weights(success, known_backends):
    text = success("info")
    for words in ("numba", "no: no GPU", "default", "licence: BSD", "torch", "cpu"):
        assert words in text


def test_info_json(success, known_backends):
    told = json.loads(success("info", "--json"))
    assert told["backends"] == {"numba": None, "triton": "no GPU"}
    assert told["auto"]["backend"] == "numba"
    assert told["weights"][0]["card"] == {"psnr": 41.5, "licence": "BSD"}
    assert told["threads"] >= 1


def test_brackets_of_a_message_are_text(failure, monkeypatch, known_backends):
    from napari_ips import weights

    def broken():
        raise IPSError("the folder of weights is [red]gone")

    monkeypatch.setattr(weights, "list_weights", broken)
    assert failure("info") == "Error: the folder of weights is [red]gone"
