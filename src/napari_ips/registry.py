"""The user's own weights: to add, rename, hand on and delete them.

The bundled weights stay as they are, and no name is ever taken from other weights. Names
that differ in nothing but capitals count as the same, for to some disks they are.
"""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from napari_ips import weights
from napari_ips.errors import IPSError
from napari_ips.files import locked, plainly_written, written_whole
from napari_ips.weights import (
    WeightsInfo,
    list_weights,
    load_weights,
    read_card,
    read_tensors,
    write_tensors,
)

_SUFFIX = ".safetensors"
# In bytes: some disks take 143, and names of files that are still being written are longer.
_LONGEST = 100
_RESERVED = {"con", "prn", "aux", "nul"}
_RESERVED |= {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
_RULE = (
    "use letters, digits, spaces and - _ . in it, begin and end it with a letter or digit"
)
_PATIENCE = 5.0


def check_name(name: str) -> None:
    """Refuse a name under which no weights can be added.

    Raises
    ------
    IPSError
        If it is no plain name for a file on every system, or is taken.
    """
    _check_free(_plain_name(name))


def register_weights(path: Path, name: str, notes: str | None = None) -> WeightsInfo:
    """Copy finished weights into the folder of the user, under a name.

    Parameters
    ----------
    path : Path
        The file. It stays where it is.
    name : str
        Name by which they can be chosen from then on.
    notes : str, optional
        Put into the card of the copy, in the place of notes that are there.

    Raises
    ------
    IPSError
        If the name is taken or not plain, the file is no weights, or the copy cannot be
        written; then there is none.
    """
    name = _plain_name(name)
    read_card(path)
    with _one_at_a_time():
        _check_free(name)
        return _write(path, _own_path(name), notes)


def import_weights(
    path: Path, name: str | None = None, notes: str | None = None
) -> WeightsInfo:
    """Register weights from elsewhere, of which it is tried first whether they load.

    Parameters
    ----------
    path : Path
        The file. It stays where it is.
    name : str, optional
        By default, the name of the file without its ending.
    notes : str, optional
        As in `register_weights`.

    Raises
    ------
    IPSError
        As `register_weights`, and if this version cannot use them.
    """
    if not path.is_file():
        raise IPSError(f"There is no file {path}.")
    name = path.stem if name is None else name
    check_name(name)
    # Absolute, so that it is not taken for a name.
    load_weights(path.absolute())
    return register_weights(path, name, notes)


def export_weights(name: str, path: Path, overwrite: bool = False) -> None:
    """Copy registered weights, bundled ones too, to a file.

    Raises
    ------
    IPSError
        If there are no such weights, the file exists and ``overwrite`` is not set, its
        name does not end in .safetensors, or it cannot be written.
    """
    info = _known(name)
    if path.suffix.lower() != _SUFFIX:
        raise IPSError(f"{path}: end the name in {_SUFFIX}.")
    if path.is_dir():
        raise IPSError(f"{path} is a folder; give the name of a file.")
    if os.path.lexists(path) and not overwrite:
        raise IPSError(f"{path} exists; choose another name, or let it be overwritten.")
    with written_whole(path) as temporary:
        shutil.copyfile(info.path, temporary)


def rename_weights(old: str, new: str) -> WeightsInfo:
    """Give weights of the user another name.

    Raises
    ------
    IPSError
        If there are none, they are bundled, or the new name is taken or not plain.
    """
    new = _plain_name(new)
    with _one_at_a_time():
        info = own_weights(old)
        _check_free(new, besides=info.path)
        path = _own_path(new)
        with plainly_written(path):
            os.rename(info.path, path)
        return replace(info, name=new, path=path)


def delete_weights(name: str) -> None:
    """Delete weights of the user.

    Raises
    ------
    IPSError
        If there are none, or they are bundled.
    """
    with _one_at_a_time():
        path = own_weights(name).path
        with plainly_written(path):
            path.unlink()


def set_notes(name: str, notes: str) -> WeightsInfo:
    """Put other notes into the card of weights of the user; empty ones remove them.

    Raises
    ------
    IPSError
        If there are none, they are bundled, or the file cannot be written.
    """
    with _one_at_a_time():
        path = own_weights(name).path
        return _write(path, path, notes)


def own_weights(name: str) -> WeightsInfo:
    """Find weights of the user, which may be changed.

    Raises
    ------
    IPSError
        If there are none of this name, or they are bundled.
    """
    info = _known(name)
    if info.bundled:
        raise IPSError(f"The weights {name!r} came with the package and stay as they are.")
    return info


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep two programs from taking the same name at the same time."""
    folder = weights.user_folder()
    with plainly_written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    busy = f"Another program is changing the weights in {folder}; try again."
    with locked(folder, busy, wait=_PATIENCE):
        yield


def _own_path(name: str) -> Path:
    return weights.user_folder() / f"{name}{_SUFFIX}"


def _known(name: str) -> WeightsInfo:
    infos = list_weights()
    for info in infos:
        if info.name == name:
            return info
    known = ", ".join(info.name for info in infos)
    raise IPSError(f"There are no weights {name!r}, only: {known}.")


def _plain_name(name: str) -> str:
    """Refuse what is no name of a file on every system, and put letters as most do."""
    name = unicodedata.normalize("NFC", name)
    if not _is_plain(name):
        raise IPSError(f"{name!r} cannot be the name of weights: {_RULE}.")
    if name.lower().endswith(_SUFFIX):
        raise IPSError(f"Leave out the {_SUFFIX} at the end of the name {name!r}.")
    if name.lower().endswith(".checkpoint"):
        raise IPSError(f"The name {name!r} would be that of a checkpoint; use another.")
    if name.partition(".")[0].strip().lower() in _RESERVED:
        raise IPSError(f"The name {name!r} means something else to Windows; use another.")
    if len(name.encode()) > _LONGEST:
        raise IPSError(f"The name {name[:20]!r}... is too long for some disks; shorten it.")
    return name


def _is_plain(name: str) -> bool:
    # Letters, the marks that some scripts write on them, and decimal digits.
    kinds = [unicodedata.category(character) for character in name]
    word = [kind[0] in "LM" or kind == "Nd" for kind in kinds]
    allowed = all(w or c in " -_." for w, c in zip(word, name, strict=True))
    return allowed and bool(name) and kinds[0][0] != "M" and word[0] and word[-1]


def _check_free(name: str, besides: Path | None = None) -> None:
    """Refuse the name of other weights, and of files in their folder that are damaged."""
    files = [info.path for info in list_weights()]
    files += weights.user_folder().glob(f"*{_SUFFIX}")
    for file in files:
        if file != besides and _folded(file.stem) == _folded(name):
            raise IPSError(f"The name {name!r} is taken ({file}); choose another one.")


def _folded(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded)


def _write(source: Path, path: Path, notes: str | None) -> WeightsInfo:
    """Write the tensors of a file as they are, and its card with other notes."""
    tensors, card = read_tensors(source)
    if notes is not None:
        card = {key: text for key, text in card.items() if key != "notes"}
        card |= {"notes": notes.strip()} if notes.strip() else {}
    write_tensors(path, tensors, card)
    return WeightsInfo(path.stem, path, False, card)
