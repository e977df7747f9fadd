"""What a table is: the scores that it is made of, its columns, and how its views are laid out."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from v2l.configuration.config import Config
from v2l.configuration.known_metrics import metric
from v2l.configuration.runs import Run


@dataclass(frozen=True)
class Table:
    """A table by the name of its files; `runs` are those whose scores are its rows.

    `keys` and protocol tell its rows apart; `metrics` (`v2l.configuration.metrics`) are in the order of the columns.
    `further_keys` and `further_metrics`, but for those in `without`, are what extensions may add to, so they are read
    when they are needed. In the views keys go down, but for those that go `across` and those that the metric tells
    (`implied`); each value of key `block` has a table of its own. `paper_columns` are values of the keys across that
    are shown in any case, with their average behind them. A value is a mean over `items`; `notes` stand above those of
    the rows.
    """

    name: str
    title: str
    runs: Callable[[Config], list[Run]]
    keys: tuple[str, ...]
    metrics: tuple[str, ...]
    further_keys: Collection[str] = ()
    further_metrics: Collection[str] = ()
    without: tuple[str, ...] = ()
    across: tuple[str, ...] = ()
    implied: tuple[str, ...] = ()
    block: str = ""
    paper_columns: tuple[tuple[bool | int | str, ...], ...] = ()
    items: str = "images"
    notes: tuple[str, ...] = ()

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Columns whose values, with metric and protocol, tell a row from all others."""
        return (*self.keys, *self.further_keys)

    @property
    def metric_columns(self) -> tuple[str, ...]:
        """Every metric that the table can show."""
        return (*self.metrics, *(name for name in self.further_metrics if name not in self.without))

    @property
    def row_keys(self) -> tuple[str, ...]:
        """Keys that go down in the views."""
        elsewhere = {*self.across, *self.implied, self.block}
        return tuple(key for key in self.key_columns if key not in elsewhere)

    def shown_metrics(self, measured: Collection[str]) -> list[str]:
        """The metrics that have a column, given those of the rows: one that stands in only if it was measured."""
        return [name for name in self.metric_columns if name in measured or not metric(name).stands_in]
