"""Fusion on dask.distributed gives what one process gives, whatever happens to workers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tifffile
import torch
import zarr

from napari_ips.errors import IPSError
from napari_ips.events import Progress, TileDone
from napari_ips.fusion import cluster, engine, worker
from napari_ips.fusion.engine import Engine
from volumes import fuse, noise, tiny_weights, tree

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

# Windows has no SIGKILL; there, SIGTERM ends a process as abruptly.
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
LOAD, FUSE = engine.load_network, Engine.fuse


def watch(log: Path, seconds: float = 0.0) -> None:
    """Have a worker note what it loads and fuses, and take some time over each tile."""

    def note(what: str) -> None:
        with log.open("a") as file:
            file.write(f"{what} {os.getpid()}\n")

    def load(config: Any) -> Any:
        note("weights")
        return LOAD(config)

    def slowly(self: Engine, plane: Any, tile: Any) -> None:
        note(f"{plane.key}-{tile.key}")
        time.sleep(seconds)
        FUSE(self, plane, tile)

    engine.load_network, Engine.fuse = load, slowly


def unwatch() -> None:
    engine.load_network, Engine.fuse = LOAD, FUSE


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Three workers, each a process of its own."""
    with (
        distributed.LocalCluster(
            n_workers=3, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture
def log(client: Any, tmp_path: Path) -> Iterator[Path]:
    """What the workers note; a tile takes a fifth of a second."""
    path = tmp_path / "log"
    client.wait_for_workers(3)
    client.run(watch, path, 0.2)
    yield path
    client.run(unwatch)


@pytest.fixture
def threads() -> Iterator[tuple[Any, Any]]:
    """A cluster within this process that may be taken apart: one worker, two threads."""
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as local,
        distributed.Client(local, timeout=2) as client,
    ):
        yield local, client


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, bytes]]:
    """Input, weights, and what this process makes of them: two times, six tiles each."""
    folder = tmp_path_factory.mktemp("alone")
    weights = tiny_weights(folder)
    source = folder / "stack.tif"
    pixels = noise(2, 3, 640, 600)
    tifffile.imwrite(source, pixels, imagej=True, metadata={"axes": "TZYX"})
    return source, weights, fused(source, weights, folder / "results")


def fused(source: Any, weights: Path, folder: Path, **options: Any) -> dict[str, bytes]:
    """Fuse into a folder, with maps; return the files in it."""
    folder.mkdir(exist_ok=True)
    maps = {name: folder / f"{name}.ome.zarr" for name in ("index", "depth", "confidence")}
    fuse(source, folder / "fused.ome.zarr", weights, **maps, **options)
    return tree(folder)


def at_first_tile(do: Callable[[], object]) -> Callable[[Progress], None]:
    """Return a callback that does something when one tile is done."""

    def callback(event: Progress) -> None:
        if isinstance(event, TileDone) and event.done == 1:
            do()

    return callback


def kill_one(client: Any) -> None:
    """Kill a worker that is at work."""
    busy = [address for address, keys in client.processing().items() if keys]
    (pid,) = client.run(os.getpid, workers=busy[:1]).values()
    os.kill(pid, KILL)


