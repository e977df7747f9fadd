"""What the rule files need to know about stages: order, code, commands, and who evaluates what."""

import ast
import json
import os
import re
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import yaml

from v2l.config import Config, canonical_json
from v2l.errors import UserError
from v2l.protocols import HELD_OUT, PAPER, run_name
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
TABLES = (
    *("table1_classification", "table2_semantics", "table3_reconstruction", "table4_restoration"),
    "table5_captioning_vqa",
)
FIGURES = ("global_tokens", "reconstruction", "restoration", "captioning_vqa")
TEXT_TASKS = ("captioning", "vqa")
WITHOUT_TOKENS = {("classification", "clip-prototype"), ("vqa", "majority-vote")}
WORDLESS = ("v2l-local", "vqgan")  # methods whose tokens stand for no words
PACKAGE = Path(__file__).parent
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
    shared = {PACKAGE / "registries.py", PACKAGE / "__init__.py", *PACKAGE.glob("config*.py")}
    return sorted(os.path.relpath(path) for path in found - shared)


def _source(module: str) -> Path | None:
    head, *parts = module.split(".")
    if head != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*parts)
    candidates = [base / "__init__.py", base.with_suffix(".py")]
    return next((path for path in candidates if path.is_file()), None)


def stage_command(stage: str, inputs: Sequence[str], outputs: Sequence[str], machine: Sequence[str] = ()) -> str:
    """The shell template of a rule: `python -m v2l.<stage>` with its named inputs, outputs and machine resources."""
    files = [f"--input {name} {{input.{name}:q}}" for name in inputs]
    files += [f"--output {name} {{output.{name}:q}}" for name in outputs]
    files += [f"--machine {name}={{resources.{name}:q}}" for name in machine]
    return " ".join(["python -m", f"v2l.{stage}", "--config {params.config:q}", *files, "--log {log:q}"])


def slicer(config: Config, *keys: str, **job: str) -> Callable:
    """A params function: wildcards -> canonical JSON of the slice; `keys` and `job` may hold `{wildcard}`."""

    def slice_for(wildcards) -> str:
        values = dict(wildcards.items())
        names = [key.format(**values) for key in keys]
        return canonical_json(project(config, names, {key: value.format(**values) for key, value in job.items()}))

    return slice_for


def task_runs(config: Config, task: str) -> list[tuple[str, str]]:
    """(tokenizer, run) of every run of a task but restoration; only language models differ by protocol.

    A predictor that reads no tokens runs once.
    """
    section = getattr(config.evaluate_llm, task)
    protocols = section.protocols if task == "classification" else [PAPER]
    names = [run_name(llm, protocol) for protocol in protocols for llm in section.llms]
    runs = [(tokenizer, name) for tokenizer in section.tokenizers for name in names]
    for baseline in section.baselines:
        tokenizers = section.tokenizers[:1] if (task, baseline) in WITHOUT_TOKENS else section.tokenizers
        runs += [(tokenizer, baseline) for tokenizer in tokenizers]
    return runs


def restorations(config: Config, predictors: list[str] | None = None) -> list[tuple[str, str]]:
    """(tokenizer, run) of every restoration, or of those by `predictors`: each protocol of each tokenizer."""
    section = config.evaluate_llm.restoration
    predictors = [*section.llms, *section.baselines] if predictors is None else predictors
    return [
        (tokenizer, run_name(name, protocol))
        for protocol in section.protocols
        for tokenizer in section.tokenizers
        for name in predictors
        if protocol != HELD_OUT or tokenizer in (section.held_out.tokenizers or section.tokenizers)
    ]


def tables(config: Config) -> list[str]:
    """The tables of an experiment: table 5 only if it answers in text."""
    return [table for table in TABLES if score_sources(config, table)]


def figures(config: Config) -> list[str]:
    """The figures of an experiment: answers in text only if there are some."""
    return [figure for figure in FIGURES if figure != "captioning_vqa" or "table5_captioning_vqa" in tables(config)]


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
        return [f"{tokenizer}/classification.{name}" for tokenizer, name in task_runs(config, "classification")]
    if table == "table2_semantics":
        return [f"{name}/semantics" for name in trained if config.tokenizers[name].method not in WORDLESS]
    if table == "table3_reconstruction":
        return [f"{name}/reconstruction" for name in reconstructed(config)] + ["pixels/mean-image"]
    if table == "table5_captioning_vqa":
        return [f"{tokenizer}/{task}.{name}" for task in TEXT_TASKS for tokenizer, name in task_runs(config, task)]
    runs = [*restorations(config), *restorations(config, ["tokenizer-oracle"])]
    return [*(f"{tokenizer}/restoration.{name}" for tokenizer, name in runs), "pixels/corrupted-input"]


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
    shapes = {pair for grid in section.get("grid", []) for pair in product(grid["ways"], grid["inner_shots"])}
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


def used_datasets(config: Config) -> list[str]:
    """Data sets that the experiment's stages and samples select, each once."""
    names = {config.filter_vocabulary.dataset, config.train_tokenizer.dataset}
    return sorted(names | {sample.dataset for sample in config.samples.values()})


def shown_sources(config: Config) -> dict[str, list[str]]:
    """`<tokenizer>/<source>` of the images in each figure; restorations by the first tokenizer and protocol."""
    section = config.evaluate_llm.restoration
    shown, protocol = section.tokenizers[0], section.protocols[0]
    predictors = [*section.llms, *section.baselines, "tokenizer-oracle"]
    restored = [f"{shown}/restoration.{run_name(name, protocol)}" for name in predictors]
    return {
        "reconstruction": [f"{name}/reconstruction" for name in reconstructed(config)],
        "restoration": ["pixels/corrupted-input", *restored],
    }


def shown_answers(config: Config) -> list[tuple[str, str]]:
    """(data set, `<tokenizer>/<predictor>/<task>`) of the answers that a figure shows: the first of each task."""
    runs = [(task, *task_runs(config, task)[:1]) for task in TEXT_TASKS]
    return [(config.samples[task].dataset, "/".join([*run[0], task])) for task, *run in runs if run]
