"""The part of the configuration that one job gets: what its rule passes, as canonical JSON, and nothing else.

A stage that reads a key which its rule did not pass fails at once, so the rerun triggers can be trusted.
"""

from typing import Any

from pydantic import TypeAdapter

from v2l.configuration.config import Config, EvaluateLLM
from v2l.io.canonical import canonical_json

REGISTRIES = ("llms", "encoders", "datasets", "samples", "tokenizers")
SELECTIONS = [
    ("fetch_assets", "assets"),
    ("train_tokenizer", "tokenizers"),
    *[
        ("evaluate_llm", task, key)
        for task in EvaluateLLM.model_fields
        for key in ("tokenizers", "llms", "baselines", "protocols")
    ],
    ("evaluate_llm", "restoration", "held_out", "tokenizers"),
]


class StageConfig:
    """A typed slice of `Config` plus `job`, the rule's wildcards (for example the tokenizer's name).

    Attributes are the `Config` fields that `data` holds (`config.seed`, `config.expand_vocabulary`,
    `config.llms["name"]`); `stage` is the stage's name and `data` the plain JSON value. `machine` holds what a profile
    says of the machine (shards, device map): it decides no result and is in no record.
    """

    def __init__(self, stage: str, data: dict[str, Any], machine: dict[str, str] | None = None):
        self.stage, self.data, self.machine = stage, data, machine or {}
        self.job: dict[str, str] = data.get("job", {})
        for key, value in data.items():
            if key != "job":
                field = Config.model_fields[key]
                setattr(self, key, TypeAdapter(field.annotation).validate_python(value))

    def __getattr__(self, name: str):
        raise AttributeError(f"stage {self.stage} has no config section {name!r}: add it to the rule's params")

    @property
    def text(self) -> str:
        """Canonical JSON of the slice."""
        return canonical_json(self.data)


def project(config: Config, keys: list[str], job: dict[str, str] | None = None) -> dict[str, Any]:
    """The slice of `config` under dotted `keys` (`seed`, `train_tokenizer`, `llms.<name>`) with `job`.

    Selections (which models and variants an experiment runs) are left out: a further one must not rerun the others.
    """
    full = config.model_dump(mode="json")
    data: dict[str, Any] = {"job": job} if job else {}
    for key in keys:
        *parents, last = key.split(".", 1) if key.split(".")[0] in REGISTRIES else key.split(".")
        source, target = full, data
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        target[last] = source[last]
    for *parents, last in SELECTIONS:
        section = data
        for parent in parents:
            section = section.get(parent, {})
        section.pop(last, None)
    return data
