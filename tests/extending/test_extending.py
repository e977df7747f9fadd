"""The five things that docs/extending.md adds from outside the package, seen in the tiny experiment's tables."""

import re
from functools import reduce
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from tests import tiny
from v2l.configuration.variants import merge

pytestmark = pytest.mark.pipeline

HERE = Path(__file__).parent
NAMES = ("restoration_task", "image_metric", "tokenizer", "dataset", "cell_setting")
TEXT = Path("docs/extending.md").read_text()
TABLES = ("table1_classification", "table3_reconstruction", "table4_restoration")
TARGETS = [f"results/{table}.{format}" for table in TABLES for format in ("csv", "md")]
PICTURES = {"train": 2, "val": 7}
# What the tables need not show for these tests.
LESS = {
    "experiment": "tiny",
    "evaluate_llm": {
        "classification": {"tokenizers": ["v2l"], "baselines": ["token-overlap"]},
        "restoration": {"tokenizers": ["v2l"]},
        "masked": {"tokenizers": []},
    },
}
# Rule -> jobs, after an edit of an extension's file: neither training nor classification.
EDITED = {
    "restoration_task": {
        "extract_tokens": 1,
        "evaluate_llm": 2,
        "reconstruct_images": 1,
        "reconstruct_images_restored": 2,
        "reconstruct_images_pixels": 1,
        "score_predictions_images": 4,
        "make_tables": 1,
        "make_tables_show": 2,
    },
    "tokenizer": {
        "extract_tokens": 1,
        "reconstruct_images": 1,
        "score_predictions_images": 1,
        "make_tables": 1,
        "make_tables_show": 2,
    },
}


def blocks(language: str) -> list[str]:
    """The code blocks of the page that name this language."""
    return re.findall(rf"```{language}\n(.*?)```\n", TEXT, re.DOTALL)


def documented() -> dict:
    """The configuration that the page writes for all five together."""
    parts = [yaml.safe_load(block) for block in blocks("yaml")]
    listed = [path for part in parts for path in part["extensions"]]
    return reduce(merge, parts) | {"extensions": listed}


def write_pictures(folder: Path) -> None:
    """Pictures with a list: what the csv kind of data set reads."""
    folder.mkdir()
    lines = ["file,label,split"]
    for split, count in PICTURES.items():
        for number in range(count):
            name = f"{split}{number}.png"
            tiny.picture(number % 4, 500 + number).save(folder / name)
            lines.append(f"{name},class {number % 4},{split}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def extended(tiny_run, tmp_path_factory):
    """The tiny run, gone on with the five extensions."""
    project = tiny_run.copy(tmp_path_factory.mktemp("extended"))
    (project.folder / "extensions").mkdir()
    for name in NAMES:
        (project.folder / "extensions" / f"{name}.py").write_text((HERE / f"{name}.py").read_text())
    write_pictures(project.folder / "pictures")
    (project.folder / "config/config.yaml").write_text(yaml.safe_dump(merge(documented(), LESS)))
    project.log = project.snakemake(*TARGETS)
    assert project.log.returncode == 0, project.log.stdout[-6000:]
    return project


@pytest.fixture(scope="module")
def tables(extended) -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(extended.folder / "results" / f"{name}.csv") for name in TABLES}


def markdown_header(project, table: str) -> list[str]:
    lines = (project.folder / "results" / f"{table}.md").read_text().splitlines()
    return [cell.strip() for cell in next(line for line in lines if line.startswith("|")).strip("|").split("|")]


def test_the_page_shows_these_very_files():
    assert blocks("python") == [(HERE / f"{name}.py").read_text() for name in NAMES]
    assert documented()["extensions"] == [f"extensions/{name}.py" for name in NAMES]


def test_restoration_task_is_in_table_4_for_every_method_and_bound(extended, tables):
    rows = tables["table4_restoration"].query("task == 'salt-and-pepper'")
    methods = {"v2l", "corrupted-input", "tokenizer-oracle"}
    assert methods <= set(rows.method) and set(rows.n) == {3}
    psnr = tables["table4_restoration"].query("metric == 'psnr'").set_index(["method", "task"]).psnr
    assert 8 < psnr["corrupted-input", "salt-and-pepper"] < 20, "a tenth of the pixels are off by about half the range"
    assert psnr["tokenizer-oracle", "salt-and-pepper"] == psnr["tokenizer-oracle", "inpainting"]
    assert "**salt-and-pepper**" in (extended.folder / "results/table4_restoration.md").read_text()


