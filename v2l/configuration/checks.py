"""What the types of a configuration do not say: names that must exist, and settings that must fit each other."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from v2l.configuration.config import Config
from v2l.configuration.imported_weights import imported_files, is_imported
from v2l.configuration.messages import describe
from v2l.configuration.tokenizer_entries import SPAEEntry
from v2l.configuration.variants import map_side, pyramid_problem, variant_settings

SHARED_KEYS = ("dataset", "splits", "tokenizers")  # of train_tokenizer: the same for every variant


def dangling(config: Config) -> Iterator[str]:
    """Selections that name no registry entry, one sentence each."""
    tasks = dict(config.evaluate_llm)
    selections = [
        ("encoder", [config.encoder], "encoders"),
        ("expand_vocabulary.llm", [config.expand_vocabulary.llm], "llms"),
        ("filter_vocabulary.dataset", [config.filter_vocabulary.dataset], "datasets"),
        ("train_tokenizer.dataset", [config.train_tokenizer.dataset], "datasets"),
        ("train_tokenizer.tokenizers", config.train_tokenizer.tokenizers, "tokenizers"),
        ("evaluate_llm.classification.grid_of", list(tasks["classification"].grid_of), "tokenizers"),
        ("evaluate_llm.restoration.images_of", list(tasks["restoration"].images_of), "tokenizers"),
    ]
    selections += [(f"evaluate_llm.{name}.llms", task.llms, "llms") for name, task in tasks.items()]
    selections += [(f"samples.{name}.dataset", [sample.dataset], "datasets") for name, sample in config.samples.items()]
    for key, names, registry in selections:
        for name in names:
            if name not in getattr(config, registry):
                yield f"`{key}`: {name!r} is not in `{registry}` ({', '.join(getattr(config, registry)) or 'empty'})"
    trained = config.train_tokenizer.tokenizers
    if not trained:
        yield "`train_tokenizer.tokenizers`: empty; at least one variant must be trained"
    for key, task in tasks.items():
        for name in task.tokenizers:
            if name not in trained:
                known = ", ".join(trained)
                yield f"`evaluate_llm.{key}.tokenizers`: {name!r} is not in `train_tokenizer.tokenizers` ({known})"
    restoration = tasks["restoration"]
    for name in restoration.held_out.tokenizers or []:
        if name not in restoration.tokenizers:
            key, known = "evaluate_llm.restoration.held_out.tokenizers", ", ".join(restoration.tokenizers)
            yield f"`{key}`: {name!r} is not in `restoration.tokenizers` ({known})"
    optional = [name for name in ("masked", "captioning", "vqa") if not tasks[name].tokenizers]
    optional += ["finetuning"] if "masked" in optional else []
    for name in ("semantics", "reconstruction", *tasks, "finetuning"):
        if name not in config.samples and name not in optional:
            yield f"`samples.{name}`: missing; the tables need it"


def wrong_variants(config: Config) -> Iterator[str]:
    """What is wrong with tokenizer variants and the keys of train_tokenizer that they set, one sentence each."""
    for name, entry in config.tokenizers.items():
        key = f"tokenizers.{name}.train_tokenizer"
        for shared in set(SHARED_KEYS) & set(entry.train_tokenizer):
            yield f"`{key}.{shared}`: the same for every variant; set it in `train_tokenizer`"
        for origin, paths in imported_files(entry).items():
            if Path(f"results/{config.experiment}/train_tokenizer/{name}.safetensors") in paths:
                yield f"`tokenizers.{name}.{origin}`: {paths[0]} is what this tokenizer's training writes"
        try:
            settings = variant_settings(config.train_tokenizer, entry)
        except ValidationError as error:
            yield from (describe(item, entry.train_tokenizer, "TrainTokenizer", f"{key}.") for item in error.errors())
            continue
        if settings.decoded_images and settings.augmentation == "random-resized-crop" and not is_imported(entry):
            yield (
                f"`{key}.decoded_images`: true, but augmentation random-resized-crop takes crops of whole "
                "pictures; set it to false there"
            )
        if isinstance(entry, SPAEEntry) and (problem := pyramid_problem(entry, map_side(settings.network))):
            yield f"`tokenizers.{name}.pyramid`: {problem}, got {entry.pyramid}"
