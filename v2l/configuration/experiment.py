"""Loading an experiment: defaults, then config/experiments/<name>.yaml, then config/config.yaml and --config."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from v2l.configuration.config import Config
from v2l.configuration.tokenizer_entries import SPAEEntry
from v2l.configuration.tokenizer_training import TrainTokenizer, merge, training_settings
from v2l.errors import UserError

TAGGED = ("encoders", "datasets", "tokenizers")
SHARED_KEYS = ("dataset", "split", "tokenizers")  # of train_tokenizer: the same for every variant


def load_experiment(overrides: dict[str, Any], folder: Path = Path("config/experiments")) -> Config:
    """The validated configuration of the experiment that `overrides["experiment"]` names.

    Raises UserError that lists every wrong key with its path, what was expected and the nearest known key.
    """
    name = overrides.get("experiment")
    available = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in available:
        raise UserError(
            f"config key `experiment` is {name!r}", f"one of {available}", f"name one, or add {folder}/<name>.yaml"
        )
    path = folder / f"{name}.yaml"
    try:
        base = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise UserError(
            f"{path} is not YAML ({error})".replace("\n", " "), "a mapping of config keys", "mend the file"
        ) from None
    return validate(merge(base, overrides), source=f"{path} with config/config.yaml and --config")


def validate(data: dict[str, Any], source: str) -> Config:
    """`data` as a Config whose selections all name registry entries; raises UserError with every problem found."""
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        problems = [_describe(item) for item in error.errors()]
        raise UserError(
            "configuration is not valid:\n  " + "\n  ".join(problems) + "\n",
            "the keys of config/schema.json",
            f"mend {source}",
        ) from None
    problems = [*_variants(config), *_dangling(config)]
    if problems:
        raise UserError(
            "configuration is not valid:\n  " + "\n  ".join(problems) + "\n",
            "the keys of config/schema.json and names of registry entries",
            f"mend {source}",
        )
    return config


def _variants(config: Config):
    """What is wrong with tokenizer variants and the keys of train_tokenizer that they set, one sentence each."""
    for name, entry in config.tokenizers.items():
        key = f"tokenizers.{name}.train_tokenizer"
        for shared in set(SHARED_KEYS) & set(entry.train_tokenizer):
            yield f"`{key}.{shared}`: the same for every variant; set it in `train_tokenizer`"
        try:
            settings = training_settings(config.train_tokenizer, entry)
        except ValidationError as error:
            yield from (_describe(item, TrainTokenizer, f"{key}.") for item in error.errors())
            continue
        if isinstance(entry, SPAEEntry) and (problem := entry.pyramid_problem(settings.network.geometry.grid)):
            yield f"`tokenizers.{name}.pyramid`: {problem}, got {entry.pyramid}"


def _describe(item: dict, root: type[BaseModel] = Config, prefix: str = "") -> str:
    # pydantic puts the entry's `kind` or `method` behind the name of a registry entry: that is no key of the file
    steps = [str(step) for place, step in enumerate(item["loc"]) if not (place == 2 and item["loc"][0] in TAGGED)]
    path = prefix + ".".join(steps)
    if item["type"] == "extra_forbidden":
        known = _known_keys(item["loc"][:-1], root)
        near = difflib.get_close_matches(steps[-1], known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(sorted(known))}"
        return f"`{path}`: unknown key; {hint}"
    if item["type"] == "missing":
        return f"`{path}`: missing; this key has no default"
    return f"`{path}`: {item['msg']}, got {item['input']!r}"


def _known_keys(location: tuple, root: type[BaseModel] = Config) -> list[str]:
    """Keys of the config class that a validation error's location in `root` lies in."""
    definitions = root.model_json_schema()
    node: dict = definitions
    for step in location:
        node = _resolve(node, definitions)
        if "oneOf" in node and "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"].get(step, "")} if isinstance(step, str) else node
            continue
        node = node.get("properties", {}).get(step) or node.get("additionalProperties") or node.get("items") or {}
    return list(_resolve(node, definitions).get("properties", {}))


def _resolve(node: dict, definitions: dict) -> dict:
    reference = node.get("$ref", "")
    return definitions["$defs"].get(reference.rsplit("/", 1)[-1], {}) if reference else node


def _dangling(config: Config):
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
