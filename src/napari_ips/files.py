"""Writing files and folders so that a name never holds half of one."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_ips.errors import IPSError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its place when all went well.

    The block makes a file or a folder there. What the name held before stays as it was
    until then, and stays for good when the block fails. Only a folder takes the place
    of a folder, and the caller sees to it that this one may go.

    Raises
    ------
    IPSError
        If the folder cannot be written or the disk is full.
    """
    temporary = _beside(path, "part")
    try:
        with plainly_written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _put_in_place(temporary, path)
    finally:
        remove(temporary)


@contextmanager
def plainly_written(path: Path) -> Iterator[None]:
    """Turn what the system says when writing fails into an IPSError that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise IPSError(f"The disk is full: {path} was not written.") from error
        reason = error.strerror or error
        raise IPSError(f"{path} cannot be written: {reason}.") from error


@contextmanager
def locked(folder: Path, busy: str, *, wait: float = 0.0) -> Iterator[None]:
    """Keep other programs from working in the same folder, which need not exist.

    The lock is a file beside the folder. It is the system that holds it, so that it ends
    with the program, however that ends; it may be let go in another thread.

    Parameters
    ----------
    folder : Path
        The folder.
    busy : str
        What to say when another program has it.
    wait : float
        For how many seconds to wait for that one.

    Raises
    ------
    IPSError
        If another program works there, or the lock cannot be written.
    """
    from filelock import FileLock, Timeout

    path = _lock_path(folder)
    lock = FileLock(path, thread_local=False)
    with plainly_written(path):
        try:
            lock.acquire(timeout=wait)
        except Timeout as error:
            raise IPSError(busy) from error
    try:
        yield
    finally:
        # While it is still held, else it might be another program's; where a file that
        # is open cannot be deleted, the lock does so itself.
        with suppress(OSError):
            path.unlink()
        lock.release()


def is_locked(folder: Path) -> bool:
    """Tell whether a program works in a folder, as `locked` has it."""
    from filelock import FileLock, Timeout

    path = _lock_path(folder)
    if not path.exists():
        return False
    try:
        with FileLock(path, thread_local=False).acquire(timeout=0), suppress(OSError):
            path.unlink()
    except Timeout:
        return True
    except OSError:
        # Who cannot open it cannot tell; nor could a program of theirs work there.
        return False
    return False


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def remove_leftovers(path: Path) -> None:
    """Undo what killed programs left beside ``path`` of their attempts to write it.

    A folder that had stepped aside for one that never came gets its name back.
    """
    for old in _leftovers(path, "old"):
        if os.path.lexists(path):
            remove(old)
        else:
            os.replace(old, path)
    for part in _leftovers(path, "part"):
        remove(part)


def _beside(path: Path, role: str) -> Path:
    # Not the number of the process, which several machines may have in use at once.
    return path.with_name(f".{path.stem}.{role}{secrets.token_hex(4)}{path.suffix}")


def _leftovers(path: Path, role: str) -> list[Path]:
    """Find what `_beside` named, and what was made beside that under longer names."""
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    name = re.compile(rf"\.{stem}\.{role}[0-9a-f]{{8}}{suffix}(\..*)?")
    return [found for found in path.parent.iterdir() if name.fullmatch(found.name)]


def _put_in_place(new: Path, path: Path) -> None:
    if not (new.is_dir() and path.is_dir()):
        os.replace(new, path)
        return
    # No system replaces a full folder in one step: the old one steps aside first.
    old = _beside(path, "old")
    os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(old, path)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    # On a network disk, a file that is still open elsewhere holds its folder a while.
    for wait in (0.0, 0.1, 1.0):
        time.sleep(wait)
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return


def work_folder(output: Path) -> Path:
    """Return the folder in which an output comes to be."""
    return output.absolute().with_name(f".{output.name}.partial")
