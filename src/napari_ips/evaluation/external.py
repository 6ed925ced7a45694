"""Methods from elsewhere: other programs, and images that they left in a folder."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.evaluation.datasets import IMAGE_SUFFIXES, Sample
from napari_ips.evaluation.methods import Fused, Method
from napari_ips.evaluation.running import Usage, run_program, tail
from napari_ips.evaluation.scenes import Scene
from napari_ips.intensity import luminance
from napari_ips.io import read_image, write_image, write_stack

Array = NDArray[Any]

INPUTS = ("{input}", "{stack}")
OUTPUTS = ("{output}", "{output_dir}")
TIMEOUT = 600.0


@dataclass(frozen=True)
class Program:
    """A program that fuses, as ``NAME=PROGRAM ARGUMENT...`` tells it.

    It can be called, as a `Method`; `prepare`, `run` and `image` are the same in steps,
    for running it several times on one stack.

    Attributes
    ----------
    name : str
    words : tuple of str
        The program and its arguments, with placeholders; see `parse`.
    timeout : float or None
        Seconds after which it is stopped.
    """

    name: str
    words: tuple[str, ...]
    timeout: float | None = TIMEOUT

    @classmethod
    def parse(cls, text: str, timeout: float | None = TIMEOUT) -> Program:
        """Read a program.

        Parameters
        ----------
        text : str
            ``NAME=PROGRAM ARGUMENT...``, split as a shell would, but run without one.
            In the arguments stand for something:

            ``{input}``
                a folder with the slices as 0000.png, 0001.png and so on, of 8 or 16
                bits as the stack has them, grey or RGB (.tif for other types);
            ``{stack}``
                the same as one TIFF;
            ``{output}``
                the file to be written, .png (.tif for types that PNG does not hold);
            ``{output_dir}``
                a folder for programs that name the file themselves: the one image in it.
        timeout : float, optional
            Seconds after which the program is stopped.

        Raises
        ------
        IPSError
            If the text has no name, no input or no output, or there is no such program.
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
        return cls(name, tuple(words), timeout)

    def prepare(self, folder: Path, slices: Array) -> Places:
        """Write slices (Z, Y, X[, C]) into an empty folder, as the program wants them."""
        return Places.of(folder, slices, " ".join(self.words))

    def run(self, places: Places) -> Usage:
        """Run the program.

        Raises
        ------
        IPSError
            If it fails or takes too long.
        """
        command = [places.filled(word) for word in self.words]
        return run_program(command, self.name, timeout=self.timeout, log=places.log)

    def image(self, places: Places, slices: Array) -> Array:
        """Read what the last run wrote, and bring it to the type of the slices.

        Raises
        ------
        IPSError
            If there is no image, or more than one, or it has another shape.
        """
        image = read_image(places.written(self.name))
        return fitted(image, slices, f"The image of {self.name}")

    def __call__(self, scene: Scene) -> Fused:
        """Fuse a scene; the seconds are those of the whole program."""
        with tempfile.TemporaryDirectory(prefix="napari-ips-") as folder:
            places = self.prepare(Path(folder), scene.slices)
            usage = self.run(places)
            return Fused(self.image(places, scene.slices), seconds=usage.seconds)


def parse_command(text: str, timeout: float = TIMEOUT) -> tuple[str, Method]:
    """Make a method of a program; see `Program.parse`.

    Returns
    -------
    (str, Method)
        The name, and what runs the program.

    Raises
    ------
    IPSError
        As `Program.parse`. While fusing, if the program fails, takes too long, or writes
        no usable image.
    """
    program = Program.parse(text, timeout)
    return program.name, program


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
    name, folder = split_fused(text)
    paths = {sample: _fused_image(name, folder, sample) for sample in samples}

    def take(scene: Scene) -> Fused:
        path = paths[scene.sample]
        return Fused(fitted(read_image(path), scene.slices, str(path)))

    return name, take


def split_fused(text: str) -> tuple[str, Path]:
    """Return the name and the folder of ``NAME=FOLDER``.

    Raises
    ------
    IPSError
        If the text is not of this form, or there is no such folder.
    """
    name, equals, folder = (part.strip() for part in text.partition("="))
    if not equals or not name or not folder:
        raise IPSError(f"--fused {text}: write it as NAME=FOLDER.")
    if not Path(folder).is_dir():
        raise IPSError(f"--fused {name}: {folder} is not a folder.")
    return name, Path(folder)


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
        images = {
            path.suffix.lower(): path
            for path in place.glob("*")
            if path.stem == sample.name and path.is_file()
        }
        for suffix in IMAGE_SUFFIXES:
            if suffix in images:
                return images[suffix]
    raise IPSError(
        f"--fused {name}: there is no {sample.name}.png (or .tif, .jpg) in "
        f"{folder / sample.dataset} or {folder}."
    )


@dataclass(frozen=True)
class Places:
    """The files of a program: what every placeholder stands for, and what it prints."""

    paths: dict[str, Path]
    log: Path

    @classmethod
    def of(cls, folder: Path, slices: Array, line: str) -> Places:
        """Write the slices as the line of a program wants them."""
        suffix = ".png" if slices.dtype.name in ("uint8", "uint16") else ".tif"
        paths = {
            "{input}": folder / "slices",
            "{stack}": folder / "stack.tif",
            "{output}": folder / "written" / f"fused{suffix}",
            "{output_dir}": folder / "written",
        }
        paths["{output_dir}"].mkdir()
        if "{input}" in line:
            paths["{input}"].mkdir()
            for number, part in enumerate(slices):
                write_image(paths["{input}"] / f"{number:04d}{suffix}", part)
        if "{stack}" in line:
            write_stack(paths["{stack}"], slices)
        return cls(paths, folder / "log.txt")

    def filled(self, word: str) -> str:
        """Put paths in the place of placeholders."""
        for placeholder, path in self.paths.items():
            word = word.replace(placeholder, str(path))
        return word

    def empty(self) -> None:
        """Remove what the program wrote, so that it can be run again."""
        shutil.rmtree(self.paths["{output_dir}"])
        self.paths["{output_dir}"].mkdir()

    def written(self, name: str) -> Path:
        """Find the image that the program of this name wrote."""
        if self.paths["{output}"].is_file():
            return self.paths["{output}"]
        images = [
            path
            for path in sorted(self.paths["{output_dir}"].rglob("*"))
            if path.suffix.lower() in IMAGE_SUFFIXES
        ]
        if len(images) == 1:
            return images[0]
        if images:
            raise IPSError(f"{name} wrote {len(images)} images where one is needed.")
        raise IPSError(f"{name} wrote no image{tail(self.log)}")
