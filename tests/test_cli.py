import json
import os
import signal
import subprocess
import sys
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import tifffile

from napari_ips.cli import run
from napari_ips.errors import IPSError
from napari_ips.events import (
    CheckpointSaved,
    ImagesFound,
    LossPoint,
    Progress,
    TrainingFinished,
    ValidationPoint,
)
from napari_ips.io import read_image, read_stack, write_image, write_stack

SHARP = np.random.default_rng(0).integers(0, 250, (48, 60)).astype(np.uint8)
STACK = np.stack([SHARP, SHARP // 2, SHARP // 4])


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    """Same width and no colours wherever the tests run."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def fusion(monkeypatch):
    """Stand in for the network: fused is the first slice; calls are recorded."""
    calls = []

    def fuse_stack(stack, axis=0, *, rgb=None, config=None, callback=None):
        calls.append(SimpleNamespace(stack=stack, rgb=rgb, config=config))
        if callback is not None:
            callback(Progress("compare", 1, 1))
        shape = stack.shape[1:3]
        return SimpleNamespace(
            fused=stack[0],
            index=np.ones(shape, np.uint16),
            depth=np.full(shape, 0.5, np.float32),
            confidence=np.full(shape, 0.25, np.float32),
        )

    module = ModuleType("napari_ips.fusion")
    module.fuse_stack = fuse_stack
    monkeypatch.setitem(sys.modules, "napari_ips.fusion", module)
    return calls


@pytest.fixture
def stack_file(tmp_path):
    path = tmp_path / "stack.tif"
    write_stack(path, STACK, pixel_size=(0.5, 0.25), z_step=2.0, unit="µm")
    return path


def failure(capsys, *arguments, code=1):
    """Run a command that must fail; return its one line on stderr."""
    assert run([str(argument) for argument in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    return err.strip()


def success(capsys, *arguments):
    assert run([str(argument) for argument in arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


# --- the frame ------------------------------------------------------------------------


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
def test_every_help_teaches_by_examples(capsys, command):
    text = " ".join(success(capsys, command, "--help").split())
    assert "Examples" in text
    assert f"napari-ips {command}" in text.split("Examples", 1)[1]


def test_no_arguments_show_the_help(capsys):
    assert run([]) != 0
    out, err = capsys.readouterr()
    assert "Usage" in out + err


def test_version(capsys):
    from napari_ips import __version__

    assert success(capsys, "--version").strip() == __version__


def test_usage_errors_are_one_line_with_code_2(capsys):
    line = failure(capsys, "fuse", "a.tif", "-o", "b.tif", "--wrong", code=2)
    assert line.startswith("Error: No such option")
    assert "--wrong" in line
    assert line.endswith("Try 'napari-ips fuse --help'.")
    assert "nonsense" in failure(capsys, "nonsense", code=2)


@pytest.mark.parametrize("place", [0, 1, 4])
def test_debug_shows_the_traceback_wherever_it_stands(capsys, tmp_path, place):
    arguments = ["fuse", str(tmp_path / "missing.tif"), "-o", str(tmp_path / "out.tif")]
    failure(capsys, *arguments)
    arguments.insert(place, "--debug")
    assert run(arguments) == 1
    assert "Traceback" in capsys.readouterr().err


def test_unexpected_errors_ask_for_a_report(capsys, monkeypatch, stack_file):
    module = ModuleType("napari_ips.fusion")

    def fuse_stack(*_, **__):
        raise ZeroDivisionError("a\nb")

    module.fuse_stack = fuse_stack
    monkeypatch.setitem(sys.modules, "napari_ips.fusion", module)
    line = failure(capsys, "fuse", stack_file, "-o", stack_file.with_name("o.tif"))
    assert line == "Unexpected ZeroDivisionError: a; run again with --debug and report it."


def test_interrupt_is_one_line_and_130(capsys, monkeypatch, stack_file):
    module = ModuleType("napari_ips.fusion")

    def fuse_stack(*_, **__):
        raise KeyboardInterrupt

    module.fuse_stack = fuse_stack
    monkeypatch.setitem(sys.modules, "napari_ips.fusion", module)
    output = stack_file.with_name("o.tif")
    assert failure(capsys, "fuse", stack_file, "-o", output, code=130) == "Stopped."
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


# --- fuse -----------------------------------------------------------------------------


def test_fuse_writes_what_was_asked_for(capsys, tmp_path, stack_file, fusion):
    names = ("fused.tif", "index.png", "confidence.tif", "depth.tif")
    fused, index, confidence, depth = (tmp_path / name for name in names)
    text = success(
        capsys, "fuse", stack_file, "-o", fused, "--index-map", index,
        "--confidence", confidence, "--depth", depth,
    )  # fmt: skip
    np.testing.assert_array_equal(read_image(fused), STACK[0])
    assert read_image(fused).dtype == np.uint8
    assert read_image(index).dtype == np.uint16
    assert (read_image(confidence) == 0.25).all()
    assert read_image(depth).dtype == np.float32
    assert "3 slices of 60 x 48 pixels" in text
    assert (fusion[0].stack == STACK).all()


def test_fuse_keeps_pixel_size_and_unit(capsys, tmp_path, stack_file, fusion):
    outputs = [tmp_path / "fused.tif", tmp_path / "index.tif"]
    success(capsys, "fuse", stack_file, "-o", outputs[0], "--index-map", outputs[1])
    for path in outputs:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            ratios = [page.tags[f"{axis}Resolution"].value for axis in "YX"]
            assert [n / d for n, d in ratios] == pytest.approx([2.0, 4.0])
            assert "m" in str(file.imagej_metadata or file.ome_metadata)


def test_fuse_takes_folders_and_lists(capsys, tmp_path, fusion):
    (tmp_path / "in").mkdir()
    files = [tmp_path / "in" / f"z{number}.png" for number in (2, 10, 1)]
    for path, image in zip(files, STACK, strict=True):
        write_image(path, image)
    success(capsys, "fuse", tmp_path / "in", "-o", tmp_path / "folder.tif")
    success(capsys, "fuse", *files[:2], "-o", tmp_path / "list.tif")
    np.testing.assert_array_equal(fusion[0].stack, STACK[[2, 0, 1]])
    np.testing.assert_array_equal(fusion[1].stack, STACK[:2])


def test_fuse_z_axis(capsys, tmp_path, fusion):
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, np.moveaxis(STACK, 0, -1), photometric="minisblack")
    success(capsys, "fuse", path, "-o", tmp_path / "o.tif", "--z-axis", "2")
    np.testing.assert_array_equal(fusion[0].stack, STACK)


def test_fuse_options_override_the_file(capsys, tmp_path, stack_file, fusion):
    config = tmp_path / "settings.toml"
    config.write_text('mode = "hard"\ntile = 128\n')
    output = tmp_path / "o.tif"
    options = ["--config", config, "--tile", "64", "--smoothing", "2.5", "--json"]
    out = success(capsys, "fuse", stack_file, "-o", output, "--strategy", "fold", *options)
    used = fusion[0].config
    assert (used.mode, used.tile, used.smoothing) == ("hard", 64, 2.5)
    told = json.loads(out)
    assert told["output"] == str(output)
    assert told["settings"]["strategy"] == "fold"
    assert (told["slices"], told["height"], told["width"]) == (3, 48, 60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "{0}/o.jpg"], "suffix"),
        (["-o", "{0}/o"], "suffix"),
        (["-o", "{0}/none/o.tif"], "does not exist"),
        (["-o", "{0}/old.tif"], "--overwrite"),
        (["-o", "{0}/stack.tif", "--overwrite"], "also an input"),
        (["-o", "{0}/o.tif", "--index-map", "{0}/./o.tif"], "give two files"),
        (["-o", "{0}/o.tif", "--depth", "{0}/depth.png"], "--depth"),
        (["-o", "{0}/folder.tif"], "is a folder"),
        (["-o", "{0}/o.tif", "--mode", "middling"], "mode"),
        (["-o", "{0}/o.tif", "--tile", "1"], "tile"),
        (["-o", "{0}/o.tif", "--config", "{0}/none.toml"], "none.toml"),
    ],
)
def test_fuse_refuses_before_computing(
    capsys, tmp_path, stack_file, fusion, arguments, words
):
    (tmp_path / "old.tif").write_bytes(b"old")
    (tmp_path / "folder.tif").mkdir()
    before = sorted(tmp_path.iterdir())
    arguments = [argument.format(tmp_path) for argument in arguments]
    assert words in failure(capsys, "fuse", stack_file, *arguments)
    assert fusion == []
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "old.tif").read_bytes() == b"old"
    np.testing.assert_array_equal(read_stack(stack_file).data, STACK)


def test_fuse_refuses_an_output_among_its_slices(capsys, tmp_path, fusion):
    for number, image in enumerate(STACK):
        write_image(tmp_path / f"{number}.png", image)
    assert "input folder" in failure(capsys, "fuse", tmp_path, "-o", tmp_path / "o.png")


def test_fuse_refuses_an_unwritable_folder(
    capsys, tmp_path, stack_file, fusion, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    assert "cannot be written" in failure(
        capsys, "fuse", stack_file, "-o", tmp_path / "o.tif"
    )


def test_fuse_refuses_floats_in_png_before_computing(capsys, tmp_path, fusion):
    path = tmp_path / "float.tif"
    write_stack(path, STACK.astype(np.float32))
    assert "use .tif" in failure(capsys, "fuse", path, "-o", tmp_path / "o.png")
    assert fusion == []


def test_fuse_overwrites_when_told(capsys, tmp_path, stack_file, fusion):
    output = tmp_path / "o.tif"
    output.write_bytes(b"old")
    success(capsys, "fuse", stack_file, "-o", output, "--overwrite")
    np.testing.assert_array_equal(read_image(output), STACK[0])


# --- demo -----------------------------------------------------------------------------


def test_demo_writes_everything_and_again(capsys, tmp_path, fusion, monkeypatch):
    from napari_ips import simulation

    small = simulation.demo_image()[100:228, 100:260]
    monkeypatch.setattr(simulation, "demo_image", lambda: small)
    folder = tmp_path / "demo"
    text = success(capsys, "demo", "-o", folder)
    for name in ("fused", "max projection", "mean projection", "best single slice"):
        assert name in text
    told = json.loads(success(capsys, "demo", "-o", folder, "--json"))
    assert set(told["files"]) == {
        "stack", "truth", "fused", "index", "confidence", "panel",
    }  # fmt: skip
    truth, stack = read_image(folder / "truth.tif"), read_stack(folder / "stack.tif")
    assert stack.data.shape[1:] == truth.shape
    panel = read_image(folder / "panel.png")
    assert panel.shape[1] > panel.shape[0] > 600
    assert panel.std() > 30
    # The stand-in fuses to the first slice, which cannot beat the best single one.
    figures = told["figures"]
    assert figures["fused"]["psnr"] <= figures["best single slice"]["psnr"]


def test_demo_leaves_foreign_folders_alone(capsys, tmp_path, fusion):
    (tmp_path / "thesis.txt").write_text("mine")
    assert "no demo wrote" in failure(capsys, "demo", "-o", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert "is a file" in failure(capsys, "demo", "-o", tmp_path / "thesis.txt")


# --- train ----------------------------------------------------------------------------


@pytest.fixture
def training(monkeypatch):
    """Stand in for the training: record the settings and yield a few events."""
    calls = []

    def train(config, *, resume=False, overwrite=False):
        call = SimpleNamespace(config=config, resume=resume, overwrite=overwrite)
        calls.append(call)
        call.closed = False
        try:
            yield ImagesFound(2, (("soft.png", "nothing sharp in it"),))
            for step in (1, 2, 3):
                yield LossPoint(step, 0.5 / step, 1e-3, step / 3)
            yield ValidationPoint(3, 41.5, 0.98)
            yield CheckpointSaved(3, config.output.with_suffix(".checkpoint"))
            if config.seed == 13:
                raise KeyboardInterrupt
            yield TrainingFinished(3, config.output, 41.5, 0.98)
        finally:
            call.closed = True

    module = ModuleType("napari_ips.training")
    module.train = train
    monkeypatch.setitem(sys.modules, "napari_ips.training", module)
    return calls


def test_train_shows_what_happens(capsys, tmp_path, training):
    output = tmp_path / "w.safetensors"
    assert run(["train", str(tmp_path), "-o", str(output), "--minutes", "1"]) == 0
    out, err = capsys.readouterr()
    assert "41.50 dB" in out
    assert str(output) in out.replace("\n", "")
    assert "soft.png: nothing sharp in it" in err
    assert "validation 41.50 dB" in err
    assert training[0].closed


def test_train_json(capsys, tmp_path, training):
    output = tmp_path / "w.safetensors"
    out = success(capsys, "train", tmp_path, "-o", output, "--iterations", "3", "--json")
    told = json.loads(out)
    assert (told["output"], told["iterations"], told["psnr"]) == (str(output), 3, 41.5)
    assert told["settings"]["iterations"] == 3


def test_train_settings_override_in_order(capsys, tmp_path, training):
    config = tmp_path / "settings.toml"
    config.write_text(
        "batch_size = 2\ncrop_size = 32\nnoise = 0.2\n[network]\nwidth = 8\nd_state = 4\n"
    )
    success(
        capsys, "train", tmp_path, "-o", tmp_path / "w.safetensors", "--preset", "paper",
        "--config", config, "--batch-size", "3", "--crop-size", "48",
        "--set", "crop_size=64", "--set", "network.width=24",
        "--set", 'low_pass=["median"]', "--set", "device=cpu",
    )  # fmt: skip
    used = training[0].config
    assert used.preset == "paper"
    assert (used.batch_size, used.crop_size, used.noise) == (3, 64, 0.2)
    assert (used.network.width, used.network.d_state) == (24, 4)
    # From the preset: changing the width must not lose what else the preset says.
    assert (used.network.output, used.network.global_stride) == ("image", 1)
    assert (used.low_pass, used.device, used.iterations) == (("median",), "cpu", 1_000_000)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--minutes or --iterations"),
        (["--minutes", "1", "--set", "nonsense=3"], "nonsense"),
        (["--minutes", "1", "--set", "noise"], "FIELD=VALUE"),
        (["--minutes", "1", "--set", "noise=9"], "noise"),
        (["--minutes", "1", "--preset", "magic"], "microscopy"),
        (["--minutes", "1", "--config", "none.toml"], "none.toml"),
    ],
)
def test_train_refuses_bad_settings(capsys, tmp_path, training, arguments, words):
    output = tmp_path / "w.safetensors"
    assert words in failure(capsys, "train", tmp_path, "-o", output, *arguments)
    assert training == []


def test_train_guards_existing_weights(capsys, tmp_path, training):
    output = tmp_path / "w.safetensors"
    output.write_bytes(b"old")
    command = ["train", tmp_path, "-o", output, "--minutes", "1"]
    assert "--overwrite" in failure(capsys, *command)
    assert training == []
    success(capsys, *command, "--overwrite")
    success(capsys, *command, "--resume")
    assert [(call.resume, call.overwrite) for call in training] == [
        (False, True),
        (True, False),
    ]
    wrong = tmp_path / "w.pt"
    assert ".safetensors" in failure(capsys, *command, "-o", wrong)


def test_interrupted_training_says_how_to_go_on(capsys, tmp_path, training):
    command = ["train", str(tmp_path), "-o", str(tmp_path / "w.safetensors")]
    assert run([*command, "--minutes", "1", "--seed", "13"]) == 130
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("Stopped.")
    assert "--resume" in last
    assert training[0].closed


# --- simulate and evaluate ------------------------------------------------------------


def simulate(capsys, tmp_path, *options):
    image = tmp_path / "sharp.png"
    write_image(image, SHARP, overwrite=True)
    return success(
        capsys,
        "simulate",
        image,
        "-o",
        tmp_path / "stacks" / "one",
        "--slices",
        "4",
        *options,
    )


def test_simulated_stack_can_be_evaluated(capsys, tmp_path):
    told = json.loads(simulate(capsys, tmp_path, "--relief", "tilt", "--json"))
    assert told["shape"] == [4, 48, 60]
    folder = tmp_path / "stacks" / "one"
    np.testing.assert_array_equal(read_image(folder / "truth.tif"), SHARP)
    table = tmp_path / "figures.csv"
    out = success(
        capsys, "evaluate", tmp_path / "stacks", "--methods", "window-energy, mean",
        "--csv", table, "--json",
    )  # fmt: skip
    told = json.loads(out)
    selected, mean = told["means"]
    assert (selected["method"], selected["dataset"]) == ("window-energy", "stacks")
    assert selected["psnr"] > mean["psnr"]
    assert selected["height_error"] < 1.0
    assert mean["height_error"] is None
    header, *rows = table.read_text().splitlines()
    assert header.startswith("dataset,sample,method,psnr,")
    assert len(rows) == 2


def test_evaluate_prints_a_table(capsys, tmp_path):
    simulate(capsys, tmp_path)
    text = success(capsys, "evaluate", tmp_path / "stacks", "--methods", "max,best-slice")
    assert "best-slice" in text
    assert "PSNR" in text


def test_identical_images_are_inf_in_table_and_json(capsys, tmp_path):
    for part in ("A", "B", "GT"):
        (tmp_path / part).mkdir()
        write_image(tmp_path / part / "x.png", SHARP)
    assert " inf " in success(capsys, "evaluate", tmp_path, "--methods", "mean")
    out = success(capsys, "evaluate", tmp_path, "--methods", "mean", "--json")
    told = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert told["rows"][0]["psnr"] == "inf"


def test_evaluate_failures(capsys, tmp_path):
    assert "is not a folder" in failure(capsys, "evaluate", tmp_path / "none")
    simulate(capsys, tmp_path)
    folder = tmp_path / "stacks"
    assert "Unknown method: foo" in failure(capsys, "evaluate", folder, "--methods", "foo")
    assert "--channel" in failure(capsys, "evaluate", folder, "--channel", "red")
    assert "suffix" in failure(capsys, "evaluate", folder, "--csv", tmp_path / "f.xls")


def test_simulate_failures(capsys, tmp_path):
    simulate(capsys, tmp_path)
    image, folder = tmp_path / "sharp.png", tmp_path / "stacks" / "one"
    assert "--overwrite" in failure(capsys, "simulate", image, "-o", folder)
    simulate(capsys, tmp_path, "--overwrite")
    new = tmp_path / "new"
    assert "--dtype" in failure(capsys, "simulate", image, "-o", new, "--dtype", "int3")
    assert "heap" in failure(capsys, "simulate", image, "-o", new, "--relief", "heap")
    assert "none.png" in failure(capsys, "simulate", tmp_path / "none.png", "-o", new)
    assert not new.exists()


# --- info -----------------------------------------------------------------------------


@pytest.fixture
def known_backends(monkeypatch):
    from napari_ips import scan, weights

    monkeypatch.setattr(scan, "backends", lambda: {"numba": None, "triton": "no GPU"})
    monkeypatch.setattr(scan, "choose_backend", lambda device: ("numba", f"for {device}"))
    entry = weights.WeightsInfo("default", "path", True, {"psnr": "41.5", "licence": "BSD"})
    monkeypatch.setattr(weights, "list_weights", lambda: [entry])


def test_info_tells_backends_and_weights(capsys, known_backends):
    text = success(capsys, "info")
    for words in ("numba", "no: no GPU", "default", "licence: BSD", "torch", "cpu"):
        assert words in text


def test_info_json(capsys, known_backends):
    told = json.loads(success(capsys, "info", "--json"))
    assert told["backends"] == {"numba": None, "triton": "no GPU"}
    assert told["auto"]["backend"] == "numba"
    assert told["weights"][0]["card"] == {"psnr": 41.5, "licence": "BSD"}
    assert told["threads"] >= 1


def test_brackets_of_a_message_are_text(capsys, monkeypatch, known_backends):
    from napari_ips import weights

    def broken():
        raise IPSError("the folder of weights is [red]gone")

    monkeypatch.setattr(weights, "list_weights", broken)
    assert failure(capsys, "info") == "Error: the folder of weights is [red]gone"
