"""A table as LaTeX: a `table` environment for each block, which needs the packages booktabs and graphicx."""

from collections.abc import Sequence

from v2l.tables.escaping import latex_text
from v2l.tables.views import Line, ShownValue, View, same_headings

PACKAGES = r"% needs \usepackage{booktabs} and \usepackage{graphicx}"
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # no wider than the text


def latex(view: View) -> str:
    """The whole file. In tables whose settings go across, an interval stands below its value."""
    parts = view.parts()
    return "\n".join([PACKAGES, *(_environment(part, number) for number, part in enumerate(parts))])


def _environment(view: View, number: int) -> str:
    keys, headings = view.key_names(), view.headings()
    label = f"tab:{view.table.name}" + (f":{number + 1}" if view.part else "")
    depth = len(headings[0])
    header = [_header(headings, line, keys if line == depth - 1 else ("",) * len(keys)) for line in range(depth)]
    stacked = bool(view.table.across)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(_title(view))}}}",
            rf"\label{{{label}}}",
            r"\setlength{\tabcolsep}{4pt}",
            FIT,
            rf"\begin{{tabular}}{{{'l' * len(keys)}{'r' * len(headings)}}}",
            r"\toprule",
            *header,
            r"\midrule",
            *(_row(line, stacked) for line in view.lines()),
            r"\bottomrule",
            r"\end{tabular}}",
            *_notes(view.notes()),
            r"\end{table}",
            "",
        ]
    )


def _title(view: View) -> str:
    """The caption without the table's number, which LaTeX gives."""
    return view.caption().partition(". ")[2]


def _header(headings: Sequence[tuple[str, ...]], line: int, keys: Sequence[str]) -> str:
    cells = [latex_text(key.replace("_", " ")) for key in keys]
    for text, span in same_headings(headings, line):
        cells.append(rf"\multicolumn{{{span}}}{{c}}{{{latex_text(text)}}}" if span > 1 else latex_text(text))
    return " & ".join(cells) + r" \\"


def _row(line: Line, stacked: bool) -> str:
    return " & ".join([*map(latex_text, line.keys), *(_cell(cell, stacked) for cell in line.cells)]) + r" \\"


def _cell(cell: ShownValue, stacked: bool) -> str:
    text = latex_text(cell.text)
    value = (rf"\textbf{{{text}}}" if cell.best else text) + "$^{*}$" * cell.differs
    if not cell.interval:
        return value
    interval = rf"{{\scriptsize {latex_text(cell.interval)}}}"
    return rf"\shortstack[r]{{{value} \\ {interval}}}" if stacked else f"{value} {interval}"


def _notes(notes: Sequence[str]) -> list[str]:
    """Paragraphs below the table."""
    if not notes:
        return []
    lines = [rf"{latex_text(note)}.\par" for note in notes]
    return [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright", *lines, r"\end{minipage}"]
