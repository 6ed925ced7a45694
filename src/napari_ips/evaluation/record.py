"""The folder of a report while a benchmark runs: figures and images, sample by sample.

What is in it when a run is interrupted can be looked at, and its images be measured again
as images that were fused elsewhere.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.evaluation.benchmark import Row
from napari_ips.evaluation.datasets import Sample
from napari_ips.evaluation.methods import Fused
from napari_ips.files import plainly_written, remove
from napari_ips.io import read_image, write_image

# Tells the folder of a benchmark, which may be written again, from any other.
MARK = "benchmark.json"
CONTENTS = (
    "samples.csv",
    "means.csv",
    "significance.csv",
    "table.md",
    "report.html",
    "fused",
    "index",
    MARK,
)


class Record:
    """Keeps the results of a benchmark in a folder.

    Parameters
    ----------
    folder : Path
        Is made; or it is empty, or holds an earlier benchmark that may be overwritten.
    methods : sequence of str
        Names, of which the folders of their images are made.
    measures : sequence of str
        Columns of samples.csv.
    settings : dict
        What was asked for, as JSON can hold it; kept in benchmark.json.
    overwrite : bool
        Remove what an earlier benchmark left there.

    Raises
    ------
    IPSError
        If the folder holds something else, or may not be overwritten or written.
    """

    def __init__(
        self,
        folder: Path,
        methods: Sequence[str],
        measures: Sequence[str],
        settings: Mapping[str, Any],
        *,
        overwrite: bool = False,
    ) -> None:
        self.folder = folder
        self._names = _folder_names(methods)
        self._measures = measures
        _make_free(folder, overwrite=overwrite)
        with plainly_written(folder):
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(settings, indent=2, default=str)
            (folder / MARK).write_text(f"{text}\n", encoding="utf-8")
        header = ("dataset", "sample", "method", "truth", *measures, "seconds", "failure")
        self._write_line(header)

    def keep(self, sample: Sample, method: str, fused: Fused) -> None:
        """Write the image of a method, and its index if it gives one."""
        for kind, image in (("fused", fused.image), ("index", fused.index)):
            if image is not None:
                path = self._path(kind, sample, method, image)
                with plainly_written(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                write_image(path, image, overwrite=True)

    def add(self, row: Row) -> None:
        """Write the figures of a sample."""
        figures = (row.figures.get(name, "") for name in self._measures)
        seconds = "" if row.seconds is None else row.seconds
        truth = "yes" if row.truth else "no"
        known = (row.dataset, row.sample, row.method, truth)
        self._write_line((*known, *figures, seconds, row.failure))

    def image(self, sample: Sample, method: str) -> NDArray[Any] | None:
        """Read the image of a method; None if it made none."""
        path = self._find("fused", sample, method)
        return None if path is None else read_image(path)

    def index(self, sample: Sample, method: str) -> NDArray[Any] | None:
        """Read the index of a method; None if it gives none."""
        path = self._find("index", sample, method)
        return None if path is None else read_image(path)

    def _path(self, kind: str, sample: Sample, method: str, image: NDArray[Any]) -> Path:
        suffix = ".png" if image.dtype.name in ("uint8", "uint16") else ".tif"
        return self._stem(kind, sample, method).with_name(f"{sample.name}{suffix}")

    def _stem(self, kind: str, sample: Sample, method: str) -> Path:
        return self.folder / kind / self._names[method] / sample.dataset / sample.name

    def _find(self, kind: str, sample: Sample, method: str) -> Path | None:
        stem = self._stem(kind, sample, method)
        paths = (stem.with_name(f"{stem.name}{suffix}") for suffix in (".png", ".tif"))
        return next((path for path in paths if path.is_file()), None)

    def _write_line(self, values: Iterable[Any]) -> None:
        path = self.folder / "samples.csv"
        with (
            plainly_written(path),
            path.open("a", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerow(values)


def folder_name(method: str) -> str:
    """Name the folder of a method, of characters that every system allows."""
    return re.sub(r"[^\w,=+-]", "_", method)


def _folder_names(methods: Sequence[str]) -> dict[str, str]:
    """Name a folder for each method, no two the same."""
    names = {method: folder_name(method) for method in methods}
    taken: dict[str, str] = {}
    for method, name in names.items():
        if name.lower() in taken:
            raise IPSError(
                f"The methods {taken[name.lower()]} and {method} would have one folder; "
                "rename one."
            )
        taken[name.lower()] = method
    return names


def _make_free(folder: Path, *, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise IPSError(f"{folder} is a file; give a folder for the report.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / MARK).is_file():
        raise IPSError(
            f"{folder} holds files that no benchmark wrote; give another folder."
        )
    if not overwrite:
        raise IPSError(
            f"{folder} holds a benchmark already; choose another folder, or let it be "
            "overwritten (--overwrite)."
        )
    for name in CONTENTS:
        remove(folder / name)