def test_image_metric_is_a_column_of_tables_3_and_4(extended, tables):
    for table in TABLES[1:]:
        measured = tables[table].query("metric == 'ms_ssim'")
        assert set(measured.method) == set(tables[table].method)
        assert measured.ms_ssim.between(-1, 1).all() and (measured.ci_low <= measured.ms_ssim).all()
        assert any(cell.endswith("MS-SSIM") for cell in markdown_header(extended, table))
    restored = tables["table4_restoration"].query("metric == 'ms_ssim'").set_index(["method", "task"]).ms_ssim
    assert restored["tokenizer-oracle", "salt-and-pepper"] == restored["tokenizer-oracle", "inpainting"]
    assert restored["corrupted-input", "salt-and-pepper"] != restored["corrupted-input", "inpainting"]


def test_tokenizer_is_trained_and_stands_in_table_3(extended, tables):
    lines = (extended.folder / "results/tiny/train_tokenizer/palette.metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6
    rows = tables["table3_reconstruction"].query("method == 'palette'")
    assert set(rows.metric) == {"fid", "lpips", "psnr", "ssim", "ms_ssim"} and (rows.global_tokens == 0).all()
    psnr = tables["table3_reconstruction"].query("metric == 'psnr'").set_index("method").psnr
    assert psnr["palette"] > psnr["mean-image"], "its patches have the pictures' colours"
    tokens = pq.read_table(extended.folder / "results/tiny/extract_tokens/palette/reconstruction.parquet")
    ids = tokens["local_ids"].to_pylist()
    assert {len(row) for row in ids} == {16} and 1 < len({code for row in ids for code in row}) <= 32


def test_kind_of_data_set_gives_table_3_its_images(tables):
    assert set(tables["table3_reconstruction"].n) == {PICTURES["val"]}


def test_setting_is_a_column_of_table_1_and_changes_prompts(extended, tables):
    table = tables["table1_classification"]
    assert set(table.example_order) == {"given", "reversed"}
    rows = table[table.method == "v2l"].drop(columns=["accuracy", "ci_low", "ci_high"])
    pairs = rows.groupby("tokens", sort=True)
    assert list(pairs.groups) == [3, 5]
    for _, pair in pairs:
        assert len(pair) == 2 and (pair.drop(columns="example_order").nunique() <= 1).all()
    assert "example order" in markdown_header(extended, "table1_classification")
    path = extended.folder / "results/tiny/evaluate_llm/v2l/tiny-llama/classification.parquet"
    asked = pq.read_table(path).to_pandas().set_index(["tokens", "episode", "example_order"]).prompt_ids
    for tokens, episode in {place[:2] for place in asked.index}:
        given, turned = list(asked[tokens, episode, "given"]), list(asked[tokens, episode, "reversed"])
        assert given != turned and sorted(given) == sorted(turned), "the same examples in another order"


def test_without_extensions_the_tables_have_none_of_it(tiny_run):
    for name in TABLES:
        table = pd.read_csv(tiny_run.folder / "results" / f"{name}.csv")
        assert not {"ms_ssim", "example_order"} & set(table.columns)
        assert "palette" not in set(table.method) and "salt-and-pepper" not in set(table.get("task", []))


def test_records_name_the_extensions(extended, tiny_run):
    place = "results/tiny/make_tables/table1_classification.csv.provenance.json"
    record = yaml.safe_load((extended.folder / place).read_text())
    assert [file["path"] for file in record["extensions"]] == documented()["extensions"]
    assert "extensions" not in yaml.safe_load((tiny_run.folder / place).read_text())


def test_edit_of_an_extension_reruns_the_jobs_that_use_it_alone(extended):
    assert extended.planned(*TARGETS) == {}
    for name, jobs in EDITED.items():
        path = extended.folder / "extensions" / f"{name}.py"
        original = path.read_text()
        try:
            path.write_text(original + "\n# an edit\n")
            planned = extended.planned(*TARGETS)
        finally:
            path.write_text(original)
        assert planned == jobs