def stopped(source: Path, weights: Path, folder: Path, **options: Any) -> str:
    """Fuse what cannot be finished; return the line that says why."""
    with pytest.raises(IPSError) as caught:
        fused(source, weights, folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_same_bytes_and_weights_loaded_once(client, alone, log, tmp_path, monkeypatch):
    source, weights, expected = alone
    (tmp_path / "weights.safetensors").write_bytes(weights.read_bytes())
    (tmp_path / "stack.tif").write_bytes(source.read_bytes())
    # The workers were started in another folder.
    monkeypatch.chdir(tmp_path)
    events: list[Progress] = []
    found = fused(
        Path("stack.tif"),
        Path("weights.safetensors"),
        Path("results"),
        client=client,
        callback=events.append,
    )
    renamed = {name: data.replace(b"tiny", b"weights") for name, data in expected.items()}
    assert found == renamed
    tiles = [(e.done, e.total) for e in events if isinstance(e, TileDone)]
    assert tiles == [(n, 12) for n in range(1, 13)]
    assert {"measuring", "scaling down"} <= {e.task for e in events}
    loaded = [line for line in log.read_text().splitlines() if line.startswith("weights")]
    at_work = {line.split()[1] for line in log.read_text().splitlines()}
    assert len(loaded) == len(set(loaded)) == len(at_work) > 1


def test_calling_off_leaves_nothing_at_work(client, alone, log, tmp_path):
    source, weights, expected = alone

    class Enough(Exception):
        pass

    def stop() -> None:
        raise Enough

    with pytest.raises(Enough):
        fused(source, weights, tmp_path, client=client, callback=at_first_tile(stop))
    done = log.read_text()
    partial = tree(tmp_path / ".fused.ome.zarr.partial")
    time.sleep(0.5)
    assert client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 0
    assert log.read_text() == done
    assert tree(tmp_path / ".fused.ome.zarr.partial") == partial
    log.unlink()
    assert fused(source, weights, tmp_path, resume=True) == expected


def test_another_run_of_the_same_name_starts_afresh(client, alone, tmp_path):
    source, weights, expected = alone
    other = fused(source, weights, tmp_path, client=client, settings={"mode": "hard"})
    again = fused(source, weights, tmp_path, client=client, overwrite=True)
    assert other != again == expected


def test_an_array_is_copied_for_the_workers(client, alone, tmp_path):
    _, weights, _ = alone
    pixels = noise(3, 300, 600)
    here = fused(pixels, weights, tmp_path / "here")
    assert fused(pixels, weights, tmp_path / "there", client=client) == here
    opened = zarr.create_array(tmp_path / "a.zarr", data=pixels, chunks=(3, 99, 99))
    assert fused(opened, weights, tmp_path / "zarr", client=client) == here


def test_what_a_worker_cannot_read_is_told_in_one_line(client, alone, tmp_path):
    _, weights, _ = alone
    source = tmp_path / "a.zarr"
    zarr.create_array(source, data=noise(3, 600, 600), chunks=(1, 200, 200))
    expected = fused(source, weights, tmp_path / "good")
    chunk = source / "c" / "1" / "0" / "2"
    intact = chunk.read_bytes()
    chunk.write_bytes(intact[: len(intact) // 2])
    line = stopped(source, weights, tmp_path / "out", client=client)
    assert line.startswith(f"{source} ")
    chunk.write_bytes(intact)
    found = fused(source, weights, tmp_path / "out", client=client, resume=True)
    assert found == expected


def test_workers_of_another_version_are_refused(client, alone, tmp_path, monkeypatch):
    source, weights, _ = alone
    monkeypatch.setattr(cluster, "package_version", lambda: "0.0.1")
    line = stopped(source, weights, tmp_path, client=client)
    assert line.startswith("This program is napari-ips 0.0.1, but the scheduler has ")


def test_a_killed_worker_changes_nothing(client, alone, log, tmp_path):
    source, weights, expected = alone
    callback = at_first_tile(lambda: kill_one(client))
    found = fused(source, weights, tmp_path / "out", client=client, callback=callback)
    assert found == expected
    lines = [line.split()[0] for line in log.read_text().splitlines()]
    tiles = [line for line in lines if line != "weights"]
    assert len(tiles) > len(set(tiles)), "the killed one was at no tile"


@pytest.mark.slow
def test_a_tile_that_kills_every_worker(client, alone, log, tmp_path):
    source, weights, expected = alone

    def patience(failures: int, dask_scheduler: Any) -> None:
        dask_scheduler.allowed_failures = failures

    client.run_on_scheduler(patience, 0)
    try:
        callback = at_first_tile(lambda: kill_one(client))
        line = stopped(source, weights, tmp_path / "out", client=client, callback=callback)
    finally:
        client.run_on_scheduler(patience, 3)
    assert line.startswith("Several workers vanished, one after another, over the same")
    assert fused(source, weights, tmp_path / "out", resume=True) == expected


def test_a_worker_has_to_see_the_work_folder(tmp_path):
    sealed = worker.Sealed.of(abs, "run", tmp_path / "elsewhere")
    with pytest.raises(IPSError, match="does not see .*elsewhere"):
        sealed(-1)


def test_no_scheduler_any_more(threads, alone, tmp_path):
    local, client = threads
    source, weights, expected = alone
    callback = at_first_tile(local.close)
    line = stopped(source, weights, tmp_path, client=client, callback=callback)
    assert line.startswith("The cluster's scheduler is gone") and "--resume" in line
    done = os.listdir(tmp_path / ".fused.ome.zarr.partial" / "done")
    assert len(done) >= 1
    line = stopped(source, weights, tmp_path, client=client, resume=True)
    assert line.startswith("The cluster's scheduler is gone")
    assert fused(source, weights, tmp_path, resume=True) == expected


def test_no_workers_any_more(threads, alone, tmp_path, monkeypatch):
    local, client = threads
    source, weights, expected = alone
    monkeypatch.setattr(cluster, "_PATIENCE", 1.0)
    monkeypatch.setattr(cluster, "_LOOK", 0.2)
    monkeypatch.setattr(Engine, "fuse", lambda *args: time.sleep(0.2) or FUSE(*args))
    callback = at_first_tile(lambda: local.scale(0))
    line = stopped(source, weights, tmp_path, client=client, callback=callback)
    assert line.startswith("The cluster has had no worker for 1 seconds")
    assert fused(source, weights, tmp_path, resume=True) == expected


def test_dask_may_say_how_long_to_wait_for_workers(alone, tmp_path):
    source, weights, _ = alone
    with dask.config.set({"distributed.scheduler.no-workers-timeout": "1s"}):
        local = distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=":0"
        )
    with local, distributed.Client(local) as client:
        line = stopped(source, weights, tmp_path, client=client)
    assert line.startswith("The cluster has had no worker for 1 seconds")


def test_threads_of_a_worker_share_its_cores(threads, alone, tmp_path, monkeypatch):
    _, client = threads
    source, weights, expected = alone
    before = torch.get_num_threads()
    at_once, most, of_torch, lock = 0, 0, set(), threading.Lock()

    def counted(self: Engine, plane: Any, tile: Any) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        of_torch.add(torch.get_num_threads())
        of_torch.update(self.workers.each(lambda _: torch.get_num_threads(), range(4)))
        time.sleep(0.05)
        FUSE(self, plane, tile)
        with lock:
            at_once -= 1

    monkeypatch.setattr(Engine, "fuse", counted)
    assert fused(source, weights, tmp_path, client=client) == expected
    assert most == 2
    assert of_torch == {1}
    assert torch.get_num_threads() == before
