"""Measurements and the rows they become in metrics files: the key columns of every table, value, interval, note."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from v2l.io.canonical import canonical_json
from v2l.metrics.bootstrap import mean_interval, set_interval
from v2l.runtime import rng

TABLE_KEYS = {
    "table1_classification": ("method", "tokenizer", "llm", "tokens", "ways", "induction", "inner_shots", "repeats"),
    "table2_semantics": ("method", "vocabulary_size", "tokens"),
    "table3_reconstruction": ("method", "global_tokens"),
    "table4_restoration": ("method", "tokenizer", "llm", "task"),
    "table5_captioning_vqa": ("method", "tokenizer", "llm", "task"),
}
TEXT_NOTES = {  # sources of table 5 that no language model answered
    "captioning.token-overlap": "captioning by no language model: the caption of the example with the nearest tokens",
    "vqa.token-overlap": "vqa by no language model: the answer of the example with the nearest tokens and question",
    "vqa.majority-vote": "vqa by no language model: the commonest answer of the examples",
}
VALUE_COLUMNS = ("metric", "value", "ci_low", "ci_high", "n", "protocol", "note")
KEY_TYPES = {
    "method": pa.string(),
    "tokenizer": pa.string(),
    "llm": pa.string(),
    "task": pa.string(),
    "induction": pa.bool_(),
} | {name: pa.int32() for name in ("tokens", "ways", "inner_shots", "repeats", "vocabulary_size", "global_tokens")}


@dataclass(frozen=True)
class Measurement:
    """One metric of one cell of a table.

    `items` (N names) and `values` (N,) are the metric of each item, whose mean is the cell's value. A metric of the
    whole set has no per-item values: `items` is empty, `value` (None if it cannot be computed) and `n` are given, and
    if it can be resampled `of`, the metric of the items at some positions. `keys` holds the table's key columns; a key
    that does not apply is None.
    """

    keys: dict[str, str | int | bool | None]
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
        if len(finite) < len(self.values):
            notes.append(
                f"{self.metric}: {len(self.values) - len(finite)} of {len(self.values)} items are infinite and left out"
            )
        if not len(finite):
            return self._row(None, None, None, 0, notes)
        low, high, reason = mean_interval(finite, samples, generator)
        return self._row(float(np.sort(finite).mean()), low, high, len(finite), [*notes, reason])

    def _row(self, value: float | None, low: float | None, high: float | None, n: int, notes: list[str]) -> dict:
        values = (self.metric, value, low, high, n, self.protocol, joined(*notes))
        return self.keys | dict(zip(VALUE_COLUMNS, values, strict=True))


def text_keys(tokenizer: str, predictor: str, task: str) -> dict[str, str | None]:
    """The key columns of table 5; majority-vote reads no tokens."""
    baseline = f"{task}.{predictor}" in TEXT_NOTES
    return {
        "method": predictor if baseline else tokenizer,
        "tokenizer": None if predictor == "majority-vote" else tokenizer,
        "llm": None if baseline else predictor,
        "task": task,
    }


def text_note(predictor: str, task: str, facts: dict) -> str:
    """What is to be said of a source of table 5, given the facts of its predictions."""
    return joined(
        TEXT_NOTES.get(f"{task}.{predictor}", ""), "" if predictor == "majority-vote" else facts["tokenizer_note"]
    )


def joined(*notes: str) -> str:
    """The notes that are not empty, as one."""
    return "; ".join(filter(None, notes))


def items_table(measurements: list[Measurement], table: str) -> pa.Table:
    """Per-item values of `measurements`, one a row: the table's keys, `item`, `metric`, `value` (float64)."""
    keys = TABLE_KEYS[table]
    fields = [(key, KEY_TYPES[key]) for key in keys]
    schema = pa.schema([*fields, ("item", pa.string()), ("metric", pa.string()), ("value", pa.float64())])
    parts = []
    for measurement in measurements:
        n = len(measurement.items)
        columns = [pa.array([measurement.keys[key]] * n, KEY_TYPES[key]) for key in keys]
        columns += [pa.array(measurement.items, pa.string()), pa.array([measurement.metric] * n, pa.string())]
        parts.append(pa.table([*columns, pa.array(measurement.values, pa.float64())], schema=schema))
    return pa.concat_tables(parts)
