"""What stands behind the numbers: each run's answers and the scores of its items, cell by cell."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyarrow.parquet import ParquetFile

from v2l.configuration.cell_settings import CELL_SETTINGS
from v2l.configuration.known_metrics import metric
from v2l.configuration.slices import StageConfig
from v2l.io.storage import open_parquet, read_parquet
from v2l.metrics.accuracy import CELL
from v2l.report.embedded_pictures import DecodedPictures
from v2l.report.evidence import Evidence, anchor
from v2l.report.prompt_texts import PromptTexts
from v2l.tables.views import number_text, setting_text

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """One prompt and what came of it. `verdict` is in words; `is_right` is None where there is no right or wrong."""

    item: str
    asked: str
    prompt: str
    output: str
    answer: str
    expected: str
    verdict: str
    is_right: bool | None = None


@dataclass(frozen=True)
class ScoredItem:
    """An item's scores, with the picture (a data URI) if the item is one that was made."""

    item: str
    scores: list[str]
    image: str


@dataclass
class AnsweredCell:
    """The answers and item scores behind one or several numbers: the first ones, of `answer_count` and `item_count`.

    Where each item has one answer, its score stands with it (`verdict`), and `has_own_scores` is False.
    """

    place: str
    title: str
    answers: list[Answer] = field(default_factory=list)
    answer_count: int = 0
    scores: list[ScoredItem] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    item_count: int = 0

    @property
    def has_own_scores(self) -> bool:
        """Whether scores say more than the answers do."""
        return bool(self.scores) and (not self.answers or any(found.image for found in self.scores))


@dataclass(frozen=True)
class AnsweredRun:
    """A run's cells; `records` are the places of the records of its files, by stage."""

    place: str
    title: str
    cells: list[AnsweredCell]
    records: list[tuple[str, str]]


def answered_runs(
    config: StageConfig, items: Sequence[Evidence], predictions: Sequence[Evidence], images: Sequence[DecodedPictures]
) -> list[AnsweredRun]:
    """Every run that was scored or that answered, in the order of the tables."""
    shown = config.make_report.items
    decoded = {found.run: found for found in images}
    asked = {found.run: found for found in predictions}
    scored = {found.run: found for found in items}
    runs = []
    for run in dict.fromkeys([*scored, *asked]):
        cells: dict[str, AnsweredCell] = {}
        values = _add_scores(cells, scored[run], shown, decoded.get(run)) if run in scored else {}
        if run in asked:
            _add_answers(cells, asked[run], values, shown, config.make_report.prompt_characters)
        files = [table[run] for table in (asked, scored) if run in table]
        who = run.source.predictor or run.tokenizer
        protocol = f", protocol {run.source.protocol}" if run.source.predictor else ""
        title = f"{run.source.task}: {who}" + (f" on {run.tokenizer}" if run.source.predictor else "") + protocol
        records = [(found.record["stage"], anchor("record", found.path)) for found in files]
        runs.append(AnsweredRun(anchor("run", run), title, list(cells.values()), records))
    return runs


def places(runs: Iterable[AnsweredRun]) -> list[str]:
    """Where the page shows what stands behind a number."""
    return [cell.place for run in runs for cell in run.cells]


def place_of(evidence: Evidence, row: Row) -> str:
    """The place in the page of what stands behind a row of scores or predictions: a setting of table 1, or a task."""
    return anchor("cell", evidence.run, *(row[name] for name in _cell_keys(evidence, row)))


def _cell_keys(evidence: Evidence, row: Row) -> list[str]:
    keys = {"classification": (*CELL, *CELL_SETTINGS), "restoration": ("task",), "semantics": ("tokens",)}
    return [name for name in keys.get(evidence.run.source.task, ()) if name in row]


def _cell(cells: dict[str, AnsweredCell], evidence: Evidence, row: Row) -> AnsweredCell:
    place = place_of(evidence, row)
    title = ", ".join(setting_text(name, row[name]) for name in _cell_keys(evidence, row))
    return cells.setdefault(place, AnsweredCell(place, title or "all items"))


