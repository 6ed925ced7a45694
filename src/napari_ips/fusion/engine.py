"""What a process needs to fuse tiles of a job: network, threads, and open z-stacks."""

from __future__ import annotations

import threading

from napari_ips.files import plainly_written
from napari_ips.fusion.compute import Workers, load_network
from napari_ips.fusion.fuser import StackFuser
from napari_ips.fusion.job import Job
from napari_ips.fusion.plan import Plane
from napari_ips.fusion.scratch import EvidenceOnDisk, LevelOnDisk, load_settings
from napari_ips.fusion.tiles import Core


class Engine:
    """Fuses tiles of a job and writes them.

    Parameters
    ----------
    job : Job
        Whose planes have been measured before their tiles are fused.
    threads : int, optional
        That compute at once.
    asked : threading.Event, optional
        Set by somebody else, it makes work end with `Stopped`.
    """

    def __init__(
        self,
        job: Job,
        threads: int | None = None,
        asked: threading.Event | None = None,
    ) -> None:
        self.job = job
        self.network = load_network(job.config)
        self.device = next(self.network.parameters()).device
        self.workers = Workers(self.device, threads, asked)
        self._lock = threading.Lock()
        self._fuser: tuple[Plane, StackFuser] | None = None

    def fuse(self, plane: Plane, tile: Core) -> None:
        """Fuse and write one tile.

        Raises
        ------
        IPSError
            If it cannot be read or written, or memory does not suffice.
        """
        part = self._fuser_of(plane).fuse(tile)
        with plainly_written(self.job.folder):
            self.job.write(plane, tile, part)

    def _fuser_of(self, plane: Plane) -> StackFuser:
        with self._lock:
            # Of one plane at a time: the next one begins when all tiles are done.
            if self._fuser is None or self._fuser[0] != plane:
                self._fuser = plane, self._opened(plane)
            return self._fuser[1]

    def _opened(self, plane: Plane) -> StackFuser:
        job = self.job
        folder = job.scratch(plane)
        settings = load_settings(folder, job.config)
        assert settings is not None, "a plane is measured before its tiles are fused"
        level = None
        if 2 * job.top in settings.scales:
            level = LevelOnDisk(folder, 2 * job.top)
        return StackFuser(
            self.network,
            settings,
            job.readers(plane),
            level,
            EvidenceOnDisk(folder, job.image_shape, self.device),
            self.workers,
        )
