"""One whole run of the tiny experiment: values of all five tables, not just files."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.conftest import OFFLINE
from v2l.figures.figures import FIGURES
from v2l.pipeline.stages import STAGES
from v2l.tables.tables import TABLES

pytestmark = pytest.mark.pipeline
COMMON = ["experiment", "protocol", "metric", "ci_low", "ci_high", "n", "note", "published", "published_source"]


@pytest.fixture(scope="module")
def tables(tiny_run) -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(tiny_run.folder / "results" / f"{name}.csv") for name in TABLES}


@pytest.mark.parametrize("name", TABLES)
def test_each_row_is_one_measurement(tables, name):
    table = tables[name]
    metrics = sorted(set(table.metric))
    assert set(COMMON) | set(metrics) <= set(table.columns)
    assert (table[metrics].notna().sum(axis=1) == 1).all()
    assert set(table.experiment) == {"tiny"} and set(table.protocol) == {"paper"} and (table.n >= 1).all()
    with_interval = table[table.ci_low.notna()]
    value = with_interval[metrics].bfill(axis=1).iloc[:, 0]
    assert (with_interval.ci_low <= value + 1e-9).all() and (value <= with_interval.ci_high + 1e-9).all()
    assert table[table.ci_low.isna()].note.str.len().gt(0).all()


def test_table1_has_every_cell_of_the_grid_for_every_predictor(tables):
    table = tables["table1_classification"]
    assert set(table.method) == {"v2l", "v2l-subword", "lqae", "spae", "token-overlap", "clip-prototype"}
    # two tokens x two inductions, and one cell with three inner shots and a repeat
    assert table[table.method == "v2l"].groupby(["tokens", "induction", "inner_shots", "repeats"]).size().shape == (5,)
    assert table.accuracy.between(0, 1).all() and set(table.n) == {4}


def test_table2_scores_are_in_range_and_relative_scores_are_shares(tables):
    table = tables["table2_semantics"]
    assert set(table.n) == {6} and set(table[table.method != "lqae"].tokens) == {3, 5}
    assert set(table[table.method == "lqae"].tokens) == {16}, "its whole map"
    assert table.clip_score.dropna().between(0, 100).all() and table.clip_r.dropna().between(0, 1).all()
    assert table[table.method == "spae"].note.str.contains("our reading").all()
    scores = table[(table.metric == "clip_r") & (table.method == "v2l")].set_index("tokens").clip_r
    assert scores[3] >= scores[5], "the nearest words fit at least as well as further ones"


def test_table3_compares_every_tokenizer_with_the_mean_image(tables):
    table = tables["table3_reconstruction"]
    assert set(table.method) == {"v2l", "v2l-local", "vqgan", "lqae", "spae", "mean-image"}
    assert {"fid", "lpips", "psnr", "ssim"} == set(table.metric)
    assert table.fid.dropna().gt(1e-3).all(), "random features tell the images apart"
    assert set(table.n) == {16} and table.psnr.dropna().between(3, 60).all()
    assert table[table.method == "v2l"].global_tokens.eq(5).all()
    assert table[table.method == "v2l-local"].global_tokens.eq(0).all()
    compared = table[(table.method == "vqgan") & (table.metric != "fid")]
    assert len(compared) == 3 and compared.note.str.contains("difference to v2l: ", regex=False).all()
    assert table.note.str.contains("metric mode standard", regex=False).all()


def test_table4_has_five_tasks_for_every_method_and_bounds(tables):
    table = tables["table4_restoration"]
    table = table[table.task != "masked"]
    methods = {"v2l", "vqgan", "lqae", "spae", "majority-vote", "corrupted-input", "tokenizer-oracle"}
    assert set(table.method) == methods
    tasks = {"inpainting", "outpainting", "deblurring", "shift", "rotation"}
    assert all(set(rows.task) == tasks for _, rows in table.groupby("method"))
    assert set(table[table.method == "v2l"].n) == {3} and set(table[table.method == "vqgan"].n) == {2}


def test_table5_scores_captions_and_answers_of_every_predictor(tables, tiny_run):
    table = tables["table5_captioning_vqa"]
    pairs = {(method, task) for method, task in zip(table.method, table.task, strict=True)}
    assert pairs == {(method, task) for method in ("v2l", "token-overlap") for task in ("captioning", "vqa")} | {
        ("majority-vote", "vqa")
    }
    captions = table[table.task == "captioning"]
    assert set(captions.metric) == {"cider", "clip_score", "bleu_4"} and captions.n.between(2, 6).all()
    assert set(table[table.task == "vqa"].n) == {6} and table.published.isna().all()
    assert table.vqa_accuracy.dropna().between(0, 1).all() and table.clip_score.dropna().between(0, 100).all()
    copied = table[(table.method == "token-overlap") & (table.metric == "cider")]
    assert copied.cider.item() > 0, "captions of one class share words"
    folder = tiny_run.folder / "results/tiny/evaluate_llm/v2l/tiny-llama"
    for task in ("captioning", "vqa"):
        for row in pq.read_table(folder / f"{task}.parquet").to_pylist():
            assert row["image_id"] not in row["example_images"] and len(row["example_images"]) == 2


def test_table4_has_masked_restoration_with_its_bounds(tiny_run, tables):
    table = tables["table4_restoration"]
    table = table[table.task == "masked"]
    assert set(table.method) == {"v2l", "most-frequent-code", "corrupted-input", "tokenizer-oracle"}
    assert set(table.tokenizer) == {"v2l"} and set(table.n) == {4}
    assert set(table[table.method == "v2l"].llm) == {"tiny-llama"} and table[table.method != "v2l"].llm.isna().all()
    assert all(set(rows.metric) == {"fid", "lpips", "psnr"} for _, rows in table.groupby("method"))
    folder = tiny_run.folder / "results/tiny/finetune_llm/v2l/tiny-llama"
    names = {"adapter_model.safetensors", "adapter_config.json", "metrics.jsonl"}
    assert names <= {path.name for path in folder.iterdir()}
    assert not (tiny_run.folder / "work/tiny/finetune_llm").exists() or not list(
        (tiny_run.folder / "work/tiny/finetune_llm").rglob("*.pt")
    )


def test_few_shot_answers_decide_the_accuracy(tiny_run, tables):
    path = tiny_run.folder / "results/tiny/evaluate_llm/v2l/token-overlap/classification.parquet"
    predictions = pq.read_table(path).to_pandas()
    cell = predictions[(predictions.tokens == 3) & (predictions.inner_shots == 3)]
    right = (cell.answer == cell.target).mean()
    table = tables["table1_classification"]
    table = table[(table.method == "token-overlap") & (table.tokenizer == "v2l")]
    row = table[(table.tokens == 3) & (table.inner_shots == 3)]
    assert row.accuracy.item() == pytest.approx(right)
    assert all(
        query not in support for query, support in zip(predictions.query_image, predictions.support_images, strict=True)
    )


def test_restoration_keeps_the_tokens_outside_the_mask(tiny_run):
    folder = tiny_run.folder / "results/tiny"
    tokens = pq.read_table(folder / "extract_tokens/v2l/restoration.parquet").to_pandas()
    clean = tokens[tokens.corruption == "none"].set_index("image_id").local_ids
    predictions = pq.read_table(folder / "evaluate_llm/v2l/majority-vote/restoration.parquet").to_pandas()
    inpainting = predictions[predictions.task == "inpainting"]
    assert set(np.concatenate(inpainting.positions.to_list())) == {5, 6, 9, 10}
    for _, row in inpainting.iterrows():
        assert list(row.target_codes) == [clean[row.image_id][position] for position in row.positions]


def test_nothing_of_the_run_could_reach_a_network():
    """The run's Python refuses connections, so that all stages are known to work offline."""
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    refused = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(OFFLINE)}, stderr=-1)
    assert b"offline: look-up of 192.0.2.1 refused" in refused.stderr


