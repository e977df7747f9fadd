"""Few-shot classification accuracy from an LLM's answers (paper section 4.2, table 1)."""

from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from v2l.configuration.protocols import RELEASED, split_run
from v2l.errors import UserError
from v2l.io.storage import parquet_facts
from v2l.llm.prompts import released_name
from v2l.metrics.rows import Measurement, joined

CELL = ("ways", "tokens", "inner_shots", "repeats", "induction")
BASELINE_NOTES = {
    "token-overlap": "no language model: nearest support image by token overlap",
    "clip-prototype": "image features: no tokens and no language model",
}


def measure_classification(tokenizer: str, predictor: str, predictions: Path) -> list[Measurement]:
    """`accuracy` of every cell of the grid, over its episodes: 1 if the stripped answer equals the class name, else 0.

    In protocol released it is enough that the raw output begins with the class name, in that code's spelling.

    Raises UserError when there are no predictions.
    """
    facts = parquet_facts(predictions)
    protocol = facts["protocol"]
    said, right = ("output", _begins_with) if protocol == RELEASED else ("answer", _equals)
    columns = [*CELL, "episode", said, "target"]
    records = pq.read_table(predictions, columns=columns).to_pylist()
    if not records:
        raise UserError(
            f"{predictions} holds no predictions",
            "at least one episode",
            "check `evaluate_llm.classification`, delete the file and run again",
        )
    predictor = split_run(predictor)[0]
    baseline = predictor in BASELINE_NOTES
    note = joined(BASELINE_NOTES.get(predictor, ""), "" if predictor == "clip-prototype" else facts["tokenizer_note"])
    names = {
        "method": predictor if baseline else tokenizer,
        "tokenizer": None if predictor == "clip-prototype" else tokenizer,
        "llm": None if baseline else predictor,
    }
    records.sort(key=lambda record: (*(record[key] for key in CELL), record["episode"]))
    measurements = []
    for cell, group in groupby(records, key=lambda record: tuple(record[key] for key in CELL)):
        episodes = list(group)
        measurements.append(
            Measurement(
                keys=names | dict(zip(CELL, cell, strict=True)),
                metric="accuracy",
                protocol=protocol,
                items=[str(record["episode"]) for record in episodes],
                values=np.array([float(right(record[said].strip(), record["target"].strip())) for record in episodes]),
                note=note,
            )
        )
    return measurements


def _equals(answer: str, target: str) -> bool:
    return answer == target


def _begins_with(output: str, target: str) -> bool:
    return output.startswith(released_name(target))
