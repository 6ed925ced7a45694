"""Surfaces of height maps: smoothed heights, meshes, and files of them."""

from napari_ips.surface.files import write_surface
from napari_ips.surface.heights import smooth_heights
from napari_ips.surface.mesh import SurfaceMesh, surface_mesh

__all__ = ["SurfaceMesh", "smooth_heights", "surface_mesh", "write_surface"]
