import json
import signal
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image
from skimage import data

from napari_ips import TrainConfig
from napari_ips.cli import run
from napari_ips.events import (
    CheckpointFailed,
    ImagesFound,
    LossPoint,
    RolledBack,
    TrainingFinished,
    ValidationPoint,
)
from napari_ips.training import checkpoint_path
from napari_ips.weights import read_tensors


@pytest.fixture
def training(monkeypatch):
    """Stand in for the training: record the settings and yield a few events."""
    calls = []

    def train(config, *, resume=False, overwrite=False):
        call = SimpleNamespace(config=config, resume=resume, overwrite=overwrite)
        calls.append(call)
        call.closed, call.steps = False, 0
        reason = "diverged" if config.seed == 12 else "length"
        try:
            yield ImagesFound(2, (("soft.png", "nothing sharp in it"),))
            if config.seed == 14:
                raise KeyboardInterrupt
            yield ValidationPoint(0, 30.25, 0.91)
            for step in (1, 2, 3):
                call.steps = step
                if config.seed == 13 and step == 2:
                    signal.raise_signal(signal.SIGINT)
                    call.steps = 2.5
                yield LossPoint(step, 0.5 / step, 1e-3, step / 3)
            yield RolledBack(2, 3e-4)
            yield CheckpointFailed(3, "The disk is full: w was not written.")
            yield ValidationPoint(3, 41.5, 0.98)
            best = 0 if config.seed == 15 else 3
            yield TrainingFinished(best, config.output, 41.5, 0.98, 30.25, reason)
        except GeneratorExit:
            checkpoint_path(config.output).touch()
            raise
        finally:
            call.closed = True

    module = ModuleType("napari_ips.training")
    module.train, module.checkpoint_path = train, checkpoint_path
    monkeypatch.setitem(sys.modules, "napari_ips.training", module)
    return calls


@pytest.fixture
def own(monkeypatch, tmp_path):
    """Folder of the user's own weights."""
    monkeypatch.setattr("napari_ips.weights.user_folder", lambda: tmp_path / "own")
    return tmp_path / "own"


def test_train_shows_what_happens(capsys, tmp_path, training):
    output = tmp_path / "w.safetensors"
    assert run(["train", str(tmp_path), "-o", str(output), "--minutes", "1"]) == 0
    out, err = capsys.readouterr()
    assert "30.25 -> 41.50 dB" in out
    assert str(output) in out.replace("\n", "")
    assert "soft.png: nothing sharp in it" in err
    assert "step       0  validation 30.25 dB" in err
    assert "validation 41.50 dB" in err
    assert "back to step 2, with a learning rate of 0.0003" in err
    assert "No checkpoint after step 3, training goes on. The disk is full" in err
    assert training[0].closed


def test_train_json(success, tmp_path, training):
    output = tmp_path / "w.safetensors"
    out = success("train", tmp_path, "-o", output, "--iterations", "3", "--json")
    told = json.loads(out)
    assert (told["output"], told["iterations"], told["psnr"]) == (str(output), 3, 41.5)
    assert (told["psnr_before"], told["reason"]) == (30.25, "length")
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
        (["--minutes", "1", "--set", "noise=9"], "noise must be at most 0.5, not 9"),
        (["--minutes", "1", "--preset", "magic"], "microscopy"),
        (["--minutes", "1", "--config", "none.toml"], "none.toml"),
    ],
)
def test_train_refuses_bad_settings(failure, tmp_path, training, arguments, words):
    output = tmp_path / "w.safetensors"
    assert words in failure("train", tmp_path, "-o", output, *arguments)
    assert training == []


def test_images_may_be_named_in_the_settings(success, failure, tmp_path, training):
    given = TrainConfig(images=(tmp_path,), output="w", minutes=3, notes="20x")
    given.to_toml(tmp_path / "settings.toml")
    command = ["train", "-o", tmp_path / "w.safetensors"]
    success(*command, "--config", tmp_path / "settings.toml")
    output = tmp_path / "w.safetensors"
    assert training[0].config == given.model_copy(update={"output": output})
    success(*command, tmp_path / "other", "--config", tmp_path / "settings.toml")
    assert training[1].config.images == (tmp_path / "other",)
    assert "Which images?" in failure(*command, "--minutes", "1")


