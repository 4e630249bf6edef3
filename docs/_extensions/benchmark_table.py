"""``benchmark-table``: a table from the JSON rows that a benchmark wrote, so that no number of the page is typed by hand.

.. code-block:: markdown

    :::{benchmark-table} ../benchmarks/quality/results/simulated.json
    :rows: method
    :where: condition=standard
    :columns: transcripts_right=transcripts right, mean_iou=mean IoU
    :best: expansion
    :::

A cell is the mean over the rows that agree in `rows` and `where`, with their range where they differ. Names that begin with `best` become one row with the
best value of each column. Columns that begin with ``seconds`` or ``cpu_seconds`` are better when smaller.

``benchmark-matrix`` sets two entries of the rows against each other, for one value:

.. code-block:: markdown

    :::{benchmark-matrix} ../benchmarks/quality/results/simulated.json
    :rows: condition
    :across: method
    :value: transcripts_right
    :columns: nuclei; best expansion; sjg
    :names: base; 40 transcripts
    :::

A cell is the mean over all rows of the pair and its standard deviation; a column ``best NAME`` takes, for each row of the table, the best of the columns that begin with
that name. The best of a line is bold.

``benchmark-values`` and the role ``measured`` read nested records, whose keys are joined by ``>``:

.. code-block:: markdown

    :::{benchmark-values} ../benchmarks/attribution/results/runs_ca1.json
    :at: rules
    :head: rule
    :columns: two seeds > mean=two seeds; half of the genes > mean=half of the genes
    :::

    {measured}`../benchmarks/attribution/results/speed.json > joint / closed form 16`

Rows are the entries at `at` (or those in `names`, ``key=label``); whatever is missing is shown as "not measured".
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective, SphinxRole

_LESS_IS_BETTER = ("seconds", "cpu_seconds", "coexpression")


def read_beside(env: BuildEnvironment, name: str) -> tuple[str, Any]:
    """Name of a JSON file beside the page, and what it holds; None where there is none."""
    file = Path(env.doc2path(env.docname)).parent / name
    env.note_dependency(str(file))
    return file.name, json.loads(file.read_text()) if file.is_file() else None


class BenchmarkTable(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar = {
        "rows": directives.unchanged_required,
        "where": directives.unchanged,
        "columns": directives.unchanged_required,
        "best": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        name, rows = read_beside(self.env, self.arguments[0])
        if rows is None:
            return [nodes.paragraph("", f"Not measured yet: {name} is not in the repository.")]
        where = dict(one.strip().split("=", 1) for one in self.options.get("where", "").split(",") if one.strip())
        columns = dict((one.strip().split("=", 1) * 2)[:2] for one in self.options["columns"].split(","))
        records = [row for row in rows if all(str(row.get(key)) == value for key, value in where.items())]
        cells = summarise(records, self.options["rows"], list(columns), self.options.get("best"))
        if not cells:
            return [nodes.paragraph("", f"Not measured yet: {name} has no rows for {where or 'this table'}.")]
        return [table([self.options["rows"], *columns.values()], [[row, *values] for row, values in cells.items()])]


class BenchmarkMatrix(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar = {
        "rows": directives.unchanged_required,
        "across": directives.unchanged_required,
        "value": directives.unchanged_required,
        "columns": directives.unchanged_required,
        "names": directives.unchanged,
        "less-is-better": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        file, records = read_beside(self.env, self.arguments[0])
        columns, names = (
            [" ".join(one.split()) for one in self.options.get(key, "").split(";") if one.strip()] for key in ("columns", "names")
        )
        rows = matrix(
            records or [],
            self.options["rows"],
            self.options["across"],
            self.options["value"],
            columns,
            less="less-is-better" in self.options,
        )
        if not rows:
            return [nodes.paragraph("", f"Not measured yet: {file} has no such rows.")]
        order = [name for name in names or rows if name in rows]
        return [table([self.options["rows"], *columns], [[name, *rows[name]] for name in order])]


class BenchmarkValues(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar = {
        "at": directives.unchanged,
        "head": directives.unchanged,
        "columns": directives.unchanged_required,
        "names": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        file, content = read_beside(self.env, self.arguments[0])
        found = value_at(content or {}, self.options.get("at", ""))
        if not isinstance(found, dict):
            return [nodes.paragraph("", f"Not measured yet: {file} has no such entry.")]
        columns, names = (labelled(self.options.get(key, "")) for key in ("columns", "names"))
        rows = [
            [label, *(number(value_at(found.get(name), key)) for key in columns)]
            for name, label in (names or {k: k for k in found}).items()
        ]
        return [table([self.options.get("head", ""), *columns.values()], rows)]


class Measured(SphinxRole):
    """One number of a nested record."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        name, _, path = self.text.partition(">")
        _, content = read_beside(self.env, name.strip())
        found = value_at(content or {}, path)
        return [nodes.Text(number(found))], []


