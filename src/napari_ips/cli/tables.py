"""Tables of figures on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ips.cli.common import human

if TYPE_CHECKING:
    from napari_ips.evaluation.tables import Table

_LONGEST_NAME = 32


def print_table(table: Table, remark: str = "") -> None:
    """Print a table on stdout, its best figures in bold.

    Not even a narrow terminal may cut off a figure; long names are folded.

    Parameters
    ----------
    table : Table
    remark : str
        Follows the title.
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.measure import Measurement
    from rich.table import Table as Printed

    console = human()
    title = f"{escape(table.title)}{escape(remark)}"
    printed = Printed(title=title, title_justify="left", box=SIMPLE_HEAD)
    longest = max(len(row[0]) for row in table.rows)
    printed.add_column(
        table.columns[0], overflow="fold", min_width=min(longest, _LONGEST_NAME)
    )
    for column in table.columns[1:]:
        printed.add_column(column, justify="right", no_wrap=True)
    for line, row in enumerate(table.rows):
        cells = (
            f"[bold]{escape(cell)}[/]" if (line, column) in table.best else escape(cell)
            for column, cell in enumerate(row)
        )
        printed.add_row(*cells)
    least = Measurement.get(console, console.options, printed).minimum
    console.width = max(console.width, least)
    console.print(printed)
