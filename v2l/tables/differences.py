"""Whether a method differs from the first of its table: the mean difference over the items that both were measured on.

The bootstrap is paired: it draws items, and with each the values of both methods.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from v2l.configuration.known_metrics import metric
from v2l.errors import UserError
from v2l.io.canonical import canonical_json
from v2l.metrics.bootstrap import paired_interval
from v2l.runtime import rng

COMPARED_KEYS = ("method", "tokenizer", "llm", "vocabulary_size", "global_tokens")  # the other keys are the setting
LEAST_P = 0.001  # below it the digits say nothing
Items = dict[str, float]  # finite value by the item's name


class Difference(NamedTuple):
    """`value` is a method's mean minus that of `reference` over `n` common items, with its 95 % interval and p.

    The last three are None where all items differ alike.
    """

    reference: str
    value: float
    n: int
    low: float | None
    high: float | None
    p: float | None

    def text(self, decimals: int) -> str:
        """Value, interval and p, as in `-0.012 [-0.020, -0.004], p = 0.002`."""
        if self.low is None or self.p is None:
            return f"{self.value:+.{decimals}f} on every item"
        p = f"p = {self.p:.3f}" if self.p >= LEAST_P else f"p < {LEAST_P}"
        return f"{self.value:+.{decimals}f} [{self.low:+.{decimals}f}, {self.high:+.{decimals}f}], {p}"


def read_items(path: Path, rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[Items]:
    """The values of the items behind each of `rows`, which `path` holds with their `keys`; none for a set's metric.

    Raises UserError if the file cannot be read or lacks a column.
    """
    try:
        table = pq.read_table(path, columns=[*keys, "metric", "item", "value"])
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path} cannot be read as values of items ({' '.join(str(error).split())[:200]})",
            f"a Parquet file with {', '.join((*keys, 'metric', 'item', 'value'))}",
            "delete it and run again",
        ) from None
    return [_items(table, {name: row[name] for name in (*keys, "metric")}) for row in rows]


def _items(table: pa.Table, named: Mapping[str, Any]) -> Items:
    matches = [pc.is_null(table[key]) if value is None else pc.equal(table[key], value) for key, value in named.items()]
    found = table.filter(pc.fill_null(reduce(pc.and_, matches), False))
    values = found["value"].to_numpy()
    finite = np.isfinite(values)
    return dict(zip(found["item"].filter(pa.array(finite)).to_pylist(), values[finite].tolist(), strict=True))


def differences(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str], seed: int, samples: int
) -> list[Difference | None]:
    """Of each row of a table, which are in its order and hold their `items`, the difference to the first method.

    None for that method itself, and where it was not measured: in the same setting, by the same language model (any,
    for rows without one), on an item that both have. `samples` are drawn from `seed` and the row's own keys alone.
    """
    first = rows[0]["method"]
    setting = [key for key in keys if key not in COMPARED_KEYS]
    references: dict[tuple, dict[str | None, Items]] = {}
    for row in rows:
        if row["method"] == first and row["items"]:
            references.setdefault(_place(row, setting), {}).setdefault(row.get("llm"), row["items"])
    found: list[Difference | None] = []
    for row in rows:
        by_llm = references.get(_place(row, setting), {})
        llm = row.get("llm")
        other = next(iter(by_llm.values()), None) if llm is None else by_llm.get(llm)
        common = sorted(row["items"].keys() & other.keys()) if other else []
        if row["method"] == first or other is None or not common:
            found.append(None)
            continue
        difference_N = np.array([row["items"][item] - other[item] for item in common])
        named = canonical_json({key: row[key] for key in keys})
        generator = rng(seed, "paired bootstrap", row["metric"], row["protocol"], named)
        found.append(
            Difference(
                first, float(difference_N.mean()), len(common), *paired_interval(difference_N, samples, generator)
            )
        )
    return found


def _place(row: Mapping[str, Any], setting: Sequence[str]) -> tuple:
    return row["protocol"], row["metric"], *(row[key] for key in setting)


def difference_note(row: Mapping[str, Any], difference: Difference) -> str:
    """What a row's note says of its difference; of how many items, if that is not all of the row's."""
    items = "" if difference.n == row["n"] else f", over {difference.n} common items"
    return f"difference to {difference.reference}: {difference.text(metric(row['metric']).decimals)}{items}"
