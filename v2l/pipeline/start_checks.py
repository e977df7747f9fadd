"""What must hold before Snakemake reads the configuration: it executes nothing, and the folder has a usable name."""

from pathlib import Path

from v2l.errors import UserError
from v2l.io.yaml_files import read_yaml

TEMPLATES = "__use_yte__"  # the key that makes Snakemake execute the expressions of a YAML file


def check_start(project: Path, config_file: Path) -> None:
    """Raise UserError for a `project` folder with braces in its path, and a `config_file` that asks to be executed."""
    if set("{}") & set(str(project)):
        raise UserError(
            f"the path of the project, {project}, has braces, which Snakemake takes for wildcards",
            "a folder without { and }",
            "rename it, or move the project",
        )
    values = read_yaml(config_file) if config_file.is_file() else None
    if isinstance(values, dict) and TEMPLATES in values:
        raise UserError(
            f"{config_file} has the key `{TEMPLATES}`, with which Snakemake executes Python code in the file",
            "values alone",
            "take the key out",
        )
