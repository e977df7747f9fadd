"""Every key of the configuration: an edit runs its own jobs again and what lies below them, nothing else.

A key that no line of VERDICTS names fails, so that a new one gets a verdict; one that cannot be edited without further
thought gets a line of VALUES.
"""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from tests.dry_runs import DryRuns, Plan
from v2l.configuration.config import Config
from v2l.configuration.entry import SELECTION, Entry
from v2l.configuration.experiment import load_experiment

pytestmark = pytest.mark.pipeline

NOTHING = ()
SHOWS = r"make_(tables|figures)"
OTHERS = "train_tokenizer (?!.*/lqae)"  # which has values of its own
LQAE_LOSS = ("pixel", "pixel_norm", "perceptual", "adversarial", "codebook", "commitment")

# Key (the first line that fits counts) -> patterns of the jobs (`rule output`) that read it; those below run as well.
VERDICTS: dict[str, tuple[str, ...]] = {
    "experiment": NOTHING,  # another name makes everything anew, elsewhere
    "based_on": NOTHING,
    "extensions": NOTHING,
    "fetch_assets.*": NOTHING,
    "decode_images.*": NOTHING,  # here no picture is decoded beforehand
    "plan.*": NOTHING,
    "seed": ("index_images ",),
    "encoder": ("embed_",),
    "encoders.*": ("embed_",),
    "llms.*": ("expand_vocabulary ",),
    "datasets.*": ("index_images .*/{1}.parquet",),
    "samples.*": ("extract_tokens .*/{1}.parquet", r"reconstruct_images_pixels .*/{1}\."),
    "tokenizers.*.train_tokenizer": ("train_tokenizer .*/{1}.safetensors",),
    "tokenizers.*": ("train_tokenizer(_import)? .*/{1}.safetensors",),
    "index_images.*": ("index_images ",),
    "expand_vocabulary.*": ("expand_vocabulary ",),
    "embed_vocabulary.*": ("embed_vocabulary ",),
    "embed_images.*": ("embed_images ",),
    "filter_vocabulary.*": ("filter_vocabulary ",),
    "train_tokenizer.splits": ("train_tokenizer ", r"reconstruct_images_pixels .*\.mean-image"),
    "train_tokenizer.augmentation": (OTHERS,),
    **{f"train_tokenizer.loss.{key}": (OTHERS,) for key in LQAE_LOSS},
    "train_tokenizer.network.image_size": ("train_tokenizer ", "reconstruct_images_pixels "),
    "train_tokenizer.network.resize_via": ("train_tokenizer ", "reconstruct_images_pixels "),
    "train_tokenizer.*": ("train_tokenizer ",),
    "extract_tokens.corruption.*": ("extract_tokens .*/restoration", "reconstruct_images_pixels .*/restoration"),
    "extract_tokens.*": ("extract_tokens ",),
    "reconstruct_images.*": ("reconstruct_images",),
    "finetune_llm.*": ("finetune_llm ",),
    "evaluate_llm.classification.grid": (r"evaluate_llm .*/(v2l|spae)/.*/classification",),  # others have their own
    "evaluate_llm.restoration.tasks": ("evaluate_llm .*/restoration", "reconstruct_images.*/restoration"),
    "evaluate_llm.restoration.held_out.*": NOTHING,  # another protocol
    "evaluate_llm.restoration.images_of": (r"(evaluate_llm|reconstruct_images) .*/vqgan/.*restoration",),
    "evaluate_llm.classification.grid_of": (r"evaluate_llm .*/lqae/.*/classification",),
    "evaluate_llm.masked.mask_share": ("evaluate_llm .*/masked", "reconstruct_images .*/masked"),
    "evaluate_llm.*": ("evaluate_llm .*/{1}.parquet",),
    "score_predictions.*": ("score_predictions_",),
    "make_tables.*": ("make_tables ",),
    "make_figures.*": ("make_figures_(?!show)",),
}
# Key -> what is set where no other value can be made up; a mapping is whole sections, or a whole entry.
CLIP = {"kind": "open_clip", "model": "tiny/clip.json", "weights": "tiny/clip.safetensors"}
VALUES: dict[str, Any] = {
    "experiment": {},
    "based_on": {"based_on": None},
    "extensions": {"extensions": []},
    "encoder": {"encoder": "other", "encoders": {"other": CLIP}},
    "encoders.tiny-clip.kind": {"encoder": "other", "encoders": {"other": CLIP}},
    "encoders.tiny-clip.model": "tiny/llama/config.json",
    "encoders.tiny-clip.weights": "tiny/roberta/model.safetensors",
    "llms.tiny-llama.path": "tiny/roberta",
    "datasets.*.kind": {"kind": "folder", "root": "tiny/imagenet"},
    "datasets.*.root": "tiny/roberta",
    "datasets.*.synsets": "tiny/llama/config.json",
    "datasets.*.val_labels": "tiny/llama/config.json",
    "datasets.*.captions": "tiny/coco/questions.json",
    "datasets.*.questions": "tiny/coco/annotations.json",
    "datasets.*.annotations": "tiny/coco/questions.json",
    "datasets.*.images": "train2014",
    "samples.classification.dataset": "imagenet",
    "samples.*.dataset": "mini-imagenet",
    "tokenizers.lqae.method": {"method": "vqgan"},
    "tokenizers.*.method": {"method": "lqae", "language_model": "tiny/roberta"},
    "tokenizers.*.train_tokenizer": {"tokenizers": {"vqgan": {"train_tokenizer": {"epsilon": 1e-6}}}},
    "tokenizers.*.weights": "tiny/roberta/model.safetensors",
    "tokenizers.*.start_from": "tiny/roberta/model.safetensors",
    "tokenizers.*.language_model": "tiny/llama",
    "tokenizers.spae.pyramid": [2, 4],
    "tokenizers.spae.semantic_layers": 1,
    "fetch_assets.assets": {"fetch_assets": {"assets": ["lpips"]}},
    "expand_vocabulary.llm": {"expand_vocabulary": {"llm": "other"}, "llms": {"other": {"path": "tiny/llama"}}},
    "expand_vocabulary.prompt": "a picture of",
    "filter_vocabulary.dataset": "mini-imagenet",
    "filter_vocabulary.split": "val",
    "train_tokenizer.dataset": "mini-imagenet",
    "*.betas": [0.1, 0.2],
    "*.blur_kernels": [3, 5],
    "*.blur_sigma": 1.5,
    "*.images_of": {"vqgan": 3},
    "*.instruction": "Say {count}:",
    "*_split": "train",
    "*_weights": "tiny/roberta/model.safetensors",
    "plan.efficiencies": "tiny/llama/config.json",
}


