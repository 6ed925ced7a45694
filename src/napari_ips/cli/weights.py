"""``napari-ips weights``: list, describe and manage the weights of the user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_ips.cli.common import (
    JsonFlag,
    OverwriteFlag,
    human,
    note,
    print_json,
    weights_entry,
)

if TYPE_CHECKING:
    from rich.table import Table

    from napari_ips.weights import WeightsInfo

EXAMPLES = """[bold]Examples[/]

What there is, and what it was trained on:
[cyan]napari-ips weights list[/]
[cyan]napari-ips weights show default[/]

Keep trained weights under a name, and use them by it:
[cyan]napari-ips weights import mine.safetensors --name liver --notes "20x, H&E"[/]
[cyan]napari-ips fuse stack.tif -o fused.tif --weights liver[/]

Give them to a colleague: [cyan]napari-ips weights export liver liver.safetensors[/]
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of weights.", show_default=False)
]


def _example(line: str) -> str:
    return f"[bold]Example[/]: [cyan]napari-ips weights {line}[/]"


@app.command("list", epilog=_example("list --json"))
def list_(json: JsonFlag = False) -> None:
    """List the weights that can be chosen by name."""
    from napari_ips.weights import list_weights, user_folder

    infos = list_weights()
    if json:
        entries = [weights_entry(info) for info in infos]
        print_json({"folder": user_folder(), "weights": entries})
        return
    human().print(_table(infos))
    note(f"Your own lie in {user_folder()}.")


@app.command(epilog=_example("show liver"))
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME_OR_FILE",
            help="Name of weights or a .safetensors file.",
            show_default=False,
        ),
    ],
    json: JsonFlag = False,
) -> None:
    """Tell what weights were trained on, for how long, and how good they are."""
    from napari_ips.cards import describe_card
    from napari_ips.weights import WeightsInfo, find_weights, list_weights, read_card

    path = find_weights(name)
    bundled = path in {info.path for info in list_weights() if info.bundled}
    info = WeightsInfo(path.stem, path, bundled, read_card(path))
    if json:
        print_json(weights_entry(info))
        return
    human().print(
        f"{info.name} ({path})\n{describe_card(info.card)}", markup=False, soft_wrap=True
    )


@app.command("import", epilog=_example("import mine.safetensors --name liver"))
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A .safetensors file of weights.", show_default=False
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            help="Name to choose them by. Default: that of the file.", show_default=False
        ),
    ] = None,
    notes: Annotated[
        str | None,
        typer.Option(help="What to keep in mind of them.", show_default=False),
    ] = None,
) -> None:
    """Copy weights into your own folder, so that they can be chosen by name."""
    from napari_ips.registry import import_weights

    info = import_weights(file, name, notes)
    _tell(f"Imported {info.name}: {info.path}")


@app.command(epilog=_example("export liver liver.safetensors"))
def export(
    name: Name,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The .safetensors file to write.", show_default=False
        ),
    ],
    overwrite: OverwriteFlag = False,
) -> None:
    """Copy weights to a file, for another machine or person."""
    from napari_ips.registry import export_weights

    export_weights(name, file, overwrite)
    _tell(f"Exported {name}: {file}")


@app.command(epilog=_example('rename liver "liver 20x"'))
def rename(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="Name of weights.", show_default=False)
    ],
    new: Annotated[
        str, typer.Argument(metavar="NEW", help="Their new name.", show_default=False)
    ],
) -> None:
    """Give weights of your own another name."""
    from napari_ips.registry import rename_weights

    info = rename_weights(old, new)
    _tell(f"Renamed {old} to {info.name}: {info.path}")


@app.command(epilog=_example("delete liver"))
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete weights of your own."""
    from napari_ips.registry import delete_weights, own_weights

    path = own_weights(name).path
    if not yes:
        typer.confirm(f"Delete {name} ({path}) for good?", abort=True, err=True)
    delete_weights(name)
    _tell(f"Deleted {name}.")


@app.command(epilog=_example('notes liver "20x, H&E, scanner 2"'))
def notes(
    name: Name,
    text: Annotated[
        str,
        typer.Argument(
            metavar="TEXT", help='The new notes; "" removes them.', show_default=False
        ),
    ],
) -> None:
    """Put other notes into the card of weights of your own."""
    from napari_ips.registry import set_notes

    set_notes(name, text)
    _tell(f"Noted in the card of {name}.")


def _tell(line: str) -> None:
    human().print(line, markup=False, soft_wrap=True)


def _table(infos: list[WeightsInfo]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from napari_ips.cards import card_facts

    columns = ("Validation", "Made", "Notes")
    table = Table("name", "where", *(column.lower() for column in columns))
    for info in infos:
        facts = card_facts(info.card)
        where = "bundled" if info.bundled else "own"
        cells = (info.name, where, *(facts.get(column, "") for column in columns))
        table.add_row(*map(Text, cells))
    return table
