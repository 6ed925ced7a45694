"""The user's own weights: adding and changing them; what is refused."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from napari_ips import CrossImageFusionNetwork, IPSError, NetworkConfig, weights
from napari_ips.registry import (
    check_name,
    delete_weights,
    export_weights,
    import_weights,
    register_weights,
    rename_weights,
    set_notes,
)
from napari_ips.weights import find_weights, list_weights, load_weights, read_card

SMALL = NetworkConfig(width=4, local_blocks=1, mamba_blocks=1, d_state=4, global_stride=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "weights.safetensors"
    network = CrossImageFusionNetwork.from_config(SMALL)
    weights.save_weights(path, network, {"preset": "paper", "notes": "first"})
    return path


@pytest.fixture(autouse=True)
def user_folder(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "user" / "weights"
    monkeypatch.setattr(weights, "user_folder", lambda: folder)
    return folder


def own() -> list[str]:
    return [info.name for info in list_weights() if not info.bundled]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.parent.rglob("*.*")}


def test_registered_weights_are_found_with_their_notes(trained):
    info = register_weights(trained, "liver 20x", "H&E")
    assert (info.name, info.bundled) == ("liver 20x", False)
    assert find_weights("liver 20x") == info.path
    assert read_card(info.path) == read_card(trained) | {"notes": "H&E"} == info.card
    load_weights("liver 20x")


def test_tensors_stay_the_same_bit_for_bit(tmp_path, trained):
    network, card = load_weights(trained)
    odd = {k: v.clone() for k, v in network.state_dict().items()}
    first = next(iter(odd))
    # A NaN with a payload, a negative zero and a denormal.
    odd[first].view(torch.int32).flatten()[:3] = torch.tensor([0x7FC12345, -(2**31), 1])
    save_file({k: v.contiguous() for k, v in odd.items()}, tmp_path / "o.safetensors", card)
    copy = load_file(register_weights(tmp_path / "o.safetensors", "odd", "x").path)
    assert copy.keys() == odd.keys()
    for key, tensor in odd.items():
        assert copy[key].dtype == tensor.dtype
        assert torch.equal(copy[key].view(torch.int32), tensor.view(torch.int32))


def test_without_notes_those_of_the_file_are_kept(trained):
    assert register_weights(trained, "a").card["notes"] == "first"
    assert "notes" not in register_weights(trained, "b", " ").card


plain = st.text(
    st.characters(categories=("L", "Nd"), include_characters=" -_."),
    min_size=1,
    max_size=40,
)


@given(name=plain | st.text(max_size=12))
def test_a_name_is_accepted_and_comes_back_or_leaves_nothing(name, trained, user_folder):
    try:
        check_name(name)
    except IPSError as refusal:
        with pytest.raises(IPSError) as error:
            register_weights(trained, name)
        assert str(error.value) == str(refusal)
        assert len(str(refusal).splitlines()) == 1
        assert own() == []
        assert content(user_folder) == {}
        return
    info = register_weights(trained, name)
    assert own() == [info.name]
    assert find_weights(info.name) == info.path
    assert [path.name for path in user_folder.iterdir()] == [f"{info.name}.safetensors"]
    with pytest.raises(IPSError):
        check_name(info.name.casefold())
    delete_weights(info.name)
    assert content(user_folder) == {}


@pytest.mark.parametrize("name", ["liver", "Leber 20x", "肝 2", "x.1_b-c"])
def test_names_that_people_give_are_accepted(trained, name):
    register_weights(trained, name)
    assert own() == [name]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "a\\b", "../x", "a:b", "x ", " x", "x.", "-x", "a\nb"]
    + ["con", "NUL.x", "Com1", "lpt9.tar", "a*", "a\0b", "\u0301a", "x" * 101, "肝" * 40]
    + ["mine.safetensors", "mine.checkpoint"],
)
def test_names_that_are_no_plain_names_of_files_are_refused(trained, user_folder, name):
    with pytest.raises(IPSError, match=r"(name of weights|of the name|The name)\b"):
        register_weights(trained, name)
    assert not user_folder.exists()


def test_the_longest_names_can_be_written_everywhere(trained, user_folder):
    info = register_weights(trained, "x" * 100)
    # Room for the ending of a file that is being written; eCryptfs takes 143 bytes.
    assert len(info.path.name) + len(".part01234567.") <= 143


def test_no_name_is_taken_twice(trained, user_folder):
    register_weights(trained, "Ärzte", "mine")
    before = content(user_folder)
    # Other capitals, and the same letter in two characters.
    for name in ("Ärzte", "ärzte", "A\u0308rzte", "default", "DEFAULT"):
        with pytest.raises(IPSError, match=r"is taken .*choose another"):
            register_weights(trained, name)
    assert content(user_folder) == before


def test_damaged_files_keep_their_names(trained, user_folder):
    user_folder.mkdir(parents=True)
    (user_folder / "liver.safetensors").write_bytes(b"half")
    with pytest.raises(IPSError, match="is taken"):
        register_weights(trained, "liver")
    assert (user_folder / "liver.safetensors").read_bytes() == b"half"


def _register(trained: Path, folder: Path, number: int) -> str:
    weights.user_folder = lambda: folder
    try:
        register_weights(trained, "same", str(number))
    except IPSError as error:
        return str(error)
    return "done"


def test_of_many_programs_one_gets_the_name(trained, user_folder):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        told = pool.starmap(_register, [(trained, user_folder, n) for n in range(6)])
    assert told.count("done") == 1
    assert sum("is taken" in line for line in told) == 5
    assert read_card(find_weights("same"))["notes"] == str(told.index("done"))


@pytest.mark.parametrize("task", [register_weights, import_weights])
def test_files_that_are_no_weights_are_refused(tmp_path, user_folder, trained, task):
    (tmp_path / "text.safetensors").write_text("no weights")
    save_file({"a": torch.ones(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(trained.read_bytes()[:-9])
    for name in ("text", "foreign", "cut", "missing"):
        with pytest.raises(IPSError, match=name):
            task(tmp_path / f"{name}.safetensors", "new")
    assert content(user_folder) == {}


def test_weights_that_do_not_load_are_not_imported(tmp_path, trained):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(2)}, path, read_card(trained))
    with pytest.raises(IPSError, match="does not hold the tensors"):
        import_weights(path)
    assert own() == []


def test_imported_weights_have_the_name_of_their_file(tmp_path, trained, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("kidney.safetensors").write_bytes(trained.read_bytes())
    assert import_weights(Path("kidney.safetensors")).name == "kidney"
    assert import_weights(Path("kidney.safetensors"), "other").name == "other"
    assert own() == ["kidney", "other"]


def test_exported_weights_are_the_same_file(tmp_path, trained):
    info = register_weights(trained, "liver")
    path = tmp_path / "out.safetensors"
    export_weights("liver", path)
    assert path.read_bytes() == info.path.read_bytes()
    with pytest.raises(IPSError, match="exists"):
        export_weights("default", path)
    assert path.read_bytes() == info.path.read_bytes()
    export_weights("default", path, overwrite=True)
    assert path.read_bytes() == find_weights("default").read_bytes()


def test_exports_that_make_no_sense_are_refused(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(IPSError, match=r"end the name in \.safetensors"):
        export_weights("default", tmp_path / "x.pt")
    with pytest.raises(IPSError, match="is a folder"):
        export_weights("default", tmp_path / "folder.safetensors", overwrite=True)
    with pytest.raises(IPSError, match=r"no weights 'lung', only: default"):
        export_weights("lung", tmp_path / "x.safetensors")


def test_renamed_weights_are_the_same_file(trained):
    old = register_weights(trained, "liver")
    before = old.path.read_bytes()
    new = rename_weights("liver", "kidney")
    assert own() == ["kidney"]
    assert new.path.read_bytes() == before
    assert rename_weights("kidney", "Kidney").name == "Kidney"
    assert own() == ["Kidney"]


def test_renaming_takes_no_name_from_others(trained, user_folder):
    register_weights(trained, "liver", "1")
    register_weights(trained, "kidney", "2")
    before = content(user_folder)
    for name in ("kidney", "Kidney", "default", "a/b"):
        with pytest.raises(IPSError):
            rename_weights("liver", name)
    assert content(user_folder) == before


def test_notes_are_replaced_and_removed(trained):
    register_weights(trained, "liver", "one")
    info = set_notes("liver", "two\nlines ")
    assert read_card(info.path)["notes"] == "two\nlines"
    assert read_card(info.path)["preset"] == "paper"
    assert "notes" not in set_notes("liver", "").card
    load_weights("liver")


def test_bundled_weights_stay_as_they_are():
    before = find_weights("default").read_bytes()
    for change in (
        lambda: delete_weights("default"),
        lambda: rename_weights("default", "mine"),
        lambda: set_notes("default", "x"),
    ):
        with pytest.raises(IPSError, match="came with the package"):
            change()
    assert find_weights("default").read_bytes() == before


def test_a_read_only_folder_is_told_plainly(trained, user_folder, monkeypatch):
    register_weights(trained, "liver")
    before = content(user_folder)

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Not by the rights of the folder: root may write anywhere.
    monkeypatch.setattr(Path, "write_bytes", denied)
    monkeypatch.setattr(os, "rename", denied)
    for attempt in (
        lambda: register_weights(trained, "kidney"),
        lambda: set_notes("liver", "x"),
        lambda: rename_weights("liver", "kidney"),
    ):
        with pytest.raises(IPSError, match=r"cannot be written: Permission denied\.$"):
            attempt()
    assert content(user_folder) == before


def test_a_file_in_the_way_of_the_folder_is_told_plainly(trained, user_folder):
    user_folder.parent.mkdir()
    user_folder.touch()
    with pytest.raises(IPSError, match=r"cannot be written: .*\.$"):
        register_weights(trained, "liver")
