"""Few-shot classification accuracy from an LLM's answers (paper section 4.2, table 1)."""

from itertools import groupby

import numpy as np

from v2l.configuration.cell_settings import CELL_SETTINGS
from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import RELEASED, Source
from v2l.data.text_files import normal_form
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata, read_parquet
from v2l.llm.prompts import released_name
from v2l.metrics.rows import Measurement
from v2l.metrics.share import Share
from v2l.metrics.source_names import names_of, note_of

CELL = ("ways", "tokens", "inner_shots", "repeats", "induction")


def measure_accuracy(config: StageConfig, source: Source, inputs: Inputs, share: Share) -> list[Measurement]:
    """`accuracy` of every cell of the grid, over its episodes: 1 if the stripped answer equals the class name, else 0.

    In protocol released it is enough that the raw output begins with the class name, in that code's spelling.

    Inputs: predictions. Raises UserError when there are none.
    """
    predictions, cell_keys = inputs["predictions"], (*CELL, *CELL_SETTINGS)
    said, right = ("output", _begins_with) if source.protocol == RELEASED else ("answer", _equals)
    columns = [*cell_keys, "episode", said, "target"]
    records = read_parquet(predictions, columns=columns).to_pylist()
    if not records:
        raise UserError(
            f"{predictions} holds no predictions",
            "at least one episode",
            "check `evaluate_llm.classification`, delete the file and run again",
        )
    names = names_of(config.job["tokenizer"], source)
    note = note_of(source, parquet_metadata(predictions)["tokenizer_note"])
    records.sort(key=lambda record: (*(record[key] for key in cell_keys), record["episode"]))
    measurements = []
    for cell, group in groupby(records, key=lambda record: tuple(record[key] for key in cell_keys)):
        episodes = list(group)
        measurements.append(
            Measurement(
                keys=names | dict(zip(cell_keys, cell, strict=True)),
                metric="accuracy",
                protocol=source.protocol,
                items=[str(record["episode"]) for record in episodes],
                values=np.array([float(right(record[said].strip(), record["target"].strip())) for record in episodes]),
                note=note,
            )
        )
    return measurements


def _equals(answer: str, target: str) -> bool:
    return normal_form(answer) == normal_form(target)


def _begins_with(output: str, target: str) -> bool:
    return normal_form(output).startswith(normal_form(released_name(target)))
