"""Tables from made-up metrics: the long CSV, the two views, published numbers, and damaged input."""

import csv
import json
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from v2l.configuration.cell_settings import CELL_SETTINGS, CellSetting
from v2l.configuration.known_metrics import metric
from v2l.configuration.metrics import IMAGE_METRICS, ImageMetric
from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.make_tables import run
from v2l.tables.published import COLUMNS, Published, selectors
from v2l.tables.tables import TABLES

SHIPPED = Path(__file__).parents[1] / "config" / "published.csv"


def row(table, metric, value, note="", n=50, **keys):
    cell = {key: keys.get(key) for key in TABLES[table].key_columns}
    low, high = (None, None) if value is None else (value - 0.125, value + 0.125)
    return cell | {
        "metric": metric,
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "n": n,
        "protocol": "paper",
        "note": note,
    }


def accuracy(value, ways, setting, method="v2l", llm="llm", **changes):
    induction, inner_shots, repeats = setting
    keys = {"method": method, "tokenizer": "v2l", "llm": llm, "tokens": 5, "ways": ways} | changes
    return row(
        "table1_classification",
        "accuracy",
        value,
        induction=induction,
        inner_shots=inner_shots,
        repeats=repeats,
        **keys,
    )


def make(folder, table, rows, published=SHIPPED, experiment="demo", decimals=2):
    """Run the stage with each row in a metrics file of its own, last row first; the outputs."""
    metrics = []
    for number, found in enumerate(reversed(rows)):
        path = folder / f"{number}.json"
        path.write_text(json.dumps({"rows": [found]}))
        metrics.append(path)
    data = {"experiment": experiment, "make_tables": {"decimals": decimals}, "job": {"table": table}}
    outputs = {"csv": folder / "table.csv", "markdown": folder / "table.md", "latex": folder / "table.tex"}
    run(StageConfig("make_tables", data), Inputs({"metrics": metrics, "published": published}), outputs)
    return outputs


def records(outputs):
    with open(outputs["csv"], newline="") as handle:
        return list(csv.DictReader(handle))


PAPER_SETTINGS = [
    *[(False, 1, 0), (True, 1, 0), (True, 3, 0), (True, 5, 0)],
    *[(True, 1, 1), (True, 1, 3), (True, 1, 5)],
]


def test_csv_of_table_1_holds_one_measurement_a_row(tmp_path):
    rows = [
        accuracy(0.7300000000000001, 2, (True, 1, 0)),
        accuracy(0.5, 2, (True, 1, 0), "token-overlap", None, note="no language model"),
    ]
    outputs = make(tmp_path, "table1_classification", rows)
    assert outputs["csv"].read_text() == (
        "experiment,protocol,method,tokenizer,llm,tokens,ways,induction,inner_shots,repeats,metric,accuracy,"
        "ci_low,ci_high,n,note,published,published_source\n"
        "demo,paper,v2l,v2l,llm,5,2,True,1,0,accuracy,0.7300000000000001,0.6050000000000001,0.8550000000000001,50,,,\n"
        "demo,paper,token-overlap,v2l,,5,2,True,1,0,accuracy,0.5,0.375,0.625,50,no language model,,\n"
    )


def test_views_of_table_1_have_the_papers_seven_columns(tmp_path):
    rows = [accuracy(index / 8, 2, setting) for index, setting in enumerate(PAPER_SETTINGS)]
    rows += [accuracy(0.25, 5, (True, 1, 0)), accuracy(0.75, 5, (False, 3, 0))]
    outputs = make(tmp_path, "table1_classification", rows)
    lines = outputs["markdown"].read_text().splitlines()
    assert (
        lines[0]
        == "Table 1. Few-shot classification accuracy. Experiment demo, protocol paper, n = 50 episodes per value."
    )
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert cells[0][:6] == ["ways", "method", "tokenizer", "llm", "tokens", "induction no, inner shots 1, repeats 0"]
    assert cells[0][-2:] == ["average", "induction no, inner shots 3, repeats 0"]
    assert cells[2] == [
        "2",
        "v2l",
        "v2l",
        "llm",
        "5",
        "0.00",
        "0.12",
        "0.25",
        "0.38",
        "0.50",
        "0.62",
        "0.75",
        "0.38",
        "–",
    ]
    assert cells[3] == ["5", "v2l", "v2l", "llm", "5", "–", "0.25", "–", "–", "–", "–", "–", "–", "0.75"]
    latex = outputs["latex"].read_text()
    assert r"\multicolumn{6}{c}{induction yes}" in latex and r"\label{tab:table1_classification}" in latex
    assert "5 & v2l & v2l & llm & 5 & -- & 0.25 & -- & -- & -- & -- & -- & -- & 0.75 \\\\" in latex


