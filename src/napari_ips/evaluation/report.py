"""The report of a benchmark: tables as Markdown and CSV, and one page with pictures."""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from napari_ips.evaluation.benchmark import Mean, Row, flat
from napari_ips.evaluation.report_pictures import Picture, Sheet
from napari_ips.evaluation.significance import Comparison
from napari_ips.evaluation.tables import (
    LEGEND,
    Table,
    markdown,
    mean_tables,
    significance_tables,
)
from napari_ips.files import written_whole

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem;
  padding: 0 1.5rem; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .6rem; }
h4 { font-weight: 500; margin: 1rem 0 .4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
.row { display: flex; flex-wrap: wrap; gap: .8rem; }
figure { margin: 0; width: 256px; }
img { width: 256px; display: block; background: #8882; }
img.crop { image-rendering: pixelated; }
figcaption, .quiet { color: #777; font-size: .85rem; }
pre { overflow-x: auto; background: #8881; padding: .8rem; }
"""


def write_report(
    folder: Path,
    means: Sequence[Mean],
    comparisons: Sequence[Comparison],
    rows: Sequence[Row],
    sheets: Iterable[Sheet],
    settings: Mapping[str, Any],
) -> None:
    """Write table.md, means.csv, significance.csv and report.html.

    Parameters
    ----------
    folder : Path
        Is there, and is that of this benchmark.
    means, comparisons
        See `benchmark.means` and `significance.compare`.
    rows : sequence of Row
        Of which the failures are told.
    sheets : iterable of Sheet
        Drawn one by one while the page is written.
    settings : dict
        What was asked for, as JSON can hold it.

    Raises
    ------
    IPSError
        If a file cannot be written.
    """
    tables, tests = mean_tables(means), significance_tables(comparisons)
    failures = [
        f"{row.method} on {row.dataset}/{row.sample}: {row.failure}"
        for row in rows
        if row.failure
    ]
    _write_csv(folder / "means.csv", [flat(mean) for mean in means])
    if comparisons:
        _write_csv(folder / "significance.csv", [asdict(one) for one in comparisons])
    with written_whole(folder / "table.md") as part:
        parts = [*map(markdown, tables), f"{LEGEND}\n", *map(markdown, tests)]
        if failures:
            parts += ["## Failures\n", *(f"- {line}" for line in failures), ""]
        part.write_text("\n".join(parts), encoding="utf-8")
    with (
        written_whole(folder / "report.html") as part,
        part.open("w", encoding="utf-8") as file,
    ):
        file.writelines(_page(tables, tests, failures, sheets, settings))


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (
        written_whole(path) as part,
        part.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _page(
    tables: Sequence[Table],
    tests: Sequence[Table],
    failures: Sequence[str],
    sheets: Iterable[Sheet],
    settings: Mapping[str, Any],
) -> Iterable[str]:
    yield (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Fusion benchmark</title>\n<style>{STYLE}</style>\n"
        "<h1>Fusion benchmark</h1>\n"
    )
    yield from map(_table, tables)
    yield f'<p class="quiet">{html.escape(LEGEND)}</p>\n'
    if failures:
        lines = "".join(f"<li>{html.escape(line)}</li>\n" for line in failures)
        yield f"<h2>Failures</h2>\n<ul>\n{lines}</ul>\n"
    yield from map(_table, tests)
    for sheet in sheets:
        yield _sheet(sheet)
    told = json.dumps(settings, indent=2, default=str)
    yield f"<h2>Settings</h2>\n<pre>{html.escape(told)}</pre>\n</html>\n"


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    lines = []
    for number, row in enumerate(table.rows):
        cells = (
            f"<td><b>{html.escape(cell)}</b></td>"
            if (number, column) in table.best
            else f"<td>{html.escape(cell)}</td>"
            for column, cell in enumerate(row)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>\n")
    title = html.escape(table.title)
    return f"<h2>{title}</h2>\n<table>\n<tr>{head}</tr>\n{''.join(lines)}</table>\n"


def _sheet(sheet: Sheet) -> str:
    rows = "".join(
        f'<h4>{html.escape(title)}</h4>\n<div class="row">'
        f"{''.join(map(_picture, pictures))}</div>\n"
        for title, pictures in sheet.rows
    )
    return f"<h3>{html.escape(sheet.title)}</h3>\n{rows}"


def _picture(picture: Picture) -> str:
    kind = ' class="crop"' if picture.crop else ""
    caption = html.escape(picture.caption)
    return (
        f'<figure><img{kind} src="{picture.data_uri()}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )
