"""The entry point that every stage module shares.

A rule passes its own slice of the configuration as canonical JSON; `StageConfig` is that slice, typed. A stage that
reads a section which its rule did not pass fails at once, so the rerun triggers can be trusted.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from v2l.config import Config, EvaluateLLM, canonical_json
from v2l.errors import UserError

Paths = dict[str, Path | list[Path]]

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


def stage_parser(stage: str) -> argparse.ArgumentParser:
    """The command line that every stage shares; `paths_of` reads its inputs and outputs."""
    parser = argparse.ArgumentParser(prog=f"python -m v2l.{stage}")
    parser.add_argument("--config", required=True)
    parser.add_argument("--input", nargs="+", action="append", default=[], metavar=("NAME", "PATH"))
    parser.add_argument("--output", nargs="+", action="append", default=[], metavar=("NAME", "PATH"))
    parser.add_argument("--log", type=Path)
    parser.add_argument("--machine", type=_setting, action="append", default=[], metavar="KEY=VALUE")
    return parser


def run_stage(run: Callable[[StageConfig, Paths, Paths], None]) -> None:
    """Parse a stage's command line, call `run(config, inputs, outputs)` and report the outcome in one line.

    Arguments: `--config JSON`, `--input NAME PATH...` and `--output NAME PATH...` (repeatable), `--log FILE`,
    `--machine KEY=VALUE` (repeatable). An input or output given as one path is a Path, as several a list of them; a
    name without a path is left out.
    """
    stage = Path(sys.modules[run.__module__].__file__).stem
    arguments = stage_parser(stage).parse_args()
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if arguments.log and os.environ.get("RANK", "0") == "0":  # of several ranks, the first writes the file
        arguments.log.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(arguments.log, mode="w"))
    logging.basicConfig(level=logging.INFO, format=f"{stage}: %(message)s", handlers=handlers, force=True)
    for library in ("httpx", "httpx2", "matplotlib", "PIL", "transformers"):
        logging.getLogger(library).setLevel(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        config = StageConfig(stage, json.loads(arguments.config), dict(arguments.machine))
        run(config, paths_of(arguments.input), paths_of(arguments.output))
    except UserError as error:
        logging.error("error: %s", error)
        sys.exit(1)
    except Exception:
        logging.exception("failed")
        sys.exit(1)


def _setting(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def paths_of(pairs: list[list[str]]) -> Paths:
    """Name -> path, or list of paths where there are several; a name without a path is left out."""
    return {
        name: Path(paths[0]) if len(paths) == 1 else [Path(path) for path in paths] for name, *paths in pairs if paths
    }
