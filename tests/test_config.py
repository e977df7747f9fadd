"""Configuration: one source of truth, errors that name the key and the way out."""

import json
from pathlib import Path

import pytest
import yaml

from v2l.configuration.config import Config, schema_text
from v2l.configuration.experiment import load_experiment, validate
from v2l.configuration.tokenizer_training import merge
from v2l.errors import UserError
from v2l.pipeline.rules import STAGES
from v2l.pipeline.selections import TABLES, figures, shown_answers, tables

EXPERIMENTS = sorted(path.stem for path in Path("config/experiments").glob("*.yaml"))


def problem(**overrides) -> str:
    with pytest.raises(UserError) as caught:
        load_experiment({"experiment": "demo"} | overrides)
    return str(caught.value)


def test_schema_file_is_in_step_with_the_classes():
    assert Path("config/schema.json").read_text() == schema_text(), "run `python -m v2l.configuration.config`"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_shipped_experiments_are_valid(name):
    assert load_experiment({"experiment": name}).experiment == name


def test_shipped_config_runs_the_demo():
    assert yaml.safe_load(Path("config/config.yaml").read_text())["experiment"] == "demo"


def test_every_stage_has_a_section():
    assert set(STAGES) <= set(Config.model_fields)


def test_defaults_are_the_papers_values():
    config = load_experiment({"experiment": "paper"})
    network, training, restoration = (
        config.train_tokenizer.network,
        config.train_tokenizer,
        config.evaluate_llm.restoration,
    )
    assert (network.image_size, network.geometry.grid, training.global_tokens) == (128, 16, 21)
    assert (training.epochs, training.warmup_share, training.learning_rate) == (100, 0.05, 5e-4)
    assert (training.loss.perceptual, training.loss.adversarial, training.loss.codebook) == (1.0, 0.1, 0.33)
    assert (restoration.context_tokens, restoration.predicted_tokens) == (16, 2)
    assert restoration.replacement_shares == [0.50, 0.47, 0.44, 0.41, 0.38, 0.35, 0.32, 0.29, 0.26, 0.23]
    assert config.filter_vocabulary.top_k == 5


def test_unknown_key_names_its_path_and_the_nearest_key():
    message = problem(expand_vocabulary={"batchsize": 3})
    assert "`expand_vocabulary.batchsize`: unknown key; did you mean `batch_size`?" in message


def test_unknown_key_deep_in_a_registry_entry():
    assert "`datasets.tuxpaint.rooot`: unknown key; did you mean `root`?" in problem(
        datasets={"tuxpaint": {"rooot": "x"}}
    )


def test_entry_named_like_a_kind_keeps_its_name():
    assert "`encoders.conse.tekst`: unknown key; did you mean `text`?" in problem(encoders={"conse": {"tekst": "x"}})


def test_every_problem_is_listed_at_once():
    message = problem(seed="many", train_tokenizer={"learning_rate": -1})
    assert (
        "`seed`" in message and "'many'" in message and "`train_tokenizer.learning_rate`" in message and "-1" in message
    )


def test_selection_must_name_a_registry_entry():
    message = problem(evaluate_llm={"restoration": {"llms": ["smollm"]}})
    assert "`evaluate_llm.restoration.llms`: 'smollm' is not in `llms` (smollm2-135m)" in message


def test_tasks_answered_in_text_need_their_sample_and_can_be_left_out():
    demo = yaml.safe_load(Path("config/experiments/demo.yaml").read_text())
    for task in ("captioning", "vqa"):
        del demo["samples"][task]
    with pytest.raises(UserError, match=r"`samples\.captioning`: missing.*\n.*`samples\.vqa`: missing"):
        validate(demo | {"experiment": "demo"}, "the test")
    for task in ("captioning", "vqa"):
        del demo["evaluate_llm"][task]
    config = validate(demo | {"experiment": "demo"}, "the test")
    assert tables(config) == list(TABLES[:4]) and "captioning_vqa" not in figures(config)
    assert shown_answers(config) == []


def test_unknown_experiment_lists_the_known_ones():
    with pytest.raises(UserError, match=r"'papr'.*demo.*paper.*tiny"):
        load_experiment({"experiment": "papr"})


def test_empty_selection_of_tokenizers_is_refused():
    assert "`train_tokenizer.tokenizers`: empty" in problem(train_tokenizer={"tokenizers": []})


def test_broken_yaml_names_the_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("a: [1,\n")
    with pytest.raises(UserError, match="mine.yaml is not YAML"):
        load_experiment({"experiment": "mine"}, tmp_path)


def test_merge_is_deep_for_mappings_and_replaces_lists():
    assert merge({"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}, "d": 1}


def test_schema_describes_every_key_that_differs_from_the_released_code():
    loss = json.loads(schema_text())["$defs"]["Loss"]["properties"]
    assert (
        "released: 0.1" in loss["perceptual"]["description"] and "released: 0.75" in loss["adversarial"]["description"]
    )
