"""Training runs on disk, each in a folder of its own, so that a crash loses nothing.

The folder holds:

- ``about.json``: the title of the run and when it was started, written last of what
  makes a new run, so that a folder without it is none;
- ``images``: images that are nowhere else on disk, written before training begins;
- ``settings.toml``: the settings, from when the run can begin;
- ``weights.checkpoint.safetensors``, and in the end ``weights.safetensors``.

The lock of the program that trains there lies beside the folder.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import platformdirs

from napari_ips.config import TrainConfig
from napari_ips.errors import IPSError
from napari_ips.files import is_locked, locked, plainly_written, remove, written_whole
from napari_ips.training.checkpoint import checkpoint_path, with_start
from napari_ips.weights import list_weights, read_metadata

# For as long as others may hold the lock in order to see whether it is held, in seconds.
_PATIENCE = 0.5


@dataclass(frozen=True)
class Run:
    """A training run in a folder of its own.

    Attributes
    ----------
    folder : Path
        The folder.
    title : str
        What the user calls it.
    started : datetime
        When it was made, in UTC.
    """

    folder: Path
    title: str
    started: datetime

    @property
    def images(self) -> Path:
        """Folder for images that are nowhere else on disk."""
        return self.folder / "images"

    @property
    def output(self) -> Path:
        """The weights, once the run is finished."""
        return self.folder / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint, once there is one."""
        return checkpoint_path(self.output)

    @property
    def state(self) -> Literal["empty", "unfinished", "finished"]:
        """Whether there are weights, or settings at least."""
        if self.output.is_file():
            return "finished"
        return "unfinished" if self._settings.is_file() else "empty"

    @property
    def is_in_use(self) -> bool:
        """Whether a program, this one or another, works on the run."""
        return is_locked(self.folder)

    @property
    def iteration(self) -> int | None:
        """Steps up to the checkpoint; None without one that can be read."""
        reached = self._reached()
        return None if reached is None else reached[0]

    @property
    def fraction(self) -> float | None:
        """Share of the run up to the checkpoint, 0 to 1; None as for `iteration`."""
        reached = self._reached()
        if reached is None:
            return None
        try:
            config = self.config()
        except IPSError:
            return None
        return min(1.0, config.fraction_done(*reached))

    @property
    def size(self) -> int:
        """Bytes on disk."""
        total = 0
        for path in self.folder.rglob("*"):
            # It may be gone by now.
            with suppress(OSError):
                total += path.lstat().st_size
        return total

    def config(self) -> TrainConfig:
        """Read the settings.

        Raises
        ------
        IPSError
            If there are none yet, or they cannot be read.
        """
        config = TrainConfig.from_toml(self._settings)
        return config.model_copy(update={"output": self.output})

    def write_settings(self, config: TrainConfig) -> TrainConfig:
        """Write the settings, from when on the run can begin, and be gone on with.

        Paths become absolute, and the network that of the weights that the run starts
        from, so that they mean the same in another program.

        Returns
        -------
        TrainConfig
            The settings to train with: ``output`` is that of this run.

        Raises
        ------
        IPSError
            If they contradict the weights to start from, or cannot be written.
        """
        self._check_there()
        config = with_start(config)
        images = tuple(path.absolute() for path in config.images)
        changes: dict[str, Any] = {"images": images, "output": self.output}
        registered = {info.name for info in list_weights()}
        for name in ("start_from", "teacher"):
            weights = getattr(config, name)
            if weights is not None and weights not in registered:
                changes[name] = str(Path(weights).absolute())
        config = config.model_copy(update=changes)
        with written_whole(self._settings) as path:
            config.to_toml(path)
        return config

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other programs from working on this run; it may be let go in any thread.

        Raises
        ------
        IPSError
            If another one does so already, or the run was deleted.
        """
        busy = f"Another program works on the training run {self.title!r}."
        with locked(self.folder, busy, wait=_PATIENCE):
            self._check_there()
            yield

    def discard(self) -> None:
        """Delete the folder and all that is in it.

        Raises
        ------
        IPSError
            If a program works on the run, or it cannot be deleted.
        """
        with suppress(_Gone), self.lock():
            # First: what a killed program leaves of the rest is not offered any more.
            with plainly_written(self.folder):
                self._settings.unlink(missing_ok=True)
                self.output.unlink(missing_ok=True)
            remove(self.folder)
            if self.folder.exists():
                raise IPSError(f"{self.folder} cannot be deleted, or not all of it.")

    @property
    def _settings(self) -> Path:
        return self.folder / "settings.toml"

    def _reached(self) -> tuple[int, float] | None:
        """Read steps and seconds up to the checkpoint, without its tensors."""
        try:
            metadata = read_metadata(self.checkpoint)
            return int(metadata["iteration"]), float(metadata["seconds"])
        except (IPSError, KeyError, ValueError):
            return None

    def _check_there(self) -> None:
        if not self.folder.is_dir():
            raise _Gone(f"The training run {self.title!r} was deleted: {self.folder}.")


class _Gone(IPSError):
    """The folder of a run is not there any more."""


def runs_folder() -> Path:
    """Return the folder of all training runs; it need not exist yet."""
    return platformdirs.user_data_path("napari-ips", appauthor=False) / "training"


def new_run(title: str) -> Run:
    """Make the folder of a new run, with room for images but no settings yet.

    Raises
    ------
    IPSError
        If it cannot be written.
    """
    started = datetime.now(UTC)
    name = f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
    run = Run(runs_folder() / name, title, started)
    with plainly_written(run.folder):
        run.images.mkdir(parents=True)
    about = {"title": title, "started": started.isoformat()}
    with written_whole(run.folder / "about.json") as path:
        path.write_text(json.dumps(about), encoding="utf-8")
    return run


def list_runs() -> list[Run]:
    """List the runs that can be gone on with or are finished, the newest first.

    Runs without settings are left out, unless a program is about to write some, and so
    is every folder that cannot be understood. They stay as they are.

    Raises
    ------
    IPSError
        If the folder of all runs cannot be read.
    """
    try:
        folders = [path for path in runs_folder().iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise IPSError(f"{runs_folder()} cannot be read: {error.strerror}.") from error
    runs = [run for run in map(_read, folders) if run is not None]
    offered = [run for run in runs if run.state != "empty" or run.is_in_use]
    return sorted(offered, key=lambda run: (run.started, run.folder), reverse=True)


def _read(folder: Path) -> Run | None:
    """Read what a folder says of itself, if it says that."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        started = datetime.fromisoformat(about["started"]).astimezone(UTC)
        return Run(folder, str(about["title"]), started)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
