"""A table as Markdown: a GitHub table for each block, the notes, and the differences to the first method."""

from collections.abc import Callable

from tabulate import tabulate

from v2l.tables.escaping import markdown_text
from v2l.tables.views import MISSING, ShownValue, View

DIFFERENCES = ": mean over common items, 95 % interval of a paired bootstrap, p of random signs."


def markdown(view: View) -> str:
    """The whole file; in tables whose settings go across, an interval stands below its value."""
    separator = "<br>" if view.table.across else " "

    def shown(cell: ShownValue) -> str:
        value = f"**{cell.text}**" if cell.best else cell.text
        return separator.join(filter(None, [value + r"\*" * cell.differs, cell.interval]))

    def difference(cell: ShownValue) -> str:
        return cell.difference.replace(" [", f"{separator}[").replace(", p", f",{separator}p") or MISSING

    parts = [markdown_text(view.caption()), *(_block(part, shown) for part in view.parts())]
    if notes := view.notes():
        parts.append("\n".join(f"- {markdown_text(note)}" for note in notes))
    if reference := view.reference():
        parts.append(markdown_text(f"Differences to {reference}{DIFFERENCES}"))
        parts += filter(None, (_block(part, difference, compared=True) for part in view.parts()))
    return "\n\n".join(parts) + "\n"


def _block(view: View, shown: Callable[[ShownValue], str], compared: bool = False) -> str:
    """One table under its block's name; of lines with a difference alone if they are `compared` (empty if none is)."""
    keys = view.key_names()
    lines = [line for line in view.lines() if not compared or any(cell.difference for cell in line.cells)]
    if not lines:
        return ""
    columns = list(range(len(view.headings())))
    if compared:
        columns = [column for column in columns if any(line.cells[column].difference for line in lines)]
    header = [key.replace("_", " ") for key in keys]
    header += [markdown_text(", ".join(filter(None, view.headings()[column]))) for column in columns]
    body = [[*map(markdown_text, line.keys), *(shown(line.cells[column]) for column in columns)] for line in lines]
    aligned = ["left"] * len(keys) + ["right"] * len(columns)
    table = tabulate(body, header, tablefmt="pipe", colalign=aligned, disable_numparse=True)
    return f"**{markdown_text(view.part)}**\n\n{table}" if view.part else table