def test_tables_2_and_3_as_markdown(tmp_path):
    table = "table2_semantics"
    keys = {"vocabulary_size": 900, "tokens": 5, "n": 60}
    rows = [
        row(table, "clip_score", 31.25, method="spae", **keys),
        row(table, "clip_score", 41.25, method="v2l", **keys),
        row(table, "clip_r", 0.875, "our reading", method="v2l", **keys),
    ]
    assert make(tmp_path, table, rows)["markdown"].read_text() == (
        "Table 2. Semantic quality of the global tokens. Experiment demo, protocol paper, n = 60 images per value.\n\n"
        "| method   | vocabulary size   | tokens   |   CLIP |   CLIP-R |\n"
        "|:---------|:------------------|:---------|-------:|---------:|\n"
        "| v2l      | 900               | 5        |  41.25 |     0.88 |\n"
        "| spae     | 900               | 5        |  31.25 |        – |\n"
        "\n- v2l: our reading\n"
    )
    table = "table3_reconstruction"
    rows = [
        row(table, "psnr", 11.0, method="mean-image"),
        row(table, "fd_efficientnet_lite0", 0.5, "no interval", method="mean-image"),
        row(table, "fd_efficientnet_lite0", 0.25, "no interval", method="v2l", global_tokens=21),
        row(table, "ssim", None, method="v2l", global_tokens=21, n=0),
    ]
    assert make(tmp_path, table, rows)["markdown"].read_text() == (
        "Table 3. Image reconstruction. Experiment demo, protocol paper, n = 0 to 50 images per value.\n\n"
        "| method     | global tokens   |   FD (EfficientNet-Lite0) |   LPIPS |   PSNR |   SSIM |\n"
        "|:-----------|:----------------|--------------------------:|--------:|-------:|-------:|\n"
        "| v2l        | 21              |                      0.25 |       – |      – |      – |\n"
        "| mean-image | –               |                      0.50 |       – |  11.00 |      – |\n"
        "\n- no interval\n"
    )


def test_table_4_shows_majority_vote_below_each_language_model(tmp_path):
    table = "table4_restoration"
    methods = [
        *[
            ("v2l", "v2l", "llm-2-7b"),
            ("v2l", "v2l", "llm-2-13b"),
            ("majority-vote", "v2l", None),
            ("tokenizer-oracle", "v2l", None),
        ],
        *[("vqgan", "vqgan", "llm-2-7b"), ("majority-vote", "vqgan", None), ("corrupted-input", None, None)],
    ]
    rows = []
    for index, (method, tokenizer, llm) in enumerate(methods):
        for task in ("rotation", "inpainting"):
            for name in ("psnr", "fid"):
                rows.append(row(table, name, index / 4, method=method, tokenizer=tokenizer, llm=llm, task=task))
    outputs = make(tmp_path, table, rows[::-1])
    found = records(outputs)
    assert list(dict.fromkeys((item["method"], item["tokenizer"], item["llm"]) for item in found)) == [
        tuple(name or "" for name in names) for names in methods
    ]
    assert [(item["task"], item["metric"], item["fid"], item["psnr"]) for item in found[:4]] == [
        ("inpainting", "fid", "0.0", ""),
        ("inpainting", "psnr", "", "0.0"),
        ("rotation", "fid", "0.0", ""),
        ("rotation", "psnr", "", "0.0"),
    ]
    header = outputs["markdown"].read_text().splitlines()[2]
    expected = [f"{task}, {label}" for task in ("inpainting", "rotation") for label in ("FID", "LPIPS", "PSNR")]
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["method", "tokenizer", "llm", *expected]
    assert r"\multicolumn{3}{c}{inpainting}" in outputs["latex"].read_text()


def test_latex_escapes_names(tmp_path):
    rows = [accuracy(0.5, 2, (True, 1, 0), llm="my_llm", note="100% ours & all")]
    latex = make(tmp_path, "table1_classification", rows, experiment="my_run")["latex"].read_text()
    assert "Experiment my\\_run" in latex and "100\\% ours \\& all." in latex and "my\\_llm" in latex