def test_training_that_made_nothing_better_says_so(capsys, tmp_path, training):
    command = ["train", str(tmp_path), "-o", str(tmp_path / "w.safetensors")]
    assert run([*command, "--minutes", "1"]) == 0
    assert "nothing better" not in capsys.readouterr().err
    assert run([*command, "--minutes", "1", "--seed", "15"]) == 0
    assert "made nothing better" in capsys.readouterr().err


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


def test_train_writes_to_the_weights_of_the_user(
    capsys, success, failure, tmp_path, training, own
):
    command = ["train", tmp_path, "--name", "liver", "--minutes", "1"]
    success(*command, "--notes", "20x, H&E", "--z-stacks", "best")
    config = training[0].config
    assert config.output == own / "liver.safetensors"
    assert (config.notes, config.z_stacks) == ("20x, H&E", "best")
    config.output.write_bytes(b"old")
    assert "taken" in failure(*command)
    success(*command, "--overwrite")
    assert "taken" in failure("train", tmp_path, "--name", "default", "--minutes", "1")
    assert "cannot be the name" in failure(
        "train", tmp_path, "--name", "../x", "--minutes", "1"
    )
    assert len(training) == 2


def test_train_wants_one_place_to_write_to(failure, tmp_path, training):
    both = ["-o", tmp_path / "w.safetensors", "--name", "liver"]
    for where in ([], both):
        line = failure("train", tmp_path, "--minutes", "1", *where)
        assert "--output FILE or --name NAME" in line
    assert training == []


def test_training_that_diverged_says_so(capsys, tmp_path, training):
    command = ["train", str(tmp_path), "-o", str(tmp_path / "w.safetensors")]
    assert run([*command, "--minutes", "1", "--seed", "12"]) == 0
    assert "not finite at a lower learning rate either" in capsys.readouterr().err


def test_training_interrupted_before_it_begins_says_so(capsys, tmp_path, training):
    command = ["train", str(tmp_path), "-o", str(tmp_path / "w.safetensors")]
    assert run([*command, "--minutes", "1", "--seed", "14"]) == 130
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == "Stopped. Nothing is saved: there is no checkpoint yet."


def test_interrupted_training_ends_its_step_and_says_how_to_go_on(
    capsys, tmp_path, training
):
    handler = signal.getsignal(signal.SIGINT)
    command = ["train", str(tmp_path), "-o", str(tmp_path / "w.safetensors")]
    assert run([*command, "--minutes", "1", "--seed", "13"]) == 130
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("Stopped.")
    assert "--resume" in last
    assert training[0].steps == 2.5
    assert training[0].closed
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_training_stopped_by_ctrl_c_goes_on_where_it_was(tmp_path):
    images, output = tmp_path / "images", tmp_path / "w.safetensors"
    images.mkdir()
    Image.fromarray(data.camera()).save(images / "camera.png")
    program = [sys.executable, "-c", "from napari_ips.cli import main; main()"]
    command = [*program, "train", images, "-o", output]
    for change in ("batch_size=1", "crop_size=32", "network.width=4", "device=cpu",
                   "network.mamba_blocks=1", "network.local_blocks=1",
                   "validation_crops=1"):  # fmt: skip
        command += ["--set", change]
    process = subprocess.Popen(
        [*command, "--iterations", "100000"], stderr=subprocess.PIPE, text=True
    )
    # It is told once the weights to begin with are measured.
    for line in process.stderr:
        if line.startswith("step"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "goes on from the checkpoint" in rest.splitlines()[-1]
    _, metadata = read_tensors(checkpoint_path(output))
    more = str(int(metadata["iteration"]) + 1)
    subprocess.run([*command, "--iterations", more, "--resume"], check=True)
    assert output.exists()
