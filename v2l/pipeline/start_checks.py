"""What must hold before Snakemake reads the configuration: it executes nothing, and the folder has a usable name."""

from pathlib import Path

import yaml

from v2l.errors import UserError

TEMPLATES = "__use_yte__"  # the key that makes Snakemake execute the expressions of a YAML file


def check_start(project: Path, config_file: Path) -> None:
    """Raise UserError for a `project` folder with braces in its path, and a `config_file` that asks to be executed."""
    if set("{}") & set(str(project)):
        raise UserError(
            f"the path of the project, {project}, has braces, which Snakemake takes for wildcards",
            "a folder without { and }",
            "rename it, or move the project",
        )
    try:
        values = yaml.safe_load(config_file.read_text(encoding="utf-8")) if config_file.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        cause = " ".join(str(error).split())
        raise UserError(f"{config_file} is not YAML ({cause})", "a mapping of config keys", "mend the file") from None
    if isinstance(values, dict) and TEMPLATES in values:
        raise UserError(
            f"{config_file} has the key `{TEMPLATES}`, with which Snakemake executes Python code in the file",
            "values alone",
            "take the key out",
        )
