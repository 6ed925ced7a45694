"""From the finished tiles of a job to the files that were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_ips.errors import IPSError
from napari_ips.events import Progress, ProgressCallback
from napari_ips.files import plainly_written, remove
from napari_ips.fusion.job import Job
from napari_ips.io import LazyStack
from napari_ips.io.pyramid import Kind
from napari_ips.io.results import check_result_path, write_result
from napari_ips.weights import package_version

_KINDS: dict[str, Kind] = {
    "fused": "image",
    "index": "index",
    "depth": "map",
    "confidence": "map",
}


def check_outputs(job: Job, outputs: Mapping[str, Path], overwrite: bool) -> None:
    """Raise IPSError, before anything is computed, if an output could not be written."""
    seen: dict[Path, str] = {}
    for name, path in outputs.items():
        twin = seen.setdefault(path.resolve(), name)
        if twin != name:
            raise IPSError(f"{path} is asked for twice: for {twin} and for {name}.")
        if _belongs_to(path, job.stack):
            raise IPSError(
                f"{path} is, or lies in, the input, or holds it; choose another place."
            )
        check_result_path(
            path,
            shape=job.shape_of(name),
            dtype=job.dtype_of(name),
            rgb=_coloured(job, name),
            overwrite=overwrite,
        )


def is_begun(job: Job, name: str) -> bool:
    """Tell whether what is found under the name of an output is of this job, or may go."""
    return _mark(job, "begun", name).exists()


def all_written(job: Job, outputs: Mapping[str, Path]) -> bool:
    """Tell whether all that is left of a job is to delete its work folder."""
    return all(_mark(job, "written", name).exists() for name in outputs)


def write_outputs(
    job: Job,
    outputs: Mapping[str, Path],
    overwrite: bool,
    callback: ProgressCallback | None,
) -> None:
    """Write the fused image and the maps, those that a killed run has not yet written."""
    for name, path in outputs.items():
        written = _mark(job, "written", name)
        if written.exists():
            continue
        if path.exists() and not overwrite and not is_begun(job, name):
            raise IPSError(f"{path} has come to exist meanwhile; move it away.")
        with plainly_written(job.folder):
            _mark(job, "begun", name).touch()

        def tell(done: int, total: int, name: str = name) -> None:
            if callback:
                callback(Progress(f"writing {name}", done, total))

        write_result(
            path,
            job.arrays[name],
            job.stack.metadata,
            rgb=_coloured(job, name),
            name=_title(job, name),
            provenance=_provenance(job),
            kind=_KINDS[name],
            overwrite=True,
            progress=tell,
        )
        with plainly_written(job.folder):
            written.touch()


def take_back(job: Job, outputs: Mapping[str, Path]) -> None:
    """Delete the outputs that a job has written."""
    for name, path in outputs.items():
        if _mark(job, "written", name).exists():
            remove(path)


def _mark(job: Job, step: str, name: str) -> Path:
    return job.folder / f"{step}-{name}"


def _belongs_to(path: Path, stack: LazyStack) -> bool:
    """Tell whether a path is that of a stack or a slice, lies in it, or holds it."""
    place = path.resolve()
    return any(
        place.is_relative_to(source) or source.is_relative_to(place)
        for source in (known.resolve() for known in (stack.path, *stack.files) if known)
    )


def _coloured(job: Job, name: str) -> bool:
    return name == "fused" and job.stack.samples > 0


def _title(job: Job, name: str) -> str:
    stem = job.stack.name.partition(".")[0] or "stack"
    if name != "depth":
        return f"{stem} {name}"
    metadata = job.stack.metadata
    unit = "slices" if metadata.z_step is None else metadata.unit
    return f"{stem} depth in {unit}" if unit else f"{stem} depth"


def _provenance(job: Job) -> dict[str, Any]:
    """Tell how a result came about; nothing that differs between equal runs."""
    return {
        "version": package_version(),
        "weights name": Path(job.config.weights).name,
        **job.choices(),
    }
