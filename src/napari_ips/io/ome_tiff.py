"""Write pyramidal OME-TIFF: tiles, and smaller levels in SubIFDs, one piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_ips.io.ome_terms import ome_metadata
from napari_ips.io.pyramid import (
    Picture,
    Piece,
    Progress,
    Steps,
    Window,
    doubled,
    halved,
    in_parallel,
    level_sizes,
    windows,
)
from napari_ips.io.tiff import CLASSIC_LIMIT, colour_options, resolution_in_centimetres

if TYPE_CHECKING:
    import zarr

_TILE = 512
# Tiles side by side that are read at once: those of the source are larger.
_TILES = 4
# Of tiles that tifffile compresses in one go.
_BUFFER_BYTES = 2**25


def write_ome_tiff(part: Path, picture: Picture, progress: Progress | None) -> None:
    """Write a picture as OME-TIFF with levels of resolution.

    The smaller levels are made on disk first, in a temporary folder beside the file.
    """
    with TemporaryDirectory(dir=part.parent, prefix=f"{part.name}.") as folder:
        sizes = level_sizes(*picture.shape[2:4])
        cuts = [windows(*size, _TILE, _TILE) for size in sizes[1:]]
        reads = [_reads(*size) for size in sizes]
        steps = Steps(len(picture.planes) * sum(map(len, cuts + reads)), progress)
        levels = [picture]
        for n, size in enumerate(sizes[1:]):
            levels.append(_smaller(levels[-1], Path(folder) / str(n), size, cuts[n], steps))
        _write_levels(part, levels, reads, steps)


def _reads(height: int, width: int) -> list[Window]:
    return windows(height, width, _TILE, _TILE * _TILES)


def _smaller(
    upper: Picture,
    folder: Path,
    size: tuple[int, int],
    cut: list[Window],
    steps: Steps,
) -> Picture:
    """Make the next level of resolution in a folder."""
    import zarr

    level: zarr.Array[Any] = zarr.create_array(
        folder,
        shape=(*upper.shape[:2], *size, *upper.shape[4:]),
        chunks=(1, 1, min(_TILE, size[0]), min(_TILE, size[1]), *upper.shape[4:]),
        dtype=upper.dtype,
    )

    def shrink(piece: Piece) -> None:
        t, c, window = piece
        block = upper.read(t, c, doubled(window, *upper.shape[2:4]))
        level[(t, c, *window)] = halved(block, upper.kind)

    in_parallel(shrink, upper.pieces(cut), steps)
    return replace(upper, array=level)


def _write_levels(
    part: Path, levels: list[Picture], reads: list[list[Window]], steps: Steps
) -> None:
    import tifffile

    # Half as large again as the first level, with all the others.
    bigtiff = sum(level.nbytes for level in levels) > CLASSIC_LIMIT
    with tifffile.TiffWriter(part, bigtiff=bigtiff, ome=True) as file:
        for n, level in enumerate(levels):
            shape, axes = level.shape_without_single
            options: dict[str, Any] = {"subfiletype": 1}
            if n == 0:
                options = {
                    "subifds": len(levels) - 1,
                    "metadata": ome_metadata(level, axes),
                }
            file.write(
                _tiles(level, reads[n], steps),
                shape=shape,
                dtype=level.dtype,
                tile=_tile_shape(*level.shape[2:4]),
                compression="zlib",
                # Of real numbers, few programs undo it.
                predictor=level.dtype.kind in "ui",
                buffersize=_BUFFER_BYTES,
                **options,
                **colour_options(level),
                **resolution_in_centimetres(level, 2**n),
            )


def _tile_shape(height: int, width: int) -> tuple[int, int]:
    # TIFF wants multiples of 16.
    rows, columns = (min(_TILE, -(-length // 16) * 16) for length in (height, width))
    return rows, columns


def _tiles(level: Picture, reads: list[Window], steps: Steps) -> Iterator[NDArray[Any]]:
    """Load the tiles of a level in the order of the file."""
    rows, columns = _tile_shape(*level.shape[2:4])
    for t, c in level.planes:
        for window in reads:
            block = level.read(t, c, window)
            # Before the last tile is out, after which nobody asks for more.
            steps()
            height, width = block.shape[:2]
            for y, x in windows(height, width, rows, columns):
                tile = block[y, x]
                yield tile.reshape(*tile.shape[:2], -1)
