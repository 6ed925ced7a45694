"""Writing files so that a name never holds half a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_ips.errors import IPSError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its place when all went well.

    A former file under the name stays as it was until then, and stays for good when
    the block fails.

    Raises
    ------
    IPSError
        If the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.stem}.part{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise IPSError(f"The disk is full: {path} was not written.") from error
        reason = error.strerror or error
        raise IPSError(f"{path} cannot be written: {reason}.") from error
    finally:
        temporary.unlink(missing_ok=True)
