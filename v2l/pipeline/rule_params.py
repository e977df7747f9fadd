"""The params of rules: each job's slice of the configuration as canonical JSON."""

import json
import re
from collections.abc import Callable, Collection
from typing import Any

from v2l.configuration.baselines import BASELINES
from v2l.configuration.config import Config, EvaluateLLM
from v2l.configuration.imported_weights import is_imported
from v2l.configuration.registry import nearest
from v2l.configuration.run_settings import for_run
from v2l.configuration.slices import project
from v2l.configuration.sources import Source
from v2l.configuration.variants import variant_settings
from v2l.errors import UserError
from v2l.io.canonical import canonical_json
from v2l.pipeline import user_files
from v2l.pipeline.code_files import code_of
from v2l.pipeline.job_code import job_code


def slicer(config: Config, *keys: str, **job: str) -> Callable[[Any], str]:
    """A params function: wildcards -> canonical JSON of the slice; `keys` and `job` may hold `{wildcard}`."""

    def slice_for(wildcards: Any) -> str:
        return canonical_json(_slice(config, keys, job, wildcards))

    return slice_for


def training_slicer(config: Config, *keys: str, **job: str) -> Callable[[Any], str]:
    """As `slicer`, with section train_tokenizer as the variant of wildcard `tokenizer` changes it."""

    def slice_for(wildcards: Any) -> str:
        name = wildcards.tokenizer
        settings = variant_settings(config.train_tokenizer, config.tokenizers[name])
        data = _slice(config.model_copy(update={"train_tokenizer": settings}), keys, job, wildcards)
        if not is_imported(config.tokenizers[name]):
            del data["tokenizers"][name]["train_tokenizer"]  # what it says stands in the section
        return canonical_json(data)

    return slice_for


def params_of(
    config: Config,
    stage: str,
    slice_for: Callable[[Any], str],
    made: Collection[str] = (),
    follows_code: bool = True,
) -> dict[str, Callable]:
    """The params of a rule: `config`, its slice, `user_files`, the files of the user that its jobs read, `code`, what
    its modules do, and their names, `modules`.

    Snakemake runs a job again if one of the first three has changed; unless it `follows_code`, for `config` and
    `user_files` alone. `made` are files that other jobs write.
    """

    def names(wildcards: Any) -> tuple[str, ...]:
        return job_code(config, stage, json.loads(slice_for(wildcards)).get("job", {}))

    triggers: dict[str, Callable] = {
        "config": slice_for,
        "user_files": lambda wildcards: user_files.states(stage, json.loads(slice_for(wildcards)), made),
    }
    code: dict[str, Callable] = {"code": lambda wildcards: code_of(names(wildcards)).digest}
    # Of a function that looks at `output` Snakemake says that its result follows from other things, and compares none.
    return triggers | (code if follows_code else {}) | {"modules": lambda wildcards, output: list(names(wildcards))}


def _slice(config: Config, keys: tuple[str, ...], job: dict[str, str], wildcards: Any) -> dict[str, Any]:
    values = dict(wildcards.items())
    names = [key.format(**values) for key in keys]
    own = config.model_copy(update={"evaluate_llm": _tasks_of(config.evaluate_llm, values)})
    return project(own, names, {key: value.format(**values) for key, value in job.items()})


def _tasks_of(tasks: EvaluateLLM, values: dict[str, str]) -> EvaluateLLM:
    """The sections of the tasks without what they hold of other runs than that of the wildcards."""
    if "source" in values:
        source = Source.parse(values["source"])
    else:
        source = Source.of_run(values.get("task", ""), values.get("predictor", ""))
    sections = {name: getattr(tasks, name) for name in type(tasks).model_fields}
    own = {name: for_run(section, values.get("tokenizer", ""), source.protocol) for name, section in sections.items()}
    return tasks.model_copy(update=own)


def language_model_keys(config: Config, run: str) -> list[str]:
    """The registry key of a run's language model; none for a baseline. Raises UserError for a name that is neither."""
    name = Source.of_run("", run).predictor
    if name in config.llms:
        return [f"llms.{name}"]
    if name not in BASELINES:
        known = [*config.llms, *BASELINES]
        problem = f"predictor {name!r} is not known; {nearest(name, known)}"
        raise UserError(problem, f"one of {', '.join(known)}", "correct the name, or add it to `llms`")
    return []


def trained_names(config: Config) -> list[str]:
    """Tokenizers of the registry that are trained; the others' weights come from a file."""
    return [name for name, entry in config.tokenizers.items() if not is_imported(entry)]


def one_of(names: list[str]) -> str:
    """A wildcard's pattern that matches these names alone; none of them, nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"
