"""Measurements and the rows they become in metrics files: key columns, value, interval, note."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from v2l.configuration.cell_settings import CELL_SETTINGS
from v2l.configuration.metrics import Metric
from v2l.io.canonical import canonical_json
from v2l.io.storage import ARROW_TYPES
from v2l.metrics.bootstrap import mean_interval, set_interval
from v2l.runtime import rng

STANDARD_NOTE = "metric mode standard"
VALUE_COLUMNS = ("metric", "value", "ci_low", "ci_high", "n", "protocol", "note")
KEY_TYPES = {
    "method": pa.string(),
    "tokenizer": pa.string(),
    "llm": pa.string(),
    "task": pa.string(),
    "induction": pa.bool_(),
} | {name: pa.int32() for name in ("tokens", "ways", "inner_shots", "repeats", "vocabulary_size", "global_tokens")}

Key = bool | int | float | str | None


@dataclass(frozen=True)
class Measurement:
    """One metric of one cell of a table.

    `items` (N names) and `values` (N,) are the metric of each item, whose mean is the cell's value. A metric of the
    whole set has no per-item values: `items` is empty, `value` (None if it cannot be computed) and `n` are given, and
    if it can be resampled `of`, the metric of the items at some positions. `keys` are the row's key columns; a key that
    does not apply is None.
    """

    keys: dict[str, Key]
    metric: str
    protocol: str
    items: list[str]
    values: np.ndarray
    note: str = ""
    value: float | None = None
    n: int = 0
    of: Callable[[np.ndarray], float] | None = None

    def row(self, seed: int, samples: int) -> dict:
        """The row of a metrics file; the interval is drawn from `seed` and the row's own keys alone."""
        generator = rng(seed, "bootstrap", self.metric, canonical_json(self.keys))
        if self.of:
            low, high, reason = set_interval(self.of, self.n, samples, generator)
            return self._row(self.value, low, high, self.n, [self.note, reason])
        if not self.items:
            return self._row(self.value, None, None, self.n, [self.note])
        finite = self.values[np.isfinite(self.values)]
        notes = [self.note]
        for what, count in (("infinite", np.isinf(self.values).sum()), ("not a number", np.isnan(self.values).sum())):
            if count:
                notes.append(f"{self.metric}: {count} of {len(self.values)} items are {what} and left out")
        if not len(finite):
            return self._row(None, None, None, 0, notes)
        low, high, reason = mean_interval(finite, samples, generator)
        return self._row(float(np.sort(finite).mean()), low, high, len(finite), [*notes, reason])

    def _row(self, value: float | None, low: float | None, high: float | None, n: int, notes: list[str]) -> dict:
        values = (self.metric, value, low, high, n, self.protocol, joined(*notes))
        return self.keys | dict(zip(VALUE_COLUMNS, values, strict=True))


def mode_note(metric: Metric, mode: str) -> str:
    """What a row says of the mode in which its value was computed."""
    return f"metric mode released: {metric.released}" if metric.released and mode == "released" else STANDARD_NOTE


def joined(*notes: str) -> str:
    """The notes that are not empty, as one."""
    return "; ".join(filter(None, notes))


def items_table(measurements: list[Measurement]) -> pa.Table:
    """Per-item values of `measurements`, which have the same keys, one a row: keys, `item`, `metric`, `value`."""
    types = {key: key_type(key) for key in measurements[0].keys}
    schema = pa.schema([*types.items(), ("item", pa.string()), ("metric", pa.string()), ("value", pa.float64())])
    parts = []
    for measurement in measurements:
        n = len(measurement.items)
        columns = [pa.array([measurement.keys[key]] * n, found) for key, found in types.items()]
        columns += [pa.array(measurement.items, pa.string()), pa.array([measurement.metric] * n, pa.string())]
        parts.append(pa.table([*columns, pa.array(measurement.values, pa.float64())], schema=schema))
    return pa.concat_tables(parts)


def key_type(key: str) -> pa.DataType:
    """The type of a key column; that of a further setting of table 1 follows from its default."""
    return KEY_TYPES.get(key) or ARROW_TYPES[type(CELL_SETTINGS[key].default)]
