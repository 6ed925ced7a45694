"""Weights: round trips, the registry, and files that are not weights."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from napari_ips import CrossImageFusionNetwork, IPSError, NetworkConfig
from napari_ips import weights as registry
from napari_ips.weights import find_weights, list_weights, load_weights, save_weights

SMALL = NetworkConfig(width=4, local_blocks=1, mamba_blocks=1, d_state=4, global_stride=1)


@pytest.fixture
def saved(tmp_path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    save_weights(path, CrossImageFusionNetwork.from_config(SMALL), {"preset": "paper"})
    return path


@pytest.fixture
def user_folder(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setattr(registry, "user_folder", lambda: folder)
    return folder


def test_a_network_survives_saving_and_loading(saved):
    torch.manual_seed(0)
    original = CrossImageFusionNetwork.from_config(SMALL)
    loaded, card = load_weights(saved)
    assert loaded.config == SMALL
    assert card["preset"] == "paper"
    assert not loaded.training
    a, b = torch.rand((1, 1, 9, 9)), torch.rand((1, 1, 9, 9))
    assert torch.equal(loaded(a, b), original(a, b))


def test_the_bundled_weights_load_and_are_small():
    info = next(w for w in list_weights() if w.name == "default")
    assert info.bundled
    assert info.path.stat().st_size < 4_000_000
    _, card = load_weights("default")
    for key in (
        "preset",
        "iterations",
        "validation",
        "training_set",
        "licence",
        "settings",
    ):
        assert card[key], key


def test_user_weights_are_found_by_name_and_do_not_hide_bundled_ones(user_folder, saved):
    (user_folder / "liver.safetensors").write_bytes(saved.read_bytes())
    (user_folder / "default.safetensors").write_bytes(saved.read_bytes())
    (user_folder / "broken.safetensors").write_bytes(b"nothing")
    names = {w.name: w for w in list_weights()}
    assert names["liver"].path == find_weights("liver")
    assert not names["liver"].bundled
    assert names["default"].bundled
    assert "broken" not in names


def test_unknown_names_are_answered_with_the_known_ones(user_folder):
    with pytest.raises(IPSError, match=r"no weights 'lung'.*default"):
        load_weights("lung")


def test_a_truncated_file_is_refused(saved):
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(IPSError, match="cut short"):
        load_weights(saved)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, pickle.dumps({"a": 1})])
def test_other_files_are_refused_and_never_unpickled(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(IPSError, match="cannot be read as weights"):
        load_weights(path)


def test_foreign_safetensors_are_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.ones(3)}, path)
    with pytest.raises(IPSError, match="not weights of napari-ips"):
        load_weights(path)


def test_a_network_of_another_shape_is_refused(tmp_path, saved):
    network, card = load_weights(saved)
    other = CrossImageFusionNetwork.from_config(SMALL.model_copy(update={"width": 5}))
    tensors = {k: v.contiguous() for k, v in other.state_dict().items()}
    save_file(tensors, tmp_path / "x.safetensors", metadata=card)
    with pytest.raises(IPSError, match="does not hold the tensors"):
        load_weights(tmp_path / "x.safetensors")


def test_a_network_of_a_newer_version_is_refused(tmp_path, saved):
    network, card = load_weights(saved)
    card["network"] = card["network"].replace('"width"', '"breadth"')
    tensors = {k: v.contiguous() for k, v in network.state_dict().items()}
    save_file(tensors, tmp_path / "x.safetensors", metadata=card)
    with pytest.raises(IPSError, match="newer napari-ips"):
        load_weights(tmp_path / "x.safetensors")


def test_a_full_disk_leaves_the_former_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(IPSError, match="disk is full"):
        save_weights(saved, CrossImageFusionNetwork.from_config(SMALL), {})
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]
