"""What the rule files need to know about stages: order, code, commands, and who evaluates what."""

import ast
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

from v2l.config import Config, canonical_json
from v2l.errors import UserError
from v2l.stage import project

STAGES = (
    "fetch_assets",
    "index_images",
    "expand_vocabulary",
    "embed_vocabulary",
    "embed_images",
    "filter_vocabulary",
    "train_tokenizer",
    "extract_tokens",
    "reconstruct_images",
    "evaluate_llm",
    "score_predictions",
    "make_tables",
    "make_figures",
)
TABLES = ("table1_classification", "table2_semantics", "table3_reconstruction", "table4_restoration")
FIGURES = ("global_tokens", "reconstruction", "restoration")
WORDLESS = ("v2l-local", "vqgan")  # methods whose tokens stand for no words
PACKAGE = Path(__file__).parent
PATH_KEYS = {
    "llms": ("path",),
    "encoders": ("weights", "text", "image", "class_names"),
    "datasets": ("root", "synsets", "val_labels"),
    "tokenizers": ("checkpoint", "checkpoint_config", "codebooks", "language_model"),
}


def stage_code(stage: str) -> list[str]:
    """Source files of a stage: its module and every `v2l` module it imports, directly or not.

    The modules that define every config key are left out: a new key of one stage must not rerun the others.
    """
    found: set[Path] = set()
    pending = [PACKAGE / f"{stage}.py"]
    while pending:
        path = pending.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            pending += [source for name in names if (source := _source(name))]
    shared = {PACKAGE / f"{name}.py" for name in ("config", "config_training", "registries", "__init__")}
    return sorted(os.path.relpath(path) for path in found - shared)


def _source(module: str) -> Path | None:
    head, *parts = module.split(".")
    if head != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*parts)
    candidates = [base / "__init__.py", base.with_suffix(".py")]
    return next((path for path in candidates if path.is_file()), None)