def _add_scores(
    cells: dict[str, AnsweredCell], evidence: Evidence, shown: int, images: DecodedPictures | None
) -> dict[tuple[str, str], dict[str, float]]:
    """Put the first items' scores into their cells; returns all of them, (place, item) -> metric -> value."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    tasks: dict[str, str] = {}
    for row in read_parquet(evidence.path).to_pylist():
        cell = _cell(cells, evidence, row)
        values.setdefault((cell.place, row["item"]), {})[row["metric"]] = row["value"]
        tasks[cell.place] = row.get("task") or evidence.run.source.task
    for (place, item), measured in values.items():
        cell = cells[place]
        cell.item_count += 1
        cell.metrics = cell.metrics or [metric(name).label for name in measured]
        if len(cell.scores) < shown:
            image = images.of(tasks[place], item) if images else ""
            cell.scores.append(ScoredItem(item, [number_text(value, name) for name, value in measured.items()], image))
    return values


def _add_answers(
    cells: dict[str, AnsweredCell], evidence: Evidence, values: Mapping, shown: int, characters: int
) -> None:
    texts = PromptTexts(evidence, characters)
    file = open_parquet(evidence.path)
    keys = [name for name in (*CELL, *CELL_SETTINGS, "task") if name in file.schema_arrow.names]
    for group in range(file.num_row_groups):  # of millions of prompts few are shown
        chosen: list[int] = []
        for number, row in enumerate(_key_rows(file, group, keys)):
            cell = _cell(cells, evidence, row)
            cell.answer_count += 1
            if cell.answer_count <= shown:
                chosen.append(number)
        for row in file.read_row_group(group).take(chosen).to_pylist() if chosen else ():
            cell = _cell(cells, evidence, row)
            item = str(row.get("episode", row.get("question_id", row.get("image_id", ""))))
            cell.answers.append(_answer(row, item, values.get((cell.place, item), {}), texts))


def _key_rows(file: ParquetFile, group: int, keys: list[str]) -> list[dict[str, Any]]:
    if keys:
        return file.read_row_group(group, columns=keys).to_pylist()
    return [{}] * file.metadata.row_group(group).num_rows


def _answer(row: Row, item: str, scores: Mapping[str, float], texts: PromptTexts) -> Answer:
    prompt = texts.text(row["prompt_ids"]) or "no language model was asked"
    if "target_codes" in row:
        codes, wanted = row["predicted_codes"], row["target_codes"]
        right = sum(code == target for code, target in zip(codes, wanted, strict=False))
        output = texts.text(row["output_ids"]) or " ".join(map(str, codes))
        asked = f"tokens {', '.join(map(str, row['positions']))} of {row['image_id']}"
        expected = " ".join(map(str, wanted))
        verdict = f"{right} of {len(wanted)} tokens right"
        return Answer(item, asked, prompt, output, " ".join(map(str, codes)), expected, verdict, right == len(wanted))
    said = ", ".join(f"{metric(name).label} {number_text(value, name)}" for name, value in scores.items())
    known = Answer(item, "", prompt, row["output"], row["answer"], "", said)
    if "question" in row:
        is_right = scores["vqa_accuracy"] > 0 if "vqa_accuracy" in scores else None
        return replace(
            known, asked=f"{row['question']} ({row['image_id']})", expected=_either(row["answers"]), is_right=is_right
        )
    if "references" in row:
        return replace(known, asked=f"a caption of {row['image_id']}", expected=_either(row["references"]))
    is_right = bool(scores["accuracy"]) if "accuracy" in scores else None
    verdict = {True: "right", False: "wrong", None: "not scored"}[is_right]
    asked = f"which of {', '.join(row['class_names'])} is {row['query_image']}?"
    return replace(known, asked=asked, expected=row["target"], is_right=is_right, verdict=verdict)


def _either(texts: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(texts))
