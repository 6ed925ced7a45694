"""Find what can be evaluated in a folder: pairs of images, and stacks with their truth.

Pairs: a folder with the sub-folders ``A`` and ``B`` and, if the truth is known, ``GT``;
files belong together by their name without suffix. Stacks: folders with ``stack.tif``
and, if known, ``truth.tif`` and ``height.npy``. Either may lie up to two folders deeper
than the one that is given.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from napari_ips.errors import IPSError

# Of two files of one name, the one that loses nothing is found first.
IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
SEARCH_DEPTH = 2


@dataclass(frozen=True)
class PairSample:
    """Two images of one scene, focused differently, and the truth where there is one."""

    dataset: str
    name: str
    a: Path
    b: Path
    truth: Path | None


@dataclass(frozen=True)
class StackSample:
    """A z-stack, and its truth and height map (in slices) where they are known."""

    dataset: str
    name: str
    stack: Path
    truth: Path | None
    height: Path | None


Sample = PairSample | StackSample


def find_samples(folder: str | Path) -> list[Sample]:
    """List all pairs and stacks in a folder, sorted by path.

    Parameters
    ----------
    folder : path
        A set of pairs, a stack's folder, or a folder of such folders.

    Returns
    -------
    list of PairSample and StackSample
        The data set of a pair is the name of the folder that holds ``A`` and ``B``; that
        of a stack the name of the folder above the stack's own.

    Raises
    ------
    IPSError
        If the folder is missing, nothing is found in it, an image of ``A`` has none
        in ``B`` (or two) that belongs to it, one of ``GT`` has none in either, or two
        samples of two data sets cannot be told apart by their names.
    """
    root = Path(folder).resolve()
    if not root.is_dir():
        raise IPSError(f"{folder} is not a folder; give one with pairs or stacks.")
    found = _search(root, SEARCH_DEPTH)
    if not found:
        raise IPSError(
            f"Nothing to evaluate in {folder}: it needs sub-folders A, B (and GT) with "
            "images of the same names, or folders with stack.tif and truth.tif."
        )
    names = Counter((sample.dataset, sample.name) for sample in found)
    (dataset, name), count = names.most_common(1)[0]
    if count > 1:
        raise IPSError(
            f"There are {count} samples {dataset}/{name} in {folder}; rename folders, "
            "or give one of them."
        )
    return found


def _search(folder: Path, depth: int) -> list[Sample]:
    if (folder / "A").is_dir() and (folder / "B").is_dir():
        return _pairs(folder)
    if (folder / "stack.tif").is_file():
        return [_stack(folder)]
    if depth == 0:
        return []
    inner = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return [sample for entry in inner for sample in _search(entry, depth - 1)]


def _pairs(folder: Path) -> list[Sample]:
    a, b, truth = (_by_stem(folder / part) for part in ("A", "B", "GT"))
    lonely = sorted(a.keys() ^ b.keys())
    if lonely:
        path = a.get(lonely[0]) or b[lonely[0]]
        raise IPSError(f"{path} has no image of the same name in the other folder (A, B).")
    if strange := sorted(truth.keys() - a.keys()):
        raise IPSError(f"{truth[strange[0]]} has no images of the same name in A and B.")
    return [
        PairSample(folder.name, stem, a[stem], b[stem], truth.get(stem))
        for stem in sorted(a)
    ]


def _by_stem(folder: Path) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in images:
            raise IPSError(f"{folder} has two images called {path.stem}; remove one.")
        images[path.stem] = path
    return images


def _stack(folder: Path) -> StackSample:
    truth, height = (
        path if path.is_file() else None
        for path in (folder / "truth.tif", folder / "height.npy")
    )
    return StackSample(folder.parent.name, folder.name, folder / "stack.tif", truth, height)