def stage_command(stage: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> str:
    """The shell template of a rule: `python -m v2l.<stage>` with its named inputs and outputs."""
    files = [f"--input {name} {{input.{name}:q}}" for name in inputs]
    files += [f"--output {name} {{output.{name}:q}}" for name in outputs]
    return " ".join(["python -m", f"v2l.{stage}", "--config {params.config:q}", *files, "--log {log:q}"])


def launched(command: str, resources: Iterable[str]) -> str:
    """`command` under `v2l.launch`, which starts it where and as wide as the rule's resources say."""
    values = " ".join(f"{name}={{resources.{name}:q}}" for name in resources)
    return f"exec python -m v2l.launch {values} -- {command}"


def slicer(config: Config, *keys: str, **job: str) -> Callable:
    """A params function: wildcards -> canonical JSON of the slice; `keys` and `job` may hold `{wildcard}`."""

    def slice_for(wildcards) -> str:
        values = dict(wildcards.items())
        names = [key.format(**values) for key in keys]
        return canonical_json(project(config, names, {key: value.format(**values) for key, value in job.items()}))

    return slice_for


def classifications(config: Config) -> list[tuple[str, str]]:
    """(tokenizer, predictor) of every few-shot classification run; clip-prototype runs once."""
    section = config.evaluate_llm.classification
    runs = [(tokenizer, llm) for tokenizer in section.tokenizers for llm in section.llms]
    for baseline in section.baselines:
        tokenizers = section.tokenizers[:1] if baseline == "clip-prototype" else section.tokenizers
        runs += [(tokenizer, baseline) for tokenizer in tokenizers]
    return runs


def restorations(config: Config) -> list[tuple[str, str]]:
    """(tokenizer, predictor) of every restoration run."""
    section = config.evaluate_llm.restoration
    return [(tokenizer, name) for tokenizer in section.tokenizers for name in [*section.llms, *section.baselines]]


def reconstructed(config: Config) -> list[str]:
    """Tokenizers of table 3; v2l-subword differs from v2l in its words alone and stands in tables 1 and 2."""
    return [name for name in config.train_tokenizer.tokenizers if config.tokenizers[name].method != "v2l-subword"]


def imported(config: Config) -> list[str]:
    """Tokenizers of the registry whose weights come from a published checkpoint."""
    return [name for name, entry in config.tokenizers.items() if entry.imported]


def one_of(names: list[str]) -> str:
    """A wildcard's pattern that matches these names alone; none of them, nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


def own_files(config: Config, tokenizer: str) -> list[str]:
    """The user's files that an imported tokenizer is made of, as far as they are there.

    Those that are not are reported by `missing_paths`, all at once; those of an asset come with it.
    """
    values = config.tokenizers[tokenizer].files.values()
    files = [path for value in values for path in (value if isinstance(value, list) else [value])]
    return [str(path) for path in files if path.exists() and not asset_of(str(path))]


def score_sources(config: Config, table: str) -> list[str]:
    """`<tokenizer>/<source>` of every score that a table is made of."""
    trained = config.train_tokenizer.tokenizers
    if table == "table1_classification":
        return [f"{tokenizer}/classification.{name}" for tokenizer, name in classifications(config)]
    if table == "table2_semantics":
        return [f"{name}/semantics" for name in trained if config.tokenizers[name].method not in WORDLESS]
    if table == "table3_reconstruction":
        return [f"{name}/reconstruction" for name in reconstructed(config)] + ["pixels/mean-image"]
    oracles = [f"{name}/restoration.tokenizer-oracle" for name in config.evaluate_llm.restoration.tokenizers]
    runs = [f"{tokenizer}/restoration.{name}" for tokenizer, name in restorations(config)]
    return [*runs, *oracles, "pixels/corrupted-input"]


def paths_in(data: dict) -> dict[str, str]:
    """Every model and data path that a slice of the configuration names, by dotted key."""
    paths = {}
    for registry, keys in PATH_KEYS.items():
        for name, entry in data.get(registry, {}).items():
            paths |= {f"{registry}.{name}.{key}": entry[key] for key in keys if entry.get(key)}
    loss = data.get("train_tokenizer", {}).get("loss", {})
    if loss.get("perceptual"):
        paths["train_tokenizer.loss.perceptual_weights"] = loss["perceptual_weights"]
    scores = data.get("score_predictions", {})
    paths |= {f"score_predictions.{key}": scores[key] for key in ("lpips_weights", "frechet_weights") if key in scores}
    return paths


def asset_of(path: str) -> str | None:
    """The asset that a path lies in (`assets/<name>/...`), or None for the user's own files."""
    parts = Path(path).parts
    return parts[1] if len(parts) > 1 and parts[0] == "assets" else None


def asset_records(config: Config, *keys: str) -> list[str]:
    """Records of the assets that a slice reads: the inputs that make Snakemake fetch them first."""
    names = {asset_of(path) for path in paths_in(project(config, list(keys))).values()}
    return sorted(f"assets/{name}/asset.json" for name in names if name)


def missing_paths(slices: list[str]) -> list[str]:
    """The user's own paths that jobs need and that do not exist: `key: path`, each once."""
    wanted = {item for text in slices for item in paths_in(json.loads(text)).items()}
    return sorted(f"{key}: {path}" for key, path in wanted if not asset_of(path) and not Path(path).exists())


def missing_text(missing: list[str]) -> str:
    """The message for `missing_paths`."""
    problem = "paths that this run needs do not exist:\n  " + "\n  ".join(missing) + "\n"
    return str(UserError(problem, "your own files and folders", "put them there, or set these keys of the experiment"))


def check_assets(config: Config, lock: Path = Path("config/assets.lock")) -> None:
    """Raise UserError if a path lies in an asset that the lock does not have."""
    known = yaml.safe_load(lock.read_text())
    for key, path in paths_in(config.model_dump(mode="json")).items():
        if (asset := asset_of(path)) and asset not in known:
            raise UserError(
                f"`{key}` is {path}", f"an asset of {lock} ({', '.join(known)})", "lock it, or use another path"
            )


def used_datasets(config: Config) -> list[str]:
    """Data sets that the experiment's stages and samples select, each once."""
    names = {config.filter_vocabulary.dataset, config.train_tokenizer.dataset}
    return sorted(names | {sample.dataset for sample in config.samples.values()})


def shown_sources(config: Config) -> dict[str, list[str]]:
    """`<tokenizer>/<source>` of the images in each figure; restorations by the first tokenizer."""
    shown = config.evaluate_llm.restoration.tokenizers[0]
    predictors = [name for tokenizer, name in restorations(config) if tokenizer == shown]
    restored = [f"{shown}/restoration.{name}" for name in [*predictors, "tokenizer-oracle"]]
    return {
        "reconstruction": [f"{name}/reconstruction" for name in reconstructed(config)],
        "restoration": ["pixels/corrupted-input", *restored],
    }
