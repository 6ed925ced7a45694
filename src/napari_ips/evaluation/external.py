"""Methods from elsewhere: other programs, and images that they left in a folder."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.evaluation.datasets import IMAGE_SUFFIXES, Sample
from napari_ips.evaluation.methods import Fused, Method
from napari_ips.evaluation.scenes import Scene
from napari_ips.intensity import luminance
from napari_ips.io import read_image, write_image, write_stack

Array = NDArray[Any]

INPUTS = ("{input}", "{stack}")
OUTPUTS = ("{output}", "{output_dir}")
TIMEOUT = 600.0
_TAIL = 300


def parse_command(text: str, timeout: float = TIMEOUT) -> tuple[str, Method]:
    """Make a method of a program.

    Parameters
    ----------
    text : str
        ``NAME=PROGRAM ARGUMENT...``, split as a shell would, but run without one. In
        the arguments stand for something:

        ``{input}``
            a folder with the slices as 0000.png, 0001.png and so on, of 8 or 16 bits
            as the stack has them, grey or RGB (.tif for other types);
        ``{stack}``
            the same as one TIFF;
        ``{output}``
            the file to be written, .png (.tif for types that PNG does not hold);
        ``{output_dir}``
            a folder for programs that name the file themselves: the one image in it.
    timeout : float
        Seconds after which the program is stopped.

    Returns
    -------
    (str, Method)
        The name, and what runs the program. The seconds are those of the whole
        program, its start included; its images are brought to the dtype and the colours
        of the stack as `fitted` does.

    Raises
    ------
    IPSError
        If the text has no name, no input or no output, or there is no such program.
        While fusing, if the program fails, takes too long, or writes no usable image.
    """
    name, equals, line = (part.strip() for part in text.partition("="))
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise IPSError(f"--command {name}: {error}; check the quotes.") from error
    if not equals or not name or not words:
        raise IPSError(
            f'--command {text}: write it as "NAME=PROGRAM {{input}} {{output}}".'
        )
    for kinds in (INPUTS, OUTPUTS):
        if not any(kind in word for kind in kinds for word in words):
            raise IPSError(f"--command {name}: it needs {' or '.join(kinds)}.")
    if shutil.which(words[0]) is None:
        raise IPSError(f"--command {name}: there is no program {words[0]}.")
    return name, partial(_run, name=name, words=words, timeout=timeout)


def parse_fused(text: str, samples: Sequence[Sample]) -> tuple[str, Method]:
    """Make a method of images that were fused elsewhere.

    Parameters
    ----------
    text : str
        ``NAME=FOLDER``. The image of a sample is FOLDER/DATASET/SAMPLE.png or
        FOLDER/SAMPLE.png (.tif, .tiff, .jpg or .jpeg).
    samples : sequence of Sample
        For each of which there has to be an image.

    Raises
    ------
    IPSError
        If the text is not of this form, or an image is missing.
    """
    name, equals, folder = (part.strip() for part in text.partition("="))
    if not equals or not name or not folder:
        raise IPSError(f"--fused {text}: write it as NAME=FOLDER.")
    if not Path(folder).is_dir():
        raise IPSError(f"--fused {name}: {folder} is not a folder.")
    paths = {sample: _fused_image(name, Path(folder), sample) for sample in samples}

    def take(scene: Scene) -> Fused:
        path = paths[scene.sample]
        return Fused(fitted(read_image(path), scene.slices, str(path)))

    return name, take


def fitted(image: Array, slices: Array, source: str) -> Array:
    """Bring an image to the dtype and the colours of the slices (Z, Y, X[, C]).

    Of three equal channels one is taken, of unequal ones the luminance, if the slices
    are grey; transparency is dropped. Values of 8 bits become 16 by a factor of 257,
    and 16 become 8 by division; other types are converted as they are.

    Raises
    ------
    IPSError
        If the image has another shape; ``source`` is what the line begins with.
    """
    if image.ndim == 3 and image.shape[2] == 4:
        image = image[..., :3]
    if image.ndim == 3 and slices.ndim == 3:
        same = (image == image[..., :1]).all()
        image = image[..., 0] if same else luminance(image)
    elif image.ndim == 2 and slices.ndim == 4:
        image = np.repeat(image[..., None], 3, axis=-1)
    if image.shape != slices.shape[1:]:
        raise IPSError(
            f"{source} has the shape {image.shape} and should have {slices.shape[1:]}."
        )
    return _converted(image, slices.dtype)


def _converted(image: Array, dtype: np.dtype[Any]) -> Array:
    if image.dtype == dtype:
        return image
    if (image.dtype.name, dtype.name) == ("uint8", "uint16"):
        return image.astype(dtype) * 257
    if (image.dtype.name, dtype.name) == ("uint16", "uint8"):
        return np.rint(image / 257).astype(dtype)
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        image = np.clip(np.rint(image), limits.min, limits.max)
    return image.astype(dtype)


def _fused_image(name: str, folder: Path, sample: Sample) -> Path:
    for place in (folder / sample.dataset, folder):
        for suffix in sorted(IMAGE_SUFFIXES):
            path = place / f"{sample.name}{suffix}"
            if path.is_file():
                return path
    raise IPSError(
        f"--fused {name}: there is no {sample.name}.png (or .tif, .jpg) in "
        f"{folder / sample.dataset} or {folder}."
    )


def _run(scene: Scene, name: str, words: Sequence[str], timeout: float) -> Fused:
    with tempfile.TemporaryDirectory(prefix="napari-ips-") as temporary:
        folder = Path(temporary)
        places = _prepare(folder, scene.slices, " ".join(words))
        command = [_filled(word, places) for word in words]
        start = perf_counter()
        _call(command, name, timeout, folder / "log.txt")
        seconds = perf_counter() - start
        image = read_image(_written(places, name, folder))
        return Fused(fitted(image, scene.slices, f"The image of {name}"), seconds=seconds)


def _prepare(folder: Path, slices: Array, line: str) -> dict[str, Path]:
    """Write the slices as the program wants them; return the paths of all placeholders."""
    suffix = ".png" if slices.dtype.name in ("uint8", "uint16") else ".tif"
    places = {
        "{input}": folder / "slices",
        "{stack}": folder / "stack.tif",
        "{output}": folder / "written" / f"fused{suffix}",
        "{output_dir}": folder / "written",
    }
    places["{output_dir}"].mkdir()
    if "{input}" in line:
        places["{input}"].mkdir()
        for number, part in enumerate(slices):
            write_image(places["{input}"] / f"{number:04d}{suffix}", part)
    if "{stack}" in line:
        write_stack(places["{stack}"], slices)
    return places


def _filled(word: str, places: dict[str, Path]) -> str:
    for placeholder, path in places.items():
        word = word.replace(placeholder, str(path))
    return word


def _call(command: Sequence[str], name: str, timeout: float, log: Path) -> None:
    # Into a file: a pipe would be held open by what the program itself has started.
    with log.open("wb") as file:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        except OSError as error:
            raise IPSError(f"{name} cannot be started: {error.strerror}.") from error
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise IPSError(f"{name} took more than {timeout:g} s{_tail(log)}") from None
        finally:
            _end(process)
    if code != 0:
        raise IPSError(f"{name} failed with code {code}{_tail(log)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs, with all that it has started."""
    if process.poll() is not None:
        return
    parent = psutil.Process(process.pid)
    for child in parent.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.kill()
    process.wait()


def _tail(log: Path) -> str:
    """Quote the end of what a program printed, to follow a line about it."""
    words = " ".join(log.read_text(encoding="utf-8", errors="replace").split())
    if len(words) > _TAIL:
        words = f"...{words[-_TAIL:]}"
    return f": {words}" if words else " and printed nothing."


def _written(places: dict[str, Path], name: str, folder: Path) -> Path:
    if places["{output}"].is_file():
        return places["{output}"]
    images = [
        path
        for path in sorted(places["{output_dir}"].rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if len(images) == 1:
        return images[0]
    if images:
        raise IPSError(f"{name} wrote {len(images)} images where one is needed.")
    raise IPSError(f"{name} wrote no image{_tail(folder / 'log.txt')}")