def test_every_output_has_its_provenance_beside_it(tmp_path):
    outputs = make(tmp_path, "table1_classification", [accuracy(0.5, 2, (True, 1, 0))])
    for path in outputs.values():
        record = json.loads(path.with_name(path.name + ".provenance.json").read_text())
        assert record["config"] == {
            "experiment": "demo",
            "make_tables": {"decimals": 2},
            "job": {"table": "table1_classification"},
        }
        assert set(record["inputs"]) == {"metrics", "published"}


def test_published_numbers_stand_beside_the_papers_experiment_only(tmp_path):
    rows = [accuracy(0.5, 2, (True, 3, 0)), accuracy(0.5, 2, (True, 1, 0)), accuracy(0.5, 5, (True, 3, 0))]
    rows.append(accuracy(0.5, 2, (True, 3, 0), "token-overlap", None))
    found = records(make(tmp_path, "table1_classification", rows, experiment="paper"))
    assert [item["published"] for item in found] == ["", "0.912", "", ""]
    assert found[1]["published_source"].startswith("secondary") and "issue 2" in found[1]["published_source"]
    assert not any(item["published"] for item in records(make(tmp_path, "table1_classification", rows)))
    table = "table3_reconstruction"
    rows = [
        row(table, metric, 1.0, method=method) for metric in ("fid", "psnr") for method in ("v2l", "v2l-local", "vqgan")
    ]
    found = records(make(tmp_path, table, rows, experiment="paper"))
    numbers = {(item["method"], item["metric"]): item["published"] for item in found if item["published"]}
    assert numbers == {("v2l", "fid"): "3.41", ("vqgan", "fid"): "5.48"}


def test_shipped_numbers_are_the_sourced_ones_and_all_secondary():
    entries = Published(SHIPPED).entries
    assert {(entry["table"], entry["published"]) for entry in entries} == {
        ("table1_classification", "0.912"),
        ("table3_reconstruction", "3.41"),
        ("table3_reconstruction", "5.48"),
    }
    assert all(
        entry["published_source"].startswith("secondary") and entry["experiment"] == "paper" for entry in entries
    )


def write_published(path, *lines, columns=None):
    with open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, columns or [*selectors(), *COLUMNS])
        writer.writeheader()
        writer.writerows(lines)
    return path


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"published": "91.2 %", "published_source": "here"}], "line 2: `published` is '91.2 %'"),
        ([{"published": "1", "published_source": "here"}, {"published": "2"}], "line 3: `published_source` is empty"),
        ([{"published": "1", "published_source": name} for name in "ab"], "two numbers for one row: 'a' and 'b'"),
    ],
)
def test_wrong_published_numbers_are_named(tmp_path, entries, message):
    path = write_published(tmp_path / "published.csv", *entries)
    with pytest.raises(UserError, match=message):
        make(tmp_path, "table1_classification", [accuracy(0.5, 2, (True, 1, 0))], published=path)
    assert not list(tmp_path.glob("table.*"))


def test_wrong_published_columns_are_named(tmp_path):
    path = write_published(tmp_path / "published.csv", columns=("method", "published"))
    with pytest.raises(UserError, match="has the columns"):
        Published(path)


def test_wrong_metrics_are_named(tmp_path):
    table, good = "table1_classification", accuracy(0.5, 2, (True, 1, 0))
    with pytest.raises(UserError, match=r"1.json has a row that was there already: .*'ways': 2"):
        make(tmp_path, table, [good, good | {"value": 0.75}])
    with pytest.raises(UserError, match="0.json has no row of table1_classification, but lpips. .* metrics of table1"):
        make(tmp_path, table, [row("table3_reconstruction", "lpips", 0.5, method="v2l")])
    with pytest.raises(UserError, match=r"0.json has a row .* with metric 'accuracy'. Expected: columns"):
        make(tmp_path, table, [{name: value for name, value in good.items() if name != "method"}])
    for name, hint in [("acuracy", "did you mean `accuracy`"), ("LPIPS-VGG", "known here: accuracy, clip_score")]:
        with pytest.raises(UserError, match=f"0.json has a row .* with metric '{name}', which is not known.*{hint}"):
            make(tmp_path, table, [good | {"metric": name}])
    with pytest.raises(UserError, match="table 'table1_clasification' is not known.*did you mean `table1_classif"):
        run(StageConfig("make_tables", {"job": {"table": "table1_clasification"}}), Inputs({}), {})
    with pytest.raises(UserError, match="table1_classification has no rows"):
        make(tmp_path, table, [])
    damaged = tmp_path / "damaged.json"
    for text in ("{", "[]", "{}", '{"rows": 5}', '{"rows": [5]}'):
        damaged.write_text(text)
        data = {"experiment": "demo", "make_tables": {}, "job": {"table": table}}
        with pytest.raises(UserError, match="damaged.json cannot be (used|read as a metrics file)"):
            run(
                StageConfig("make_tables", data),
                Inputs({"metrics": damaged, "published": SHIPPED}),
                {"csv": tmp_path / "table.csv"},
            )
    assert not list(tmp_path.glob("table.*"))


