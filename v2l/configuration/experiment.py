"""Loading an experiment: defaults, then config/experiments/<name>.yaml, then config/config.yaml and --config."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from v2l.configuration.cell_settings import CELL_SETTINGS
from v2l.configuration.checks import dangling, wrong_variants
from v2l.configuration.config import Config
from v2l.configuration.dataset_entries import DATASET_KINDS
from v2l.configuration.extensions import check_added, load_extensions
from v2l.configuration.messages import describe
from v2l.configuration.metrics import IMAGE_METRICS
from v2l.configuration.model_entries import ENCODER_KINDS
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.configuration.tokenizer_entries import TOKENIZER_METHODS
from v2l.configuration.variants import merge
from v2l.errors import UserError
from v2l.io.yaml_files import read_mapping

EXTENSIBLE = (DATASET_KINDS, ENCODER_KINDS, TOKENIZER_METHODS, RESTORATION_TASKS, IMAGE_METRICS, CELL_SETTINGS)


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
    base = experiment_values(name, folder)
    return validate(merge(base, overrides), source=f"{folder}/{name}.yaml with config/config.yaml and --config")


def experiment_values(name: str, folder: Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys of an experiment's file, laid over those of the experiment that it is `based_on`.

    `above` are the experiments that are based on this one. Raises UserError for a file that is not YAML, and for one
    that is based on no experiment or, by a circle, on itself.
    """
    path = folder / f"{name}.yaml"
    values = read_mapping(path, "a mapping of config keys")
    base = values.get("based_on")
    if base is None:
        return values
    others = sorted({other.stem for other in folder.glob("*.yaml")} - {name, *above})
    if base not in others:
        raise UserError(f"`based_on` of {path} is {base!r}", f"one of {others}", "name one of them, or drop the key")
    return merge(experiment_values(base, folder, (*above, name)), values)


def validate(data: dict[str, Any], source: str) -> Config:
    """`data` as a Config whose selections all name registry entries; raises UserError with every problem found.

    Extensions that `data` names are imported first, for they may add what it names.
    """
    extensions = data.get("extensions") or []
    load_extensions([path for path in extensions if isinstance(path, str)] if isinstance(extensions, list) else [])
    check_added(EXTENSIBLE)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        problems = [describe(item, data) for item in error.errors()]
        raise UserError(
            "configuration is not valid:\n  " + "\n  ".join(problems) + "\n",
            "the keys of config/schema.json",
            f"mend {source}",
        ) from None
    problems = [*wrong_variants(config), *dangling(config)]
    if problems:
        raise UserError(
            "configuration is not valid:\n  " + "\n  ".join(problems) + "\n",
            "the keys of config/schema.json and names of registry entries",
            f"mend {source}",
        )
    return config
