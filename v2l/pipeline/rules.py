"""What the rule files need to know about stages: order, code, commands, and the files that they read."""

import ast
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, product
from pathlib import Path

import yaml

from v2l.configuration.config import Config
from v2l.configuration.slices import project
from v2l.errors import UserError
from v2l.io.canonical import canonical_json

STAGES = (
    "fetch_assets",
    "index_images",
    "expand_vocabulary",
    "embed_vocabulary",
    "embed_images",
    "filter_vocabulary",
    "train_tokenizer",
    "extract_tokens",
    "finetune_llm",
    "reconstruct_images",
    "evaluate_llm",
    "score_predictions",
    "make_tables",
    "make_figures",
)
PACKAGE = Path(__file__).parents[1]
PATH_KEYS = {
    "llms": ("path",),
    "encoders": ("weights", "text", "image", "class_names"),
    "datasets": ("root", "synsets", "val_labels"),
    "tokenizers": ("checkpoint", "checkpoint_config", "codebooks", "language_model"),
}
SPLIT_PATH_KEYS = ("captions", "questions", "annotations")  # of each of a data set's `splits`


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
    declarations = ("config", "entry", "evaluation", "llm_finetuning", "tokenizer_training")
    shared = {PACKAGE / "__init__.py", *(PACKAGE / f"configuration/{name}.py" for name in declarations)}
    shared |= set(PACKAGE.glob("configuration/*_entries.py"))
    return sorted(os.path.relpath(path) for path in found - shared)


def _source(module: str) -> Path | None:
    head, *parts = module.split(".")
    if head != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*parts)
    candidates = [base / "__init__.py", base.with_suffix(".py")]
    return next((path for path in candidates if path.is_file()), None)


def stage_command(stage: str, inputs: Sequence[str], outputs: Sequence[str], machine: Iterable[str] = ()) -> str:
    """The shell template of a rule: `python -m v2l.<stage>` with its named inputs, outputs and machine resources."""
    files = [f"--input {name} {{input.{name}:q}}" for name in inputs]
    files += [f"--output {name} {{output.{name}:q}}" for name in outputs]
    files += [f"--machine {name}={{resources.{name}:q}}" for name in machine]
    return " ".join(["python -m", f"v2l.{stage}", "--config {params.config:q}", *files, "--log {log:q}"])


def launched(command: str, resources: Iterable[str]) -> str:
    """`command` under `v2l.cluster.launch`, which starts it where and as wide as the rule's resources say."""
    values = " ".join(f"{name}={{resources.{name}:q}}" for name in resources)
    return f"exec python -m v2l.cluster.launch {values} -- {command}"


def slicer(config: Config, *keys: str, **job: str) -> Callable:
    """A params function: wildcards -> canonical JSON of the slice; `keys` and `job` may hold `{wildcard}`."""

    def slice_for(wildcards) -> str:
        values = dict(wildcards.items())
        names = [key.format(**values) for key in keys]
        return canonical_json(project(config, names, {key: value.format(**values) for key, value in job.items()}))

    return slice_for


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


def paths_in(data: dict) -> dict[str, str]:
    """Every model and data path that a slice of the configuration names, by dotted key."""
    paths = {}
    for registry, keys in PATH_KEYS.items():
        for name, entry in data.get(registry, {}).items():
            paths |= {f"{registry}.{name}.{key}": entry[key] for key in keys if entry.get(key)}
            for split, files in entry.get("splits", {}).items():
                place = f"{registry}.{name}.splits.{split}"
                paths |= {f"{place}.{key}": files[key] for key in SPLIT_PATH_KEYS if key in files}
    few_shot = data.get("evaluate_llm", {}).get("classification", {})
    for shape, path in episode_files(few_shot).items():
        paths[f"evaluate_llm.classification.episode_files ({shape[0]}-way, {shape[1]} shots)"] = path
    loss = data.get("train_tokenizer", {}).get("loss", {})
    if loss.get("perceptual"):
        paths["train_tokenizer.loss.perceptual_weights"] = loss["perceptual_weights"]
    scores = data.get("score_predictions", {})
    paths |= {f"score_predictions.{key}": scores[key] for key in ("lpips_weights", "frechet_weights") if key in scores}
    return paths


def episode_files(section: dict) -> dict[tuple[int, int], str]:
    """(ways, inner shots) -> file, of every cell that section `evaluate_llm.classification` (plain JSON) asks."""
    pattern = section.get("episode_files")
    grids = [*section.get("grid", []), *chain.from_iterable(section.get("grid_of", {}).values())]
    shapes = {pair for grid in grids for pair in product(grid["ways"], grid["inner_shots"])}
    return (
        {(ways, shots): pattern.format(ways=ways, inner_shots=shots) for ways, shots in sorted(shapes)}
        if pattern
        else {}
    )


def used_episode_files(config: Config) -> list[str]:
    """Files of episodes that few-shot classification reads."""
    section = config.evaluate_llm.classification.model_dump(mode="json")
    return sorted(set(episode_files(section).values()))


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