def keys_of(model: Entry, prefix: str = "") -> Iterator[tuple[str, Any, FieldInfo]]:
    """Dotted key, value and field of everything that can be set."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, Entry):
            yield from keys_of(value, f"{prefix}{name}.")
        elif isinstance(value, dict) and any(isinstance(item, Entry) for item in value.values()):
            for item, entry in value.items():
                yield from keys_of(entry, f"{prefix}{name}.{item}.")
        else:
            yield prefix + name, value, field


KEYS = {key: (value, field) for key, value, field in keys_of(load_experiment({"experiment": "tiny"}))}


def edited(key: str) -> Any:
    """Another value of a key."""
    value, field = KEYS[key]
    if given := [value for pattern, value in VALUES.items() if fnmatchcase(key, pattern)]:
        return given[0]
    kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not NoneType]
    literals = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    if literals:
        return next((other for other in literals if other != value), value)
    if isinstance(value, bool) or kinds == [bool]:
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 if value else 0.5
    if value is None and int in kinds:
        return 7
    if isinstance(value, list) and value:
        return value[:-1] or value * 2
    raise AssertionError(f"give {key} ({value!r}, {field.annotation}) a line of VALUES")


def overrides(key: str, value: Any) -> list[str]:
    """Arguments of `--config`; names of registry entries have no dots."""
    first, *rest = key.split(".")
    if isinstance(value, dict) and (not value or set(value) <= set(Config.model_fields)):
        sections = value
    elif isinstance(value, dict):
        sections = {first: {rest[0]: value}}
    else:
        for step in reversed(rest):
            value = {step: value}
        sections = {first: value}
    return [f"{name}={json.dumps(section, default=lambda entry: entry.model_dump())}" for name, section in sections.items()]


def below(plan: Plan, patterns: tuple[str, ...]) -> set[str]:
    """The jobs that fit one of the patterns, and all that wait for one of these."""
    found = {name for name in plan if any(re.match(pattern, name) for pattern in patterns)}
    while further := {name for name, job in plan.items() if name not in found and found & set(job.below)}:
        found |= further
    return {name for name in found if not re.match(r"all(_tables|_figures)? ", name)}


def running(plan: Plan) -> set[str]:
    return {name for name, job in plan.items() if job.runs and not re.match(r"all(_tables|_figures)? ", name)}


@pytest.fixture(scope="module")
def dry_runs(tiny_run) -> Iterator[DryRuns]:
    with DryRuns(tiny_run.folder) as runs:
        yield runs


@pytest.fixture(scope="module")
def whole(dry_runs) -> Plan:
    plan = dry_runs.plan("--forceall", "--config", "experiment=tiny")
    assert len(running(plan)) > 150
    return plan


@pytest.mark.parametrize("key", KEYS)
def test_an_edit_runs_its_own_jobs_again_and_what_lies_below(dry_runs, whole, key):
    patterns = next((jobs for pattern, jobs in VERDICTS.items() if fnmatchcase(key, pattern)), None)
    assert patterns is not None, f"{key} has no line in VERDICTS"
    planned = running(dry_runs.plan("--config", "experiment=tiny", *overrides(key, edited(key))))
    if SELECTION in KEYS[key][1].metadata:
        assert all(re.match(SHOWS, name) for name in planned)
    else:
        assert planned == below(whole, tuple(pattern.format(*key.split(".")) for pattern in patterns))
