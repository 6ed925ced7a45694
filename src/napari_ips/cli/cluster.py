"""Connection to the scheduler of a dask.distributed cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_ips.cli.common import note
from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from distributed import Client

# A scheduler that runs answers at once.
_SECONDS = 5


@contextmanager
def connected(address: str | None) -> Iterator[Client | None]:
    """Give a client of the scheduler at an address; None without an address.

    Raises
    ------
    IPSError
        If dask.distributed is not installed, or no scheduler answers there.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise IPSError(
            "--scheduler needs dask.distributed: pip install napari-ips[distributed]."
        ) from error
    try:
        client = Client(address, timeout=_SECONDS)
    # What answers there may be anything, and what it says is taken for all sorts of things.
    except Exception as error:
        raise IPSError(
            f"No scheduler answers at {address}; check the address, such as "
            "tcp://node:8786, and that it runs."
        ) from error
    with client:
        if not client.nthreads():
            note("The cluster has no workers yet; waiting for them.")
        yield client
