"""The cells of table 1 with settings that extensions add: columns, combinations, and what a prompt shows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.test_evaluate_llm import SETTINGS, entry, inputs, predictions, stage  # noqa: F401
from tests.token_experiment import experiment
from v2l.configuration.cell_settings import CELL_SETTINGS, CellSetting
from v2l.configuration.evaluation import Grid
from v2l.configuration.extensions import VARIABLE, load_extensions
from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.evaluate_llm import run
from v2l.io.job_files import Inputs
from v2l.llm.language_model import load_llm
from v2l.pipeline.job_code import used_things
from v2l.runtime import device
from v2l.tasks import classification
from v2l.tasks.cells import Cell, Shown, cells_of

EXTENSION = """
from v2l.configuration.cell_settings import CELL_SETTINGS, CellSetting

CELL_SETTINGS.add("order", CellSetting("given", "tests.test_cells:ordered"))
"""


def ordered(value: str, shown: Shown) -> Shown:
    """The examples as they are given, or reversed."""
    return shown.with_examples(shown.examples[::-1]) if value == "reversed" else shown


def marked(value: bool, shown: Shown) -> Shown:
    """The first example's name marked."""
    words, name = shown.examples[0]
    return shown.with_examples([(words, f"{name}!"), *shown.examples[1:]]) if value else shown


@pytest.fixture
def further(registries) -> None:
    """Two settings of an extension."""
    CELL_SETTINGS.add("order", CellSetting("given", "tests.test_cells:ordered"))
    CELL_SETTINGS.add("mark", CellSetting(False, "tests.test_cells:marked"))


def test_without_extensions_a_cell_has_the_papers_settings():
    (cell,) = cells_of([Grid(ways=[2], tokens=[5])])
    assert cell == Cell(2, 5, True, 1, 0) and list(cell.columns()) == list(SETTINGS)


def test_every_combination_is_a_cell_and_what_a_grid_does_not_name_has_its_default(further):
    blocks = [{"ways": [2, 3], "tokens": [5], "order": ["reversed", "given"], "mark": [True, False]}]
    blocks += [{"ways": [3], "tokens": [5]}, {"ways": [4], "tokens": [5], "mark": [True]}]
    cells = cells_of([Grid.model_validate(block) for block in blocks])
    further_values = [("reversed", True), ("reversed", False), ("given", True), ("given", False)]
    expected = [(ways, *values) for ways in (2, 3) for values in further_values]  # the second block's stand there too
    assert [(cell.ways, *cell.further) for cell in cells] == [*expected, (4, "given", True)]
    assert cells[0].columns() == dict(zip(SETTINGS, (2, 5, True, 1, 0), strict=True)) | {
        "order": "reversed",
        "mark": True,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"orders": ["given"]}, r"unknown key orders; did you mean `order`\?"),
        ({"order": "given"}, "order must be a list of str"),
        ({"mark": [0]}, "mark must be a list of bool"),
    ],
)
def test_a_setting_that_is_not_known_or_of_another_type_is_told(further, settings, message):
    grid = {"ways": [2], "tokens": [5]} | settings
    with pytest.raises(UserError, match=message):
        experiment(evaluate_llm={"classification": {"grid": [grid]}})


def test_a_job_depends_on_the_code_of_the_settings(further):
    values = {"tokenizer": "v2l", "predictor": "token-overlap", "task": "classification"}
    used = used_things(experiment(), "evaluate_llm", values)
    assert [thing.implementation for thing in used[1:]] == ["tests.test_cells:ordered", "tests.test_cells:marked"]


def test_predictions_have_the_settings_as_columns_and_their_functions_change_the_prompt(inputs, tmp_path, further):  # noqa: F811
    grid = [{"ways": [2], "tokens": [2], "order": ["given", "reversed"], "mark": [False, True]}]
    path = tmp_path / "p.parquet"
    rows = predictions(inputs, path, "classification", classification={"grid": grid})
    columns = [*classification.SCHEMA, ("order", pa.string()), ("mark", pa.bool_())]
    assert pq.read_schema(path).remove_metadata() == pa.schema(columns)
    tokenizer = load_llm("tiny", entry(inputs["llm"]), device())[1]
    by_cell = {(row["order"], row["mark"], row["episode"]): row for row in rows}
    assert len(by_cell) == len(rows) == 4 * 3
    for episode in range(3):
        asked = {cell: by_cell[*cell, episode] for cell in {key[:2] for key in by_cell}}
        assert len({(row["query_image"], *row["support_images"], row["target"]) for row in asked.values()}) == 1
        prompts = {cell: tokenizer.decode(row["prompt_ids"]).split("###") for cell, row in asked.items()}
        head, first, second, question = prompts["given", False]
        assert prompts["reversed", False] == [head, second, first, question]
        assert prompts["given", True] == [head, f"{first.rstrip()}!\n", second, question]
        # settings act in the order in which they were added
        assert prompts["reversed", True] == [head, f"{second.rstrip()}!\n", first, question]


def test_processes_that_share_the_work_know_the_settings(inputs, tmp_path, registries, monkeypatch):  # noqa: F811
    (tmp_path / "order.py").write_text(EXTENSION)
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "order.py"))
    load_extensions([str(tmp_path / "order.py")])
    grid = [{"ways": [2], "tokens": [2], "order": ["given", "reversed"]}]
    config = stage(inputs, "classification", "token-overlap", classification={"grid": grid})
    files = Inputs({name: inputs[name] for name in ("tokens", "vocabulary", "words", "manifest")})
    run(config, files, {"predictions": tmp_path / "whole.parquet"})
    shared = StageConfig("evaluate_llm", config.data, {"shards": "2"})
    run(shared, files, {"predictions": tmp_path / "shared.parquet"})
    assert (tmp_path / "shared.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert set(pq.read_table(tmp_path / "shared.parquet")["order"].to_pylist()) == {"given", "reversed"}
