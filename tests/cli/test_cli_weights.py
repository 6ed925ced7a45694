import io
import json
import subprocess
import sys

import pytest

from napari_ips import weights
from napari_ips.cli import run


@pytest.fixture(autouse=True)
def user_folder(tmp_path, monkeypatch):
    folder = tmp_path / "user" / "weights"
    monkeypatch.setattr(weights, "user_folder", lambda: folder)
    return folder


@pytest.fixture
def liver(success, tiny_weights):
    success("weights", "import", tiny_weights, "--name", "liver", "--notes", "20x [H&E]")


def names(success):
    listed = json.loads(success("weights", "list", "--json"))["weights"]
    return [entry["name"] for entry in listed if not entry["bundled"]]


def test_imported_weights_are_listed_and_shown(success, liver, user_folder):
    listed = success("weights", "list")
    for word in ("default", "bundled", "liver", "own", "20x [H&E]"):
        assert word in listed
    shown = success("weights", "show", "liver")
    assert shown.splitlines()[0] == f"liver ({user_folder / 'liver.safetensors'})"
    assert "Notes: 20x [H&E]" in shown.splitlines()


def test_list_and_show_json(success, liver, user_folder):
    told = json.loads(success("weights", "list", "--json"))
    assert told["folder"] == str(user_folder)
    entry = told["weights"][-1]
    assert (entry["name"], entry["bundled"]) == ("liver", False)
    assert entry["card"]["notes"] == "20x [H&E]"
    assert json.loads(success("weights", "show", "liver", "--json")) == entry
    assert json.loads(success("weights", "show", "default", "--json"))["bundled"]


def test_a_file_is_shown_too(success, tiny_weights):
    assert success("weights", "show", tiny_weights).startswith(f"tiny ({tiny_weights})")


def test_the_name_of_the_file_is_the_default(success, tiny_weights):
    success("weights", "import", tiny_weights)
    assert names(success) == ["tiny"]


def test_export_asks_before_it_replaces(success, failure, liver, tmp_path, user_folder):
    path = tmp_path / "out.safetensors"
    success("weights", "export", "liver", path)
    assert path.read_bytes() == (user_folder / "liver.safetensors").read_bytes()
    assert f"{path} exists" in failure("weights", "export", "default", path)
    success("weights", "export", "default", path, "--overwrite")
    assert path.stat().st_size > 1_000_000


def test_rename_and_notes(success, liver):
    success("weights", "rename", "liver", "Leber")
    success("weights", "notes", "Leber", "40x")
    assert names(success) == ["Leber"]
    assert "Notes: 40x" in success("weights", "show", "Leber")


@pytest.mark.parametrize("answer, left", [("y\n", []), ("n\n", ["liver"]), ("", ["liver"])])
def test_delete_asks(success, capsys, monkeypatch, liver, answer, left):
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    assert run(["weights", "delete", "liver"]) == (130 if left else 0)
    assert "for good?" in capsys.readouterr().err
    assert names(success) == left


def test_delete_yes_does_not_ask(success, liver):
    assert success("weights", "delete", "liver", "--yes") == "Deleted liver.\n"
    assert names(success) == []


def test_what_cannot_be_done_is_told_in_one_line(failure, liver, tmp_path):
    assert "came with the package" in failure("weights", "delete", "default")
    assert "is taken" in failure("weights", "rename", "liver", "DEFAULT")
    assert "use letters" in failure("weights", "rename", "liver", "a/b")
    assert "no weights 'lung'" in failure("weights", "notes", "lung", "x")
    assert "no file" in failure("weights", "import", tmp_path / "x.safetensors")
    assert "No such command" in failure("weights", "nonsense", code=2)


@pytest.mark.parametrize(
    "command", ["list", "show", "import", "export", "rename", "delete", "notes"]
)
def test_every_help_has_an_example(success, command):
    text = " ".join(success("weights", command, "--help").split())
    assert f"Example: napari-ips weights {command}" in text


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from napari_ips.cli import run; code = run(['weights', '--help']); "
        "heavy = {'torch', 'numba', 'numpy', 'safetensors'} & set(sys.modules); "
        "sys.exit(code or bool(heavy) and str(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
