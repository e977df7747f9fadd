"""Tables from made-up metrics: the long CSV, the two views, published numbers, and damaged input."""

import csv
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from v2l.configuration.cell_settings import CELL_SETTINGS, CellSetting
from v2l.configuration.known_metrics import metric
from v2l.configuration.metrics import IMAGE_METRICS, ImageMetric
from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import write_parquet
from v2l.make_tables import run
from v2l.metrics.rows import VALUE_COLUMNS, Measurement, items_table
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


def write_scores(path, rows):
    """A file of scores and, beside it, the values of the items behind its rows: those in `items`, by name."""
    path.write_text(json.dumps({"rows": [{name: row[name] for name in row if name != "items"} for row in rows]}))
    measured = []
    for found in rows:
        keys = {name: value for name, value in found.items() if name not in (*VALUE_COLUMNS, "items")}
        items = found.get("items", {})
        values = np.array(list(items.values()), dtype=np.float64)
        measured.append(Measurement(keys, found["metric"], "paper", list(items), values))
    write_parquet(path.with_suffix(".parquet"), items_table(measured), {})
    return {"metrics": path, "per_item": path.with_suffix(".parquet")}


def make(folder, table, rows, published=SHIPPED, experiment="demo", intervals=False):
    """Run the stage with each row in a metrics file of its own, last row first; the outputs."""
    files = [write_scores(folder / f"{number}.json", [found]) for number, found in enumerate(reversed(rows))]
    inputs = {name: [each[name] for each in files] for name in ("metrics", "per_item")}
    return make_of(folder, table, inputs | {"published": published}, experiment, intervals)


def make_of(folder, table, inputs, experiment="demo", intervals=False):
    """Run the stage on `inputs`; the outputs."""
    data = {"experiment": experiment, "seed": 0, "make_tables": {"intervals": intervals}, "job": {"table": table}}
    data |= {"score_predictions": {"bootstrap_samples": 200}}
    outputs = {"csv": folder / "table.csv", "markdown": folder / "table.md", "latex": folder / "table.tex"}
    run(StageConfig("make_tables", data), Inputs(inputs), outputs)
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
    text = outputs["markdown"].read_text()
    assert re.findall(r"^\*\*(.*)\*\*$", text, flags=re.MULTILINE) == ["inpainting", "rotation"]
    headers = [line for line in text.splitlines() if line.startswith("| method")]
    cells = ["method", "tokenizer", "llm", "FID", "LPIPS", "PSNR"]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in headers] == [cells] * 2
    latex = outputs["latex"].read_text()
    assert re.findall(r"\\caption\{Image denoising: (\w+)\.", latex) == ["inpainting", "rotation"]
    assert re.findall(r"\\label\{(.*)\}", latex) == [f"tab:{table}:{number}" for number in (1, 2)]


HOSTILE = "=cmd()|\\input{/etc/passwd}\\write18{id}~^ <script>x</script> [a](javascript:b) `c` \x1b[2J"


@pytest.mark.parametrize("key", ["method", "llm", "tokenizer", "note"])
def test_names_are_texts_in_every_form(tmp_path, key):
    """No command of LaTeX, no HTML, no link, no further cell, no formula, no code that a terminal obeys."""
    found = accuracy(0.5, 2, (True, 1, 0), **{key: HOSTILE})
    plain = accuracy(0.5, 2, (True, 1, 0), **{key: "plain"})
    outputs, harmless = make(tmp_path, "table1_classification", [found]), tmp_path / "harmless"
    harmless.mkdir()
    texts = {name: path.read_text() for name, path in outputs.items()}
    latex = texts["latex"]
    assert not re.search(r"\\(input|write)|(?<!\\)[~^]|\x1b", latex)
    assert r"\textbackslash{}input\{/etc/passwd\}" in latex and r"\textasciitilde{}\textasciicircum{}" in latex
    markdown = texts["markdown"]
    assert "<" not in markdown and "\x1b" not in markdown and not re.search(r"(?<!\\)[\[`]", markdown)
    wanted = make(harmless, "table1_classification", [plain])["markdown"].read_text()
    columns = [[len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()] for text in (markdown, wanted)]
    assert columns[0] == columns[1]
    (record,) = records(outputs)
    assert record[key] == "'" + HOSTILE.replace("\x1b", r"\x1b")