def test_rows_and_columns_that_a_table_does_not_show_are_left_out(tmp_path):
    table, keys = "table4_restoration", {"method": "v2l", "tokenizer": "v2l", "llm": "llm", "task": "shift"}
    rows = [row(table, name, 0.5, **keys) for name in ("ssim", "psnr", "lpips")]
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"rows": [found | {"global_tokens": 5} for found in rows]}))
    data = {"experiment": "demo", "make_tables": {"decimals": 1}, "job": {"table": table}}
    outputs = {"csv": tmp_path / "table.csv", "markdown": tmp_path / "table.md", "latex": tmp_path / "table.tex"}
    run(StageConfig("make_tables", data), Inputs({"metrics": path, "published": SHIPPED}), outputs)
    assert [item["metric"] for item in records(outputs)] == ["lpips", "psnr"]
    assert not {"ssim", "global_tokens"} & set(records(outputs)[0])


def test_metrics_of_table_5_are_in_its_own_order(tmp_path):
    table, keys = "table5_captioning_vqa", {"method": "v2l", "tokenizer": "v2l", "llm": "llm"}
    rows = [row(table, name, 0.5, task="captioning", **keys) for name in ("bleu_4", "clip_score", "cider")]
    outputs = make(tmp_path, table, [*rows, row(table, "vqa_accuracy", 0.5, task="vqa", **keys)])
    order = ["vqa_accuracy", "cider", "clip_score", "bleu_4"]
    assert [name for name in records(outputs)[0] if name in order] == order
    assert [item["metric"] for item in records(outputs)] == [*order[1:], "vqa_accuracy"]


def test_a_second_metric_in_table_1_stands_beside_the_first(tmp_path, monkeypatch):
    table = TABLES["table1_classification"]
    monkeypatch.setitem(TABLES._things, table.name, replace(table, metrics=("accuracy", "clip_r"), notes=("Ours",)))
    rows = [accuracy(index / 8, 2, setting) for index, setting in enumerate(PAPER_SETTINGS)]
    rows += [found | {"metric": "clip_r", "value": 0.5} for found in rows]
    outputs = make(tmp_path, table.name, rows)
    lines = outputs["markdown"].read_text().splitlines()
    header, _, cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:5])
    first = "induction no, inner shots 1, repeats 0"
    assert header[5:7] == [f"{first}, accuracy", f"{first}, CLIP-R"]
    assert header[-2:] == ["average, accuracy", "average, CLIP-R"] and len(header) == 5 + 16
    assert cells[5:9] == ["0.00", "0.50", "0.12", "0.50"] and cells[-2:] == ["0.38", "0.50"]
    assert lines[-1] == "- Ours"
    latex = outputs["latex"].read_text()
    assert "ways & method & tokenizer & llm & tokens & accuracy & CLIP-R & accuracy & CLIP-R" in latex
    assert "0.75 & 0.50 & 0.38 & 0.50 \\\\" in latex
    del rows[0]
    cells = make(tmp_path, table.name, rows)["markdown"].read_text().splitlines()[4].strip("|").split("|")
    assert cells[5].strip() == "–" and [cell.strip() for cell in cells[-2:]] == ["–", "0.50"]


def test_rows_are_in_the_order_of_methods_and_baselines(tmp_path):
    table = "table4_restoration"
    names = ["v2l", "v2l-subword", "v2l-local", "vqgan", "lqae", "spae", "my-tokenizer"]
    baselines = ["token-overlap", "clip-prototype", "majority-vote", "most-frequent-code", "tokenizer-oracle"]
    methods = [(name, name) for name in names]
    methods[1:1] = [(name, "v2l") for name in (*baselines, "corrupted-input", "mean-image")]
    methods += [("corrupted-input", None), ("mean-image", None)]
    rows = [row(table, "psnr", 1.0, method=method, tokenizer=of, task="shift") for method, of in methods]
    random.Random(0).shuffle(rows)
    found = records(make(tmp_path, table, rows))
    assert [(item["method"], item["tokenizer"] or None) for item in found] == methods