def test_rejected_image_is_listed_and_not_fatal(tiny_run):
    rejected = pd.read_csv(tiny_run.folder / "results/tiny/index_images/rejected.csv")
    assert rejected.path.str.endswith("n00000001_999.JPEG").sum() == 1 and len(rejected) == 1


def test_views_and_figures_are_there(tiny_run):
    for table in TABLES:
        assert "|" in (tiny_run.folder / f"results/{table}.md").read_text()
        assert "\\begin{tabular}" in (tiny_run.folder / f"results/{table}.tex").read_text()
    for figure in FIGURES:
        assert (tiny_run.folder / f"results/figures/{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert (tiny_run.folder / f"results/figures/{figure}.pdf").read_bytes().startswith(b"%PDF")


def test_the_report_holds_every_table_and_figure_and_starts_nothing_else(tiny_run):
    planned = tiny_run.planned("report")
    assert planned == {"make_report": 1, "make_report_show": 1, "report": 1}
    made = tiny_run.snakemake("report", PYTHONPATH=str(OFFLINE))
    assert made.returncode == 0, made.stdout[-3000:]
    text = (tiny_run.folder / "results/report.html").read_text()
    assert all(f'id="{table}"' in text for table in TABLES) and 'id="missing"' not in text
    assert text.count("<figure class") == len(FIGURES) and len(text) < 20e6
    linked = re.findall(r'<td class="number(?: best)?"><a href="#([^"]+)">', text)
    assert len(linked) > 100 and all(f'id="{place}"' in text for place in linked)
    assert not tiny_run.planned("report")


def test_snakemake_report_shows_each_figure_with_its_caption_offline(tiny_run):
    result = tiny_run.snakemake("all_figures", "--report", "report.zip", PYTHONPATH=str(OFFLINE))
    assert result.returncode == 0, result.stdout
    with zipfile.ZipFile(tiny_run.folder / "report.zip") as report:
        page, files = report.read("report/report.html").decode(), {Path(name).name for name in report.namelist()}
    for name, figure in FIGURES.items():
        assert {f"{name}.png", f"{name}.pdf"} <= files and f"{figure.caption} Experiment" in page, name
    assert not re.search(r'(?:src|href)="https?://', page)


def test_every_stage_recorded_what_it_was_made_with(tiny_run):
    record = json.loads(
        (tiny_run.folder / "results/tiny/make_tables/table1_classification.csv.provenance.json").read_text()
    )
    assert record["stage"] == "make_tables" and record["config"]["experiment"] == "tiny"
    for path in (tiny_run.folder / "results/tiny").rglob("*.parquet"):
        assert json.loads(pq.read_schema(path).metadata[b"v2l"])["stage"] in STAGES, path


def test_minutes_per_stage_are_printed_at_the_end(tiny_run):
    assert "Minutes per stage of experiment tiny" in tiny_run.log.stdout
    assert "train_tokenizer" in tiny_run.log.stdout.split("Minutes per stage")[1]
