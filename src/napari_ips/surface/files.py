"""Surfaces as files for other programs: OBJ with its texture, and PLY."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_ips.errors import IPSError
from napari_ips.files import written_whole
from napari_ips.surface.mesh import SurfaceMesh

SUFFIXES = (".obj", ".ply")


def write_surface(path: Path, mesh: SurfaceMesh, *, overwrite: bool = False) -> list[Path]:
    """Write a mesh as OBJ, or as PLY with colours at its vertices, by the suffix.

    The coordinates are x, -y, z in the unit of the mesh: z is up, and as y of an image
    goes down, its sign is changed so that nothing is mirrored. An OBJ comes with a
    material (``.mtl``) and the texture in full resolution (``-texture.png``).

    Parameters
    ----------
    path : Path
        Ends in ``.obj`` or ``.ply``.
    mesh : SurfaceMesh
    overwrite : bool
        Whether files of these names may go.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    IPSError
        If the suffix is another, files are in the way or cannot be written, or trimesh
        is not installed.
    """
    from napari_ips.io import check_writable

    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise IPSError(f"{path.name}: a surface is saved as .obj or .ply.")
    files = _obj_files(path, mesh) if suffix == ".obj" else _ply_file(path, mesh)
    for name in files:
        check_writable(name, overwrite=overwrite)
    for name, content in files.items():
        with written_whole(name) as temporary:
            temporary.write_bytes(content)
    return list(files)


def companions(path: Path) -> list[Path]:
    """Return the files that are written beside a surface file of this name."""
    if path.suffix.lower() != ".obj":
        return []
    stem = _plain_stem(path)
    return [path.with_name(f"{stem}.mtl"), path.with_name(f"{stem}-texture.png")]


def _obj_files(path: Path, mesh: SurfaceMesh) -> dict[Path, bytes]:
    trimesh = _trimesh()
    visual = None
    material, picture = companions(path)
    if mesh.texture is not None:
        from PIL import Image

        # Matte, and at full strength: the texture alone makes the colours.
        surface = trimesh.visual.material.SimpleMaterial(
            image=Image.fromarray(mesh.texture),
            diffuse=[255] * 4,
            ambient=[255] * 4,
            specular=[0, 0, 0, 255],
            # The picture is named after it.
            name=picture.stem,
        )
        visual = trimesh.visual.TextureVisuals(uv=mesh.uv, material=surface)
    text, others = trimesh.exchange.obj.export_obj(
        _solid(mesh, visual=visual),
        return_texture=True,
        mtl_name=material.name,
        header=None,
        include_normals=False,
    )
    # What an OBJ refers to is there before it.
    files = {path.with_name(name): content for name, content in others.items()}
    return {**files, path: text.encode()}


def _ply_file(path: Path, mesh: SurfaceMesh) -> dict[Path, bytes]:
    solid = _solid(mesh, vertex_colors=mesh.colors)
    content: bytes = _trimesh().exchange.ply.export_ply(solid, vertex_normal=False)
    return {path: content}


def _solid(mesh: SurfaceMesh, **look: Any) -> Any:
    # Adding 0 makes 0 of the -0 that a change of sign leaves.
    xyz = mesh.vertices[:, ::-1] * np.array([1, -1, 1], np.float32) + np.float32(0)
    return _trimesh().Trimesh(xyz, mesh.faces, process=False, **look)


def _plain_stem(path: Path) -> str:
    # Many readers end the names inside an OBJ at the first blank.
    return "_".join(path.stem.split())


def _trimesh() -> Any:
    try:
        import trimesh
        import trimesh.exchange.obj
        import trimesh.exchange.ply
        import trimesh.visual.material
    except ImportError as error:
        raise IPSError("Surface files need trimesh: pip install trimesh.") from error
    return trimesh
