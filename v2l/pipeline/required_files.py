"""The files that jobs read besides each other's outputs: the user's own, and those of downloaded assets."""

import json
from collections.abc import Collection
from itertools import chain, product
from pathlib import Path
from typing import Any

from v2l.configuration.config import Config
from v2l.configuration.entry import USER_FILE
from v2l.configuration.imported_weights import how_to_make, imported_files
from v2l.configuration.run_settings import for_run
from v2l.configuration.runs import Run
from v2l.configuration.slices import marked, project
from v2l.configuration.variants import variant_settings
from v2l.errors import UserError
from v2l.io.canonical import canonical_json
from v2l.io.yaml_files import read_mapping

LOCK = Path("config/assets.lock")
LOCKED = "a mapping of asset names to entries"


def paths_in(data: dict[str, Any]) -> dict[str, str]:
    """Every model and data path that a slice of the configuration (plain JSON) names, by dotted key."""
    paths = dict(marked(USER_FILE, Config, data))
    few_shot = data.get("evaluate_llm", {}).get("classification", {})
    for (ways, shots), path in episode_files(few_shot).items():
        paths[f"evaluate_llm.classification.episode_files ({ways}-way, {shots} shots)"] = path
    return paths


def episode_files(section: dict[str, Any]) -> dict[tuple[int, int], str]:
    """(ways, inner shots) -> file, of every cell that section `evaluate_llm.classification` (plain JSON) asks."""
    pattern = section.get("episode_files")
    if not pattern:
        return {}
    grids = [*section.get("grid", []), *chain.from_iterable(section.get("grid_of", {}).values())]
    shapes = {pair for grid in grids for pair in product(grid["ways"], grid["inner_shots"])}
    return {(ways, shots): pattern.format(ways=ways, inner_shots=shots) for ways, shots in sorted(shapes)}


def used_episode_files(config: Config, run: Run) -> list[str]:
    """Files of episodes that a run of few-shot classification reads."""
    section = for_run(config.evaluate_llm.classification, run.tokenizer, run.source.protocol)
    return sorted(set(episode_files(section.model_dump(mode="json")).values()))


def own_files(config: Config, tokenizer: str) -> list[str]:
    """The user's files that a tokenizer's weights come from, as far as they are there or another tokenizer's training
    of this experiment writes them.

    Others are reported by `missing_paths`, all at once; those of an asset come with it.
    """
    files, made = chain.from_iterable(imported_files(config.tokenizers[tokenizer]).values()), trained_files(config)
    return [str(path) for path in files if (path.exists() or str(path) in made) and not asset_of(str(path))]


def trained_files(config: Config) -> set[str]:
    """The weights files that this experiment itself makes."""
    return {f"results/{config.experiment}/train_tokenizer/{name}.safetensors" for name in config.tokenizers}


def decoded_files(config: Config, tokenizer: str) -> list[str]:
    """The decoded pictures that the training of a tokenizer reads; none if it decodes them itself."""
    settings = variant_settings(config.train_tokenizer, config.tokenizers[tokenizer])
    size, via = settings.network.image_size, settings.network.resize_via
    name = f"{settings.dataset}.{size}px" + (f"-via-{via}" if via else "")
    return [f"results/{config.experiment}/decode_images/{name}.npy"] if settings.decoded_images else []


def asset_of(path: str) -> str | None:
    """The asset that a path lies in (`assets/<name>/...`), or None for the user's own files."""
    parts = Path(path).parts
    return parts[1] if len(parts) > 1 and parts[0] == "assets" else None


def asset_records(config: Config, *keys: str) -> list[str]:
    """Records of the assets that a slice reads: the inputs that make Snakemake fetch them first."""
    names = {asset_of(path) for path in paths_in(project(config, list(keys))).values()}
    return sorted(f"assets/{name}/asset.json" for name in names if name)


def missing_paths(slices: list[str], made: Collection[str] = ()) -> list[str]:
    """The user's own paths that jobs need, that do not exist and are not `made` by the run: `key: path`, each once.

    Behind a tokenizer's weights file stands what makes it.
    """
    wanted = {item for text in slices for item in paths_in(json.loads(text)).items()}
    absent = [item for item in wanted if not asset_of(item[1]) and item[1] not in made and not Path(item[1]).exists()]
    return sorted(f"{key}: {path}{_origin(key, path)}" for key, path in absent)


def _origin(key: str, path: str) -> str:
    is_weights = key.startswith("tokenizers.") and key.endswith((".weights", ".start_from"))
    return f" ({how_to_make(Path(path))})" if is_weights else ""


def missing_text(missing: list[str]) -> str:
    """The message for `missing_paths`."""
    problem = "paths that this run needs do not exist:\n  " + "\n  ".join(missing) + "\n"
    return str(UserError(problem, "your own files and folders", "put them there, or set these keys of the experiment"))


def lock_entry(asset: str, lock: Path = LOCK) -> str:
    """The lock's entry of an asset as canonical JSON, or nothing: its comments and other entries change no asset."""
    return canonical_json(read_mapping(lock, LOCKED).get(asset))


def check_paths(config: Config, lock: Path = LOCK) -> None:
    """Raise UserError if a path lies in an asset that the lock does not have, and if a tokenizer's file, which is an
    input of a rule, has braces in its path."""
    known = read_mapping(lock, LOCKED)
    for key, path in paths_in(config.model_dump(mode="json")).items():
        if (asset := asset_of(path)) and asset not in known:
            raise UserError(
                f"`{key}` is {path}", f"an asset of {lock} ({', '.join(known)})", "lock it, or use another path"
            )
    for name, entry in config.tokenizers.items():
        for key, files in imported_files(entry).items():
            if braced := [str(path) for path in files if set("{}") & set(str(path))]:
                problem = f"`tokenizers.{name}.{key}` is {braced[0]}, with braces, which Snakemake takes for wildcards"
                raise UserError(problem, "a path without { and }", "rename the file or folder")
