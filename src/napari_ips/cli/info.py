"""``napari-ips info``: what is installed, and what will be used."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from napari_ips.cli.common import JsonFlag, human, print_json, weights_entry

if TYPE_CHECKING:
    from rich.table import Table

# Parts of a weights card that only --json shows.
LONG = ("settings", "format")

EXAMPLES = """[bold]Examples[/]

Before reporting a problem: [cyan]napari-ips info[/]

For a program: [cyan]napari-ips info --json[/]
"""


def info(json: JsonFlag = False) -> None:
    """Show versions, devices, scan backends and weights."""
    facts = _collect()
    if json:
        print_json(facts)
        return
    console = human()
    for table in (_versions(facts), _backends(facts), _weights(facts)):
        console.print(table)
    chosen = facts["auto"]
    console.print(
        f"auto takes the device [bold]{chosen['device']}[/] and the backend "
        f"[bold]{chosen['backend']}[/]: {chosen['why']}",
        soft_wrap=True,
    )


def _collect() -> dict[str, Any]:
    import torch

    from napari_ips import __version__, scan, weights
    from napari_ips.device import choose_device, list_devices
    from napari_ips.scan import mamba

    device = str(choose_device())
    backend, why = scan.choose_backend(device)
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "devices": [{"device": d, "name": name} for d, name in list_devices().items()],
        "backends": scan.backends(),
        "convolutions": {"causal_conv1d": mamba.conv_unavailable()},
        "auto": {"device": device, "backend": backend, "why": why},
        "weights": [weights_entry(entry) for entry in weights.list_weights()],
    }


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, title=title, title_justify="left", title_style="bold")


def _versions(facts: dict[str, Any]) -> Table:
    table = _table("napari-ips", "what", "value")
    for name in ("version", "python", "platform", "torch", "threads"):
        table.add_row(name, str(facts[name]))
    for device in facts["devices"]:
        table.add_row("device", f"{device['device']} ({device['name']})")
    return table


def _backends(facts: dict[str, Any]) -> Table:
    from rich.text import Text

    table = _table("Backends of scan and convolution", "name", "usable")
    for name, reason in (facts["backends"] | facts["convolutions"]).items():
        usable = Text("yes", "green") if reason is None else Text(f"no: {reason}", "dim")
        table.add_row(name, usable)
    return table


def _weights(facts: dict[str, Any]) -> Table:
    from rich.text import Text

    table = _table("Weights", "name", "where", "card")
    for entry in facts["weights"]:
        where = "bundled" if entry["bundled"] else str(entry["path"])
        told = sorted(item for item in entry["card"].items() if item[0] not in LONG)
        card = "\n".join(f"{key}: {_in_words(value)}" for key, value in told)
        table.add_row(Text(entry["name"]), Text(where), Text(card))
    if not facts["weights"]:
        table.add_row("none", "make some with napari-ips train", "")
    return table


def _in_words(value: Any) -> str:
    """Write what JSON can hold without its quotes and braces."""
    if isinstance(value, list):
        return ", ".join(_in_words(part) for part in value)
    if not isinstance(value, dict):
        return str(value)
    parts = []
    for key, part in value.items():
        words = _in_words(part)
        parts.append(f"{key} ({words})" if isinstance(part, dict) else f"{key} {words}")
    return ", ".join(parts)
