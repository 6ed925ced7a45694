"""Before jobs begin: what earlier runs have left."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from napari_ips.errors import IPSError
from napari_ips.files import plainly_written, remove_leftovers
from napari_ips.fusion.job import Job
from napari_ips.fusion.output import is_begun

_log = logging.getLogger(__name__)


def stopped_tile(folder: Path) -> int | None:
    """Return the edge of the tiles of the run that was stopped in a work folder."""
    try:
        return int(json.loads((folder / "job.json").read_text())["tile"])
    except FileNotFoundError:
        return None


def has_to_run(
    job: Job, outputs: Mapping[str, Path], *, resume: bool, overwrite: bool
) -> bool:
    """Tell whether a job is to be begun or resumed, or was finished before.

    Raises
    ------
    IPSError
        If it can be neither, or it is not clear which.
    """
    for path in outputs.values():
        remove_leftovers(path)
    if not job.started:
        # It was not filled yet, or was about to be deleted.
        job.discard()
    in_the_way = {n: path for n, path in outputs.items() if os.path.lexists(path)}
    if job.started:
        if not resume and not overwrite:
            raise IPSError(
                f"A stopped run of {outputs['fused']} is there: choose another name, go "
                "on with --resume, or start anew with --overwrite."
            )
        if resume:
            job.check_same()
            in_the_way = {n: p for n, p in in_the_way.items() if not is_begun(job, n)}
    elif resume and not overwrite and len(in_the_way) == len(outputs):
        _log.warning("%s is finished already; nothing was done.", outputs["fused"])
        return False
    if in_the_way and not overwrite:
        first = next(iter(in_the_way.values()))
        raise IPSError(
            f"{first} exists; choose another name, or let it be overwritten (--overwrite)."
        )
    return True


def begin(job: Job, *, resume: bool) -> None:
    """Make the work folder, unless there is one to be resumed."""
    if job.started and resume:
        return
    with plainly_written(job.folder):
        job.discard()
        job.create()
