import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from napari_ips.cli import run
from napari_ips.events import (
    CheckpointSaved,
    ImagesFound,
    LossPoint,
    TrainingFinished,
    ValidationPoint,
)


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
            if config.seed == 14:
                raise KeyboardInterrupt
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


def test_train_json(success, tmp_path, training):
    output = tmp_path / "w.safetensors"
    out = success("train", tmp_path, "-o", output, "--iterations", "3", "--json")
    told = json.loads(out)
    assert (told["output"], told["iterations"], told["psnr"]) == (str(output), 3, 41.5)
    assert told["settings"]["iterations"] == 3


def test_train_settings_override_in_order(success, tmp_path, training):
    config = tmp_path / "settings.toml"
    config.write_text(
        "batch_size = 2\ncrop_size = 32\nnoise = 0.2\n[network]\nwidth = 8\nd_state = 4\n"
    )
    options = ["--preset", "paper", "--config", config]
    options += ["--batch-size", "3", "--crop-size", "48"]
    for change in ("crop_size=64", "network.width=24", 'low_pass=["median"]', "device=cpu"):
        options += ["--set", change]
    success("train", tmp_path, "-o", tmp_path / "w.safetensors", *options)
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
def test_train_refuses_bad_settings(failure, tmp_path, training, arguments, words):
    output = tmp_path / "w.safetensors"
    assert words in failure("train", tmp_path, "-o", output, *arguments)
    assert training == []


def test_train_guards_existing_weights(failure, success, tmp_path, training):
    output = tmp_path / "w.safetensors"
    output.write_bytes(b"old")
    command = ["train", tmp_path, "-o", output, "--minutes", "1"]
    assert "--overwrite" in failure(*command)
    assert training == []
    success(*command, "--overwrite")
    success(*command, "--resume")
    assert [(call.resume, call.overwrite) for call in training] == [
        (False, True),
        (True, False),
    ]
    wrong = tmp_path / "w.pt"
    assert ".safetensors" in failure(*command, "-o", wrong)


def test_resuming_a_finished_run_points_to_fine_tuning(failure, tmp_path):
    output = tmp_path / "w.safetensors"
    output.write_bytes(b"finished")
    line = failure("train", tmp_path, "-o", output, "--minutes", "1", "--resume")
    assert "is finished" in line
    assert f"--start-from {output}" in line


def test_training_interrupted_before_a_checkpoint_says_so(capsys, tmp_path, training):
    command = ["train", str(tmp_path), "-o", str(tmp_path / "w.safetensors")]
    assert run([*command, "--minutes", "1", "--seed", "14"]) == 130
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Nothing is saved yet" in last
    assert "after 100 steps" in last


def test_interrupted_training_says_how_to_go_on(capsys, tmp_path, training):
    command = ["train", str(tmp_path), "-o", str(tmp_path / "w.safetensors")]
    assert run([*command, "--minutes", "1", "--seed", "13"]) == 130
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("Stopped.")
    assert "--resume" in last
    assert training[0].closed
