"""The section of each table: its blocks, notes, and where to find what stands behind each number."""

from collections.abc import Iterable
from dataclasses import dataclass

from v2l.report.answers import place_of
from v2l.report.evidence import Evidence, anchor
from v2l.report.table_blocks import Row, ShownBlock, blocks, read_table, row_key
from v2l.tables.score_files import score_rows
from v2l.tables.tables import TABLES


@dataclass(frozen=True)
class TableSection:
    """A table for the page; `name` is that of its files, `notes` are remarks on its rows, each once."""

    name: str
    title: str
    items: str
    blocks: list[ShownBlock]
    notes: list[str]
    commit: str
    record: str

    @property
    def has_published(self) -> bool:
        """Whether any number of the paper is known."""
        return any(cell.published for block in self.blocks for row in block.rows for cell in row.cells)


def table_sections(tables: Iterable[Evidence], scores: Iterable[Evidence], shown: Iterable[str]) -> list[TableSection]:
    """A section for each table. Cells link to `shown` places of the page that hold what was answered."""
    links = _links(scores, set(shown))
    sections = []
    for found in tables:
        table = TABLES[found.job["table"]]
        rows = read_table(found.path)
        own = {key: place for (name, key), place in links.items() if name == table.name}
        sections.append(
            TableSection(
                name=table.name,
                title=table.title,
                items=table.items,
                blocks=blocks(table, rows, own),
                notes=[*table.notes, *_notes(rows)],
                commit=found.record["commit"],
                record=anchor("record", found.path),
            )
        )
    return sections


def _links(scores: Iterable[Evidence], shown: set[str]) -> dict[tuple[str, tuple[str, ...]], str]:
    """(table, `row_key`) -> the place of what the measurement is made of."""
    links = {}
    for found in scores:
        for row in score_rows(found.path):
            place = place_of(found, row)
            for table in TABLES.values():
                if row["metric"] in table.metric_columns and place in shown:
                    links[table.name, row_key(table, row)] = place
    return links


def _notes(rows: Iterable[Row]) -> list[str]:
    """What the rows' notes say, by method: each remark once."""
    methods: dict[str, dict[str, None]] = {}
    for row in rows:
        for note in filter(None, row["note"].split("; ")):
            methods.setdefault(note, {})[row["method"]] = None
    return [f"{', '.join(named)}: {note}" for note, named in methods.items()]
