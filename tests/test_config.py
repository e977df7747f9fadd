"""Configuration: one source of truth, errors that name the key and the way out."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from v2l.configuration.config import Config
from v2l.configuration.dataset_entries import DATASET_KINDS, FolderDataset
from v2l.configuration.defaults_document import defaults_text, description
from v2l.configuration.documents import DEFAULTS, SCHEMA, schema_text
from v2l.configuration.entry import Entry
from v2l.configuration.experiment import EXTENSIBLE, experiment_values, load_experiment, validate
from v2l.configuration.extensions import check_added, load_extensions
from v2l.configuration.known_metrics import metric
from v2l.configuration.measures import MEASURES
from v2l.configuration.model_entries import ENCODER_KINDS
from v2l.configuration.slices import StageConfig, project
from v2l.configuration.tokenizer_entries import TOKENIZER_METHODS
from v2l.configuration.variants import map_side, merge
from v2l.errors import UserError
from v2l.figures.figures import FIGURES
from v2l.pipeline.selections import figures, tables
from v2l.pipeline.stages import STAGES
from v2l.tables.tables import TABLES

EXPERIMENTS = sorted(path.stem for path in Path("config/experiments").glob("*.yaml"))


def problem(**overrides) -> str:
    with pytest.raises(UserError) as caught:
        load_experiment({"experiment": "demo"} | overrides)
    return str(caught.value)


@pytest.fixture
def registries(monkeypatch):
    """Forgets afterwards what extensions added, and their modules."""
    for registry in EXTENSIBLE:
        monkeypatch.setattr(registry, "_things", dict(registry._things))
        monkeypatch.setattr(registry, "_added", dict(registry._added))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if not name.startswith("v2l"):
            del sys.modules[name]


def classes(model: type[Entry] = Entry) -> Iterator[type[Entry]]:
    """Every class of the configuration: sections and registry entries."""
    for found in model.__subclasses__():
        if found.__module__.startswith("v2l.configuration."):
            yield found
            yield from classes(found)


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Entry)


def assert_defaults(model: type[Entry], data: dict[str, Any]) -> None:
    """`data` holds the keys of `model` that have a default, in their order and with that value, and no others."""
    fields = {key: field for key, field in model.model_fields.items() if key in data or not field.is_required()}
    assert list(data) == list(fields)
    for key, field in fields.items():
        if is_section(field.annotation):
            assert_defaults(field.annotation, data[key])
        elif not field.is_required():
            default = TypeAdapter(Any).dump_python(field.get_default(), mode="json")
            assert json.dumps(data[key]) == json.dumps(default), key
        else:
            assert key in ("kind", "method") and data[key] in repr(field.annotation)


@pytest.mark.parametrize(("path", "text"), [(SCHEMA, schema_text), (DEFAULTS, defaults_text)])
def test_documents_are_in_step_with_the_classes(path, text):
    assert path.read_text() == text(), "run `python -m v2l.configuration.documents`"


@pytest.mark.parametrize("model", list(classes()), ids=lambda model: model.__name__)
def test_every_key_has_a_description(model):
    assert [key for key, field in model.model_fields.items() if not description(field)] == []


def test_defaults_file_holds_the_values_of_the_classes():
    assert_defaults(Config, yaml.safe_load(DEFAULTS.read_text()))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_defaults_file_changes_no_experiment(name):
    experiment = experiment_values(name, Path("config/experiments")) | {"experiment": name}
    data = merge(yaml.safe_load(DEFAULTS.read_text()), experiment)
    assert validate(data, "the test") == load_experiment({"experiment": name})


@pytest.mark.parametrize(
    ("key", "registry"),
    [("encoders", ENCODER_KINDS), ("datasets", DATASET_KINDS), ("tokenizers", TOKENIZER_METHODS)],
)
def test_defaults_file_has_an_example_of_each_class_of_registry_entries(key, registry):
    block = DEFAULTS.read_text().partition(f"\n# {key}:\n")[2].partition("\n\n")[0]
    examples = yaml.safe_load("\n".join(line.removeprefix("# ") for line in block.splitlines()))
    assert {registry[name] for name in examples} == set(registry.values()) and len(examples) == len(set(examples))
    for name, example in examples.items():
        assert_defaults(registry[name], example)


def test_defaults_file_says_what_paper_and_released_code_have_where_they_differ():
    text = DEFAULTS.read_text()
    assert "    # Weight of LPIPS.\n    # released: 0.1\n    perceptual: 1.0\n" in text  # the paper's is the default
    assert "    # paper: downsampling by 8\n    channel_multipliers: [1, 2, 2, 4]\n" in text
    assert "not found\n" not in text.replace("wording not found", "") and "not released" not in text


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
    assert (network.image_size, map_side(network), training.global_tokens) == (128, 16, 21)
    assert (training.epochs, training.warmup_share, training.learning_rate) == (100, 0.05, 5e-4)
    assert (training.loss.perceptual, training.loss.adversarial, training.loss.codebook) == (1.0, 0.1, 0.33)
    assert (restoration.context_tokens, restoration.predicted_tokens) == (16, 2)
    assert restoration.replacement_shares == [0.50, 0.47, 0.44, 0.41, 0.38, 0.35, 0.32, 0.29, 0.26, 0.23]
    assert config.filter_vocabulary.top_k == 5


def test_unknown_key_names_its_path_and_the_nearest_key():
    message = problem(expand_vocabulary={"batchsize": 3})
    assert "`expand_vocabulary.batchsize`: unknown key; did you mean `batch_size`?" in message


def test_unknown_key_deep_in_a_registry_entry():
    assert "`datasets.emoji.rooot`: unknown key; did you mean `root`?" in problem(datasets={"emoji": {"rooot": "x"}})


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
    assert tables(config) == list(TABLES)[:4] and "captioning_vqa" not in figures(config)


def test_unknown_experiment_lists_the_known_ones():
    with pytest.raises(UserError, match=r"'papr'.*demo.*paper.*tiny"):
        load_experiment({"experiment": "papr"})


def test_empty_selection_of_tokenizers_is_refused():
    assert "`train_tokenizer.tokenizers`: empty" in problem(train_tokenizer={"tokenizers": []})


def test_broken_yaml_names_the_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("a: [1,\n")
    with pytest.raises(UserError, match="mine.yaml is not YAML"):
        load_experiment({"experiment": "mine"}, tmp_path)


def test_an_experiment_is_laid_over_the_one_it_is_based_on(tmp_path):
    for name in ("demo", "tiny"):
        (tmp_path / f"{name}.yaml").write_text(Path(f"config/experiments/{name}.yaml").read_text())
    (tmp_path / "own.yaml").write_text("based_on: demo\ntrain_tokenizer: {max_steps: 3}\n")
    (tmp_path / "further.yaml").write_text("based_on: own\nseed: 5\n")
    own, further, demo = (load_experiment({"experiment": name}, tmp_path) for name in ("own", "further", "demo"))
    assert (own.train_tokenizer.max_steps, own.seed, further.train_tokenizer.max_steps, further.seed) == (3, 0, 3, 5)
    changed = {"experiment", "based_on", "train_tokenizer"}
    assert own.model_dump(exclude=changed) == demo.model_dump(exclude=changed)
    (tmp_path / "demo.yaml").write_text("based_on: further\n")
    with pytest.raises(UserError, match=r"`based_on` of .*demo.yaml is 'further'.*one of \['tiny'\]"):
        load_experiment({"experiment": "further"}, tmp_path)


def test_merge_is_deep_for_mappings_and_replaces_lists():
    assert merge({"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}, "d": 1}


def test_an_entry_of_another_kind_replaces_the_experiments():
    overrides = {"datasets": {"emoji": {"kind": "folder", "root": "pictures"}}}
    dataset = load_experiment({"experiment": "demo"} | overrides).datasets["emoji"]
    assert dataset == FolderDataset(kind="folder", root="pictures")
    same = merge({"v2l": {"method": "v2l", "weights": 1}}, {"v2l": {"method": "v2l", "seed": 2}})
    assert same == {"v2l": {"method": "v2l", "weights": 1, "seed": 2}}


def test_schema_describes_every_key_that_differs_from_the_released_code():
    loss = json.loads(schema_text())["$defs"]["Loss"]["properties"]
    assert (
        "released: 0.1" in loss["perceptual"]["description"] and "released: 0.75" in loss["adversarial"]["description"]
    )


@pytest.mark.parametrize(
    ("key", "overrides", "kind", "meant"),
    [
        (
            "evaluate_llm.restoration.tasks.0",
            {"evaluate_llm": {"restoration": {"tasks": ["inpaintng"]}}},
            "restoration task",
            "inpainting",
        ),
        (
            "samples.restoration.corruptions.0",
            {"samples": {"restoration": {"corruptions": ["rotate"]}}},
            "restoration task",
            "rotation",
        ),
        (
            "evaluate_llm.vqa.baselines.0",
            {"evaluate_llm": {"vqa": {"baselines": ["majority"]}}},
            "baseline",
            "majority-vote",
        ),
        (
            "score_predictions.image_metrics.0",
            {"score_predictions": {"image_metrics": ["pnsr"]}},
            "image metric",
            "psnr",
        ),
        ("tokenizers.v2l.method", {"tokenizers": {"v2l": {"method": "v2l-locl"}}}, "tokenizer method", "v2l-local"),
        ("datasets.emoji.kind", {"datasets": {"emoji": {"kind": "foldr"}}}, "kind of data set", "folder"),
        ("encoders.conse.kind", {"encoders": {"conse": {"kind": "openclip"}}}, "kind of encoder", "open_clip"),
        ("samples.mask", {"samples": {"mask": {"dataset": "emoji", "splits": ["val"]}}}, "sample", "masked"),
    ],
)
def test_unknown_name_is_answered_with_the_nearest(key, overrides, kind, meant):
    assert f"`{key}`: unknown {kind}; did you mean `{meant}`?, got '" in problem(**overrides)


def test_unknown_setting_of_table_1_is_answered_with_the_nearest():
    message = problem(evaluate_llm={"classification": {"grid": [{"inner_shot": [1]}]}})
    assert "`evaluate_llm.classification.grid.0`: unknown key inner_shot; did you mean `inner_shots`?" in message


@pytest.mark.parametrize(
    ("look_up", "kind", "name", "meant"),
    [
        (TABLES.__getitem__, "table", "table2_semantic", "table2_semantics"),
        (FIGURES.__getitem__, "figure", "restorations", "restoration"),
        (MEASURES.__getitem__, "source", "captions", "captioning"),
        (metric, "metric", "clipscore", "clip_score"),
    ],
)
def test_unknown_name_at_a_stage_is_answered_with_the_nearest(look_up, kind, name, meant):
    with pytest.raises(UserError, match=f"^{kind} '{name}' is not known; did you mean `{meant}`"):
        look_up(name)


def test_baseline_of_another_task_is_refused():
    message = problem(evaluate_llm={"restoration": {"baselines": ["clip-prototype"]}})
    assert "`evaluate_llm.restoration.baselines.0`: unknown baseline; known here: majority-vote" in message


@pytest.mark.parametrize("registry", ["llms", "tokenizers"])
def test_registry_name_that_is_a_baselines_is_refused(registry):
    entry = {"path": "x"} if registry == "llms" else {"method": "v2l"}
    message = problem(**{registry: {"token-overlap": entry}})
    assert f"`{registry}`: Value error, registry name 'token-overlap' is that of a baseline; choose another" in message


EXTENSIONS = {  # file -> its text, and what its refusal says after the file's name
    "missing.py": (None, "there is no such Python file"),
    "notes.txt": ("", "there is no such Python file"),
    "broken.py": ("import no_such_package", "it cannot be imported (ModuleNotFoundError: No module named"),
    "failing.py": ("1 / 0", "it cannot be imported (ZeroDivisionError: division by zero)"),
    "twice.py": (
        """
        from v2l.configuration.metrics import IMAGE_METRICS, ImageMetric
        IMAGE_METRICS.add("psnr", ImageMetric("PSNR", "higher"))
        """,
        "it cannot be imported (image metric 'psnr' is added twice)",
    ),
    "methodless.py": (
        """
        from v2l.configuration.restoration_tasks import RESTORATION_TASKS, RestorationTask
        from v2l.tasks.image_corruption import ImageCorruption
        class Noise(ImageCorruption):
            pass
        RESTORATION_TASKS.add("noise", RestorationTask(f"{__name__}:Noise"))
        """,
        "class Noise of the restoration task 'noise' lacks corrupt_square",
    ),
    "baseless.py": (
        """
        from v2l.configuration.metrics import IMAGE_METRICS, ImageMetric
        class Sharpness:
            pass
        IMAGE_METRICS.add("sharpness", ImageMetric("sharpness", "higher", implementation=f"{__name__}:Sharpness"))
        """,
        "class Sharpness of the image metric 'sharpness' lacks its base class PairMetric",
    ),
    "nowhere.py": (
        """
        from v2l.configuration.metrics import IMAGE_METRICS, ImageMetric
        IMAGE_METRICS.add("blur", ImageMetric("blur", "lower", implementation=f"{__name__}:Blur"))
        """,
        "the image metric 'blur' has its implementation nowhere: ",
    ),
    "silent.py": (
        """
        from typing import Literal
        from v2l.configuration.dataset_entries import DATASET_KINDS, Dataset
        class Silent(Dataset):
            kind: Literal["silent"]
        DATASET_KINDS.add("silent", Silent)
        """,
        "the kind of data set 'silent' has its implementation nowhere: it names none",
    ),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_extension_that_cannot_be_used_is_refused(tmp_path, registries, name):
    text, reason = EXTENSIONS[name]
    if text is not None:
        (tmp_path / name).write_text(dedent(text))
    message = problem(extensions=[str(tmp_path / name)])
    assert message.startswith(f"extension {tmp_path / name}: {reason}"), message
    assert "What to do: mend the file, or take it out of `extensions`" in message


@pytest.mark.parametrize("name", ["json", "turtle"])  # one that is imported, one that could be
def test_extension_that_would_hide_another_module_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(f"{name}.py").write_text("")
    with pytest.raises(UserError, match=rf"extension {name}.py: .*/{name}\S+ is module `{name}` already.* its own"):
        load_extensions([f"{name}.py"])


def test_extension_is_named_as_the_experiment_names_it(tmp_path, monkeypatch, registries):
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path)
    Path("own/nowhere.py").write_text(dedent(EXTENSIONS["nowhere.py"][0]))
    load_extensions(["own/nowhere.py"])
    with pytest.raises(UserError, match="^extension own/nowhere.py: .* own.nowhere:Blur"):
        check_added(EXTENSIBLE)


def test_extension_that_adds_a_metric_without_implementation_is_refused(tmp_path, registries):
    text = 'from v2l.configuration.metrics import *\nIMAGE_METRICS.add("blur", ImageMetric("blur", "lower"))\n'
    (tmp_path / "blur.py").write_text(text)
    message = problem(extensions=[str(tmp_path / "blur.py")])
    assert message.startswith("extension that adds the image metric 'blur': ") and "it names none" in message


def test_stage_that_reads_a_key_its_rule_did_not_pass_fails():
    demo = load_experiment({"experiment": "demo"})
    config = StageConfig("a_stage", project(demo, ["train_tokenizer.network", "encoders.conse"]))
    assert config.train_tokenizer.network.image_size == 64 and config.encoders["conse"].top_classes == 10
    with pytest.raises(AttributeError, match="stage a_stage has no config section 'seed': add it to the rule's params"):
        config.seed  # noqa: B018
    with pytest.raises(AttributeError, match="key `epochs` of TrainTokenizer was not passed to this job by its rule"):
        config.train_tokenizer.epochs  # noqa: B018
    with pytest.raises(KeyError):
        config.encoders["clip-vit-l-14"]


def test_key_that_a_registry_entry_was_passed_without_fails():
    data = project(load_experiment({"experiment": "demo"}), ["tokenizers.v2l", "datasets.emoji"])
    del data["tokenizers"]["v2l"]["train_tokenizer"], data["datasets"]["emoji"]["fit"]
    config = StageConfig("a_stage", data)
    assert config.tokenizers["v2l"].method == "v2l" and config.datasets["emoji"].min_images == 10
    with pytest.raises(AttributeError, match="key `train_tokenizer` of V2LEntry was not passed"):
        config.tokenizers["v2l"].train_tokenizer  # noqa: B018
    with pytest.raises(AttributeError, match="key `fit` of EmojiDataset was not passed"):
        config.datasets["emoji"].fit  # noqa: B018


def test_selection_is_passed_to_no_stage():
    config = StageConfig("a_stage", project(load_experiment({"experiment": "demo"}), ["train_tokenizer"]))
    with pytest.raises(AttributeError, match="key `tokenizers` of TrainTokenizer was not passed"):
        config.train_tokenizer.tokenizers  # noqa: B018