def labelled(text: str) -> dict[str, str]:
    """``key=label; key`` -> labels by key."""
    return {key.strip(): (label or key).strip() for key, _, label in (one.partition("=") for one in text.split(";") if one.strip())}


def value_at(record: object, path: str) -> object:
    """The entry under keys joined by ``>``; None where there is none."""
    for key in (one.strip() for one in path.split(">") if one.strip()):
        record = record.get(key) if isinstance(record, dict) else None
    return record


def number(value: object) -> str:
    """Three digits that count."""
    if value is None:
        return "not measured"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return (
        f"{value:,.0f}"
        if abs(value) >= 100
        else f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.3f}"
        if abs(value) <= 1
        else f"{value:.2f}"
    )


def matrix(records: list[dict], by: str, across: str, value: str, columns: list[str], *, less: bool = False) -> dict[str, list[str]]:
    """Text of the cells of each row; the best is in bold."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.get(value) is not None:
            values[str(record[by])][str(record[across])].append(float(record[value]))
    out: dict[str, list[str]] = {}
    for name, found in values.items():
        series = []
        for column in columns:
            if column.startswith("best "):
                group = [one for key, one in found.items() if key.startswith(column.removeprefix("best "))]
                series.append((min if less else max)(group, key=lambda one: sum(one) / len(one)) if group else [])
            else:
                series.append(found.get(column, []))
        means = [round(sum(one) / len(one), 3) for one in series if one]
        if means:
            best = (min if less else max)(means)
            out[name] = [with_deviation(one, bold=bool(one) and round(sum(one) / len(one), 3) == best) for one in series]
    return out


def with_deviation(values: list[float], *, bold: bool) -> str:
    if not values:
        return "-"
    mean = sum(values) / len(values)
    text = f"{mean:.3f}" if abs(mean) < 10 else f"{mean:,.0f}"
    if len(values) > 1 and abs(mean) < 10:
        text += f" ± {(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5:.3f}"
    return f"**{text}**" if bold else text


def summarise(records: list[dict], by: str, columns: list[str], best: str | None) -> dict[str, list[str]]:
    """Text of the cells of each row."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for column in columns:
            if record.get(column) is not None:
                values[str(record[by])][column].append(float(record[column]))
    group = [name for name in values if best and name.startswith(best)]
    out: dict[str, list[str]] = {}
    for name, row in values.items():
        if name in group:
            if len(group) > 1 and name != group[0]:
                continue
            row = {column: best_of([values[one][column] for one in group if values[one][column]], column) for column in columns}
            name = f"{best}, best distance for each number" if len(group) > 1 else name
        out[name] = [cell(row.get(column, [])) for column in columns]
    return out


def best_of(series: list[list[float]], column: str) -> list[float]:
    choose = min if column.startswith(_LESS_IS_BETTER) else max
    return choose(series, key=lambda one: sum(one) / len(one)) if series else []


def cell(values: list[float]) -> str:
    if not values:
        return "-"
    mean = sum(values) / len(values)
    text = f"{mean:.3f}" if abs(mean) < 10 else f"{mean:,.0f}"
    low, high = min(values), max(values)
    return text if f"{low:.3f}" == f"{high:.3f}" or abs(mean) >= 10 else f"{text} ({low:.3f} to {high:.3f})"


def table(head: list[str], rows: list[list[str]]) -> nodes.table:
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    for parent, lines in ((nodes.thead(), [head]), (nodes.tbody(), rows)):
        for line in lines:
            row = nodes.row()
            for text in line:
                plain = text.removeprefix("**").removesuffix("**")
                row += nodes.entry("", nodes.paragraph("", "", nodes.strong("", plain) if plain != text else nodes.Text(plain)))
            parent += row
        group += parent
    return nodes.table("", group)


def setup(app) -> dict[str, bool]:
    app.add_directive("benchmark-table", BenchmarkTable)
    app.add_directive("benchmark-matrix", BenchmarkMatrix)
    app.add_directive("benchmark-values", BenchmarkValues)
    app.add_role("measured", Measured())
    return {"parallel_read_safe": True}