def test_tasks_are_in_the_order_of_the_registry_and_others_behind_them(tmp_path):
    tasks = ["inpainting", "outpainting", "deblurring", "shift", "rotation", "another", "masked"]
    rows = [row("table4_restoration", "psnr", 1.0, method="v2l", tokenizer="v2l", task=task) for task in tasks]
    outputs = make(tmp_path, "table4_restoration", rows[::-1])
    assert [item["task"] for item in records(outputs)] == tasks
    header = outputs["markdown"].read_text().splitlines()[2]
    assert re.findall(r"(\w+), PSNR", header) == tasks


def test_an_image_metric_of_an_extension_is_shown_by_itself(tmp_path, registries):
    IMAGE_METRICS.add("ms_ssim", ImageMetric("MS-SSIM", "higher"))
    for table, others in [("table3_reconstruction", ["PSNR", "SSIM"]), ("table4_restoration", ["PSNR"])]:
        rows = [row(table, name, 0.5, method="v2l", task="shift") for name in ("ms_ssim", "psnr")]
        outputs = make(tmp_path, table, rows)
        assert [item["metric"] for item in records(outputs)] == ["psnr", "ms_ssim"]
        header = [cell.strip() for cell in outputs["markdown"].read_text().splitlines()[2].strip("|").split("|")]
        assert [cell.removeprefix("shift, ") for cell in header][-len(others) - 1 :] == [*others, "MS-SSIM"]


def test_a_setting_of_an_extension_is_a_column_and_a_row_key(tmp_path, registries):
    CELL_SETTINGS.add("separator_words", CellSetting(False, "nowhere:nothing"))
    settings = [(value, cell) for value in (True, False) for cell in ((True, 3, 0), (True, 1, 0))]
    rows = [accuracy(0.5, 2, cell) | {"separator_words": value} for value, cell in settings]
    outputs = make(tmp_path, "table1_classification", rows, experiment="paper")
    assert list(records(outputs)[0])[9:12] == ["repeats", "separator_words", "metric"]
    order = [(item["separator_words"], item["inner_shots"], item["published"]) for item in records(outputs)]
    assert order == [("False", "1", ""), ("False", "3", "0.912"), ("True", "1", ""), ("True", "3", "")]
    cells = [line.strip("|").split("|")[4:6] for line in outputs["markdown"].read_text().splitlines()[2:6]]
    assert [[cell.strip() for cell in line] for line in (cells[0], *cells[2:])] == [
        ["tokens", "separator words"],
        ["5", "no"],
        ["5", "yes"],
    ]


def test_published_numbers_are_of_the_default_of_a_further_setting(tmp_path, registries):
    path = write_published(
        tmp_path / "published.csv", {"method": "v2l", "published": "0.5", "published_source": "here"}
    )
    CELL_SETTINGS.add("order", CellSetting("given", "nowhere:nothing"))
    rows = [accuracy(0.5, 2, (True, 1, 0)) | {"order": name} for name in ("given", "reversed")]
    found = records(make(tmp_path, "table1_classification", rows, published=path))
    assert [(item["order"], item["published"]) for item in found] == [("given", "0.5"), ("reversed", "")]
    keys = {"method": "v2l", "published": "0.25", "published_source": "here", "order": "reversed"}
    path = write_published(tmp_path / "published.csv", keys)
    found = records(make(tmp_path, "table1_classification", rows, published=path))
    assert [(item["order"], item["published"]) for item in found] == [("given", ""), ("reversed", "0.25")]


def test_specifications_name_known_metrics_and_are_light_to_import():
    for table in TABLES.values():
        assert all(metric(name).label for name in table.metric_columns)
        assert {*table.across, *table.implied, *table.row_keys} == set(table.key_columns)
        assert all(len(cell) == len(table.across) for cell in table.paper_columns)
    heavy = "import sys, v2l.tables.tables; print({'torch', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True).stdout == "set()\n"


def test_only_specifications_name_tables():
    modules = [Path("v2l/make_tables.py"), *Path("v2l/tables").glob("*.py")]
    named = [path.name for path in modules if re.search(r"table\d", path.read_text())]
    assert named == ["tables.py"]
