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

from tests.conftest import ROOT
from tests.dry_runs import below, running
from v2l.configuration.entry import SELECTION, Entry
from v2l.configuration.experiment import load_experiment
from v2l.configuration.restoration_tasks import RESTORATION_TASKS

pytestmark = pytest.mark.pipeline

NOTHING = ()
SHOWS = r"make_(tables|figures)"
OTHERS = "train_tokenizer (?!.*/lqae)"  # which has values of its own
LQAE_LOSS = ("pixel", "pixel_norm", "perceptual", "adversarial", "codebook", "commitment")

CURVES = "make_figures .*/(training_curves|codebook_usage)[.]"
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
    # Data sets of which nothing is left to be indexed.
    **{
        f"samples.{name}.dataset": (f"extract_tokens .*/{name}.parquet", "index_images_rejected ")
        for name in ("classification", "captioning", "vqa")
    },
    "samples.*": ("extract_tokens .*/{1}.parquet", r"reconstruct_images_pixels .*/{1}\."),
    **{f"tokenizers.v2l-subword.{key}": NOTHING for key in ("checkpoint", "codebooks")},
    # What is imported has no curves.
    **{
        f"tokenizers.*.{key}": ("train_tokenizer(_import)? .*/{1}.safetensors", CURVES)
        for key in ("weights", "checkpoint", "checkpoint_config", "codebooks")
    },
    "tokenizers.lqae.method": ("train_tokenizer .*/lqae.safetensors", "make_tables .*/table2"),  # not there any more
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
    "train_tokenizer.network.channel_multipliers": ("train_tokenizer ", "reconstruct_images_pixels "),
    "train_tokenizer.decoded_images": ("decode_images ", OTHERS),
    "train_tokenizer.dataset": ("train_tokenizer ", r"reconstruct_images_pixels .*\.mean-image"),
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
    "make_report.*": NOTHING,  # the report is made on its own, of what is there
    "make_figures.*": ("make_figures ",),
}
# Key -> sections that edit it, where another value needs more than the key; NAME is the second part of the key.
OTHER_CLIP = {"kind": "open_clip", "model": "tiny/clip.json", "weights": "tiny/clip.safetensors"}
SECTIONS: dict[str, dict[str, Any]] = {
    "experiment": {},
    "based_on": {},
    "extensions": {},
    "encoder": {"encoder": "other", "encoders": {"other": OTHER_CLIP}},
    "encoders.tiny-clip.kind": {"encoder": "other", "encoders": {"other": OTHER_CLIP}},
    "datasets.*.kind": {"datasets": {"NAME": {"kind": "folder", "root": "tiny/imagenet"}}},
    "tokenizers.lqae.method": {"tokenizers": {"NAME": {"method": "vqgan"}}},
    "tokenizers.*.method": {"tokenizers": {"NAME": {"method": "lqae", "language_model": "tiny/roberta"}}},
    **{f"tokenizers.v2l-subword.{key}": {} for key in ("checkpoint", "codebooks")},  # none is published
    "tokenizers.vqgan.checkpoint*": {
        "tokenizers": {"NAME": {"checkpoint": "tiny/clip.safetensors", "checkpoint_config": "tiny/clip.json"}}
    },
    "tokenizers.*.checkpoint": {"tokenizers": {"NAME": {"checkpoint": "tiny/clip.safetensors"}}},
    "tokenizers.*.codebooks": {"tokenizers": {"NAME": {"checkpoint": "tiny/clip.safetensors", "codebooks": "tiny"}}},
    "expand_vocabulary.llm": {"expand_vocabulary": {"llm": "other"}, "llms": {"other": {"path": "tiny/llama"}}},
    "train_tokenizer.tokenizers": {
        "train_tokenizer": {"tokenizers": ["v2l", "v2l-subword", "vqgan", "lqae", "spae"]},
    },
    "train_tokenizer.network.channel_multipliers": {
        "train_tokenizer": {"network": {"channel_multipliers": [1, 1, 2, 4]}}
    },
    "train_tokenizer.decoded_images": {
        "train_tokenizer": {"decoded_images": True},
        "tokenizers": {"lqae": {"train_tokenizer": {"decoded_images": False}}},
    },
}
# Key -> another value, where none can be made up.
VALUES: dict[str, Any] = {
    "encoders.tiny-clip.model": "tiny/llama/config.json",
    "encoders.tiny-clip.weights": "tiny/roberta/model.safetensors",
    "llms.tiny-llama.path": "tiny/roberta",
    "llms.tiny-llama.dtype": "bfloat16",
    "datasets.*.root": "tiny/roberta",
    "datasets.*.synsets": "tiny/llama/config.json",
    "datasets.*.val_labels": "tiny/llama/config.json",
    "datasets.*.captions": "tiny/coco/questions.json",
    "datasets.*.questions": "tiny/coco/annotations.json",
    "datasets.*.annotations": "tiny/coco/questions.json",
    "datasets.*.images": "train2014",
    "samples.classification.dataset": "imagenet",
    "samples.*.dataset": "mini-imagenet",
    "tokenizers.lqae.method": ("train_tokenizer .*/lqae.safetensors", "make_tables .*/table2"),  # not there any more
    "tokenizers.*.train_tokenizer": {"epsilon": 1e-6},
    "tokenizers.*.weights": "tiny/roberta/model.safetensors",
    "tokenizers.*.start_from": "tiny/roberta/model.safetensors",
    "tokenizers.*.language_model": "tiny/llama",
    "tokenizers.spae.pyramid": [1, 1, 4],
    "tokenizers.spae.semantic_layers": 1,
    "fetch_assets.assets": ["lpips"],
    "expand_vocabulary.prompt": "a picture of",
    "filter_vocabulary.dataset": "mini-imagenet",
    "filter_vocabulary.split": "val",
    "train_tokenizer.dataset": "mini-imagenet",
    "*.attention_levels": [1],
    "*.grid_of": {"lqae": [{"ways": [2], "tokens": [12]}]},
    "*.held_out.tokenizers": ["v2l"],
    "*.episode_files": "tiny/coco/questions.json",
    "*.betas": [0.1, 0.2],
    "*.blur_kernels": [3, 5],
    "*.blur_sigma": 1.5,
    "*.images_of": {"vqgan": 3},
    "*.instruction": "Say {count}:",
    "*_split": "train",
    "*_weights": "tiny/roberta/model.safetensors",
    "*.grid": [{"ways": [2], "tokens": [5]}],
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
        return next(other for other in literals if other != value)
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


def overrides(key: str) -> list[str]:
    """Arguments of `--config` that edit a key; names of registry entries have no dots."""
    first, *rest = key.split(".")
    if given := [value for pattern, value in SECTIONS.items() if fnmatchcase(key, pattern)]:
        sections = given[0]
    else:
        value = edited(key)
        for step in reversed(rest):
            value = {step: value}
        sections = {first: value}
    return [text.replace("NAME", rest[0] if rest else "") for text in _arguments(sections)]


def _arguments(sections: dict[str, Any]) -> list[str]:
    return [f"{name}={json.dumps(value)}" for name, value in sections.items()]


@pytest.mark.parametrize("key", KEYS)
def test_an_edit_runs_its_own_jobs_again_and_what_lies_below(dry_runs, whole, key):
    patterns = next((jobs for pattern, jobs in VERDICTS.items() if fnmatchcase(key, pattern)), None)
    assert patterns is not None, f"{key} has no line in VERDICTS"
    plan = dry_runs.plan("--config", "experiment=tiny", *overrides(key))
    if SELECTION in KEYS[key][1].metadata:
        assert all(re.match(SHOWS, name) for name in running(plan))
    else:
        assert running(plan) == below(plan or whole, tuple(pattern.format(*key.split(".")) for pattern in patterns))


@pytest.mark.parametrize(
    "sections",
    [
        {"tokenizers": {"lqae": {"train_tokenizer": {"loss": {"codebook": 1}}}}},
        {"tokenizers": {"lqae": {"train_tokenizer": {"loss": {"perceptual": 0.0}}}}},
        {"train_tokenizer": {"weight_decay": 0, "betas": [0.50, 0.9]}},
    ],
)
def test_another_spelling_of_a_value_runs_nothing(dry_runs, sections):
    assert not running(dry_runs.plan("--config", "experiment=tiny", *_arguments(sections)))


# What is added -> sections that add it, and patterns of the jobs that are new or read it.
ADDED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a language model": (
        {
            "llms": {"twin": {"path": "tiny/llama", "dtype": "float32"}},
            "evaluate_llm": {"restoration": {"llms": ["tiny-llama", "twin"]}},
        },
        ("evaluate_llm .*/twin/restoration",),
    ),
    "a tokenizer": (
        {
            "tokenizers": {"twin": {"method": "vqgan"}},
            "train_tokenizer": {"tokenizers": ["v2l", "v2l-local", "v2l-subword", "vqgan", "lqae", "spae", "twin"]},
        },
        ("train_tokenizer .*/twin.safetensors",),
    ),
    "a tokenizer of a task": (
        {"evaluate_llm": {"captioning": {"tokenizers": ["v2l", "spae"]}}},
        ("(extract_tokens|evaluate_llm) .*/spae/.*captioning",),
    ),
    "a shot count": (
        {
            "evaluate_llm": {
                "classification": {
                    "grid": [
                        {"ways": [2], "tokens": [3, 5], "induction": [False, True]},
                        {"ways": [2], "tokens": [3], "inner_shots": [3, 5], "repeats": [1]},
                    ]
                }
            }
        },
        (r"evaluate_llm .*/(v2l|spae)/.*/classification",),
    ),
    "a task": (
        {
            "extensions": [str(ROOT / "tests/extending/restoration_task.py")],
            "evaluate_llm": {"restoration": {"tasks": [*RESTORATION_TASKS, "salt-and-pepper"]}},
            "samples": {"restoration": {"corruptions": ["none", *RESTORATION_TASKS, "salt-and-pepper"]}},
        },
        ("(extract_tokens|evaluate_llm|reconstruct_images.*) .*/restoration",),
    ),
    "a tokenizer for a fine-tuned model": (
        {"evaluate_llm": {"masked": {"tokenizers": ["v2l", "spae"]}}},
        ("(extract_tokens|finetune_llm|evaluate_llm|reconstruct_images) .*/spae/.*(finetuning|adapter|masked)",),
    ),
}


@pytest.mark.parametrize("what", ADDED)
def test_something_added_runs_its_own_jobs_and_what_lies_below(dry_runs, what):
    sections, patterns = ADDED[what]
    plan = dry_runs.plan("--config", "experiment=tiny", *_arguments(sections))
    assert running(plan) and running(plan) == below(plan, patterns)


def test_the_order_of_a_selection_runs_only_what_shows_it(dry_runs):
    names = ["spae", "lqae", "vqgan", "v2l-subword", "v2l-local", "v2l"]
    sections = {"train_tokenizer": {"tokenizers": names}, "evaluate_llm": {"restoration": {"tokenizers": names[:3]}}}
    planned = running(dry_runs.plan("--config", "experiment=tiny", *_arguments(sections)))
    assert planned and all(re.match(SHOWS, name) for name in planned)