def test_every_output_has_its_provenance_beside_it(tmp_path):
    outputs = make(tmp_path, "table1_classification", [accuracy(0.5, 2, (True, 1, 0))])
    for path in outputs.values():
        record = json.loads(path.with_name(path.name + ".provenance.json").read_text())
        assert record["config"] == {
            "experiment": "demo",
            "seed": 0,
            "make_tables": {"intervals": False},
            "score_predictions": {"bootstrap_samples": 200},
            "job": {"table": "table1_classification"},
        }
        assert set(record["inputs"]) == {"metrics", "per_item", "published"}


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
        with pytest.raises(UserError, match="damaged.json cannot be (used|read as a metrics file)"):
            make_of(tmp_path, table, {"metrics": damaged, "per_item": damaged, "published": SHIPPED})
    inputs = write_scores(tmp_path / "scores.json", [good])
    inputs["per_item"].write_bytes(b"no Parquet")
    with pytest.raises(UserError, match="scores.parquet cannot be used"):
        make_of(tmp_path, table, inputs | {"published": SHIPPED})
    assert not list(tmp_path.glob("table.*"))


def test_rows_and_columns_that_a_table_does_not_show_are_left_out(tmp_path):
    table, keys = "table4_restoration", {"method": "v2l", "tokenizer": "v2l", "llm": "llm", "task": "shift"}
    rows = [row(table, name, 0.5, **keys) for name in ("ssim", "psnr", "lpips")]
    inputs = write_scores(tmp_path / "scores.json", [found | {"global_tokens": 5} for found in rows])
    outputs = make_of(tmp_path, table, inputs | {"published": SHIPPED})
    assert [item["metric"] for item in records(outputs)] == ["lpips", "psnr"]
    assert not {"ssim", "global_tokens"} & set(records(outputs)[0])


def test_metrics_of_table_5_are_in_its_own_order(tmp_path):
    table, keys = "table5_captioning_vqa", {"method": "v2l", "tokenizer": "v2l", "llm": "llm"}
    rows = [row(table, name, 0.5, task="captioning", **keys) for name in ("bleu_4", "clip_score", "cider")]
    outputs = make(tmp_path, table, [*rows, row(table, "vqa_accuracy", 0.5, task="vqa", **keys)])
    order = ["vqa_accuracy", "cider", "clip_score", "bleu_4"]
    assert [name for name in records(outputs)[0] if name in order] == order
    assert [item["metric"] for item in records(outputs)] == [*order[1:], "vqa_accuracy"]


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
    assert re.findall(r"^\*\*(.*)\*\*$", outputs["markdown"].read_text(), flags=re.MULTILINE) == tasks


def test_an_image_metric_of_an_extension_is_shown_by_itself(tmp_path, registries):
    IMAGE_METRICS.add("ms_ssim", ImageMetric("MS-SSIM", "higher"))
    for table, others in [("table3_reconstruction", ["PSNR", "SSIM"]), ("table4_restoration", ["PSNR"])]:
        rows = [row(table, name, 0.5, method="v2l", task="shift") for name in ("ms_ssim", "psnr")]
        outputs = make(tmp_path, table, rows)
        assert [item["metric"] for item in records(outputs)] == ["psnr", "ms_ssim"]
        header = next(line for line in outputs["markdown"].read_text().splitlines() if line.startswith("| method"))
        cells = [cell.strip() for cell in header.strip("|").split("|")]
        assert cells[-len(others) - 1 :] == [*others, "MS-SSIM"]


def test_a_setting_of_an_extension_is_a_column_and_a_row_key(tmp_path, registries):
    CELL_SETTINGS.add("separator_words", CellSetting(False, "nowhere:nothing"))
    settings = [(value, cell) for value in (True, False) for cell in ((True, 3, 0), (True, 1, 0))]
    rows = [accuracy(0.5, 2, cell) | {"separator_words": value} for value, cell in settings]
    outputs = make(tmp_path, "table1_classification", rows, experiment="paper")
    assert list(records(outputs)[0])[9:12] == ["repeats", "separator_words", "metric"]
    order = [(item["separator_words"], item["inner_shots"], item["published"]) for item in records(outputs)]
    assert order == [("False", "1", ""), ("False", "3", "0.912"), ("True", "1", ""), ("True", "3", "")]
    cells = [line.strip("|").split("|")[3:5] for line in outputs["markdown"].read_text().splitlines()[4:8]]
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
        assert {*table.across, *table.implied, *table.row_keys, table.block} - {""} == set(table.key_columns)
        assert all(len(cell) == len(table.across) for cell in table.paper_columns)
    heavy = "import sys, v2l.tables.tables; print({'torch', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True).stdout == "set()\n"


def test_only_specifications_name_tables():
    modules = [Path("v2l/make_tables.py"), *Path("v2l/tables").glob("*.py")]
    named = [path.name for path in modules if re.search(r"table\d", path.read_text())]
    assert named == ["tables.py"]
