"""Reading the user's YAML files."""

from pathlib import Path
from typing import Any

import yaml

from v2l.errors import UserError


def read_yaml(path: Path) -> Any:
    """The value in a YAML file. Raises UserError if it is not YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        cause = " ".join(str(error).split())
        raise UserError(f"{path} is not YAML ({cause})", "a mapping of config keys", "mend the file") from None
