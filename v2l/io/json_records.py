"""JSON files of the pipeline: an object with its digest, laid out for eyes."""

import json
from pathlib import Path
from typing import Any

from v2l.io.atomic import atomic_path
from v2l.io.digests import BLANK, DIGEST, damaged, require_whole, seal


def write_json(path: Path, values: dict[str, Any], indent: int | None = 1, sort_keys: bool = False) -> None:
    """Write `values` and their digest to `path`, whole or not at all. Raises ValueError for numbers beyond JSON's."""
    text = json.dumps(values | {DIGEST: BLANK.decode()}, indent=indent, sort_keys=sort_keys, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n")
        seal(temporary)


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote. Raises UserError for a damaged file and FileNotFoundError for none."""
    if not path.exists():
        raise FileNotFoundError(path)
    require_whole(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # of a file without digest
        raise damaged(path, error) from None
    if not isinstance(values, dict):
        raise damaged(path, f"it holds {type(values).__name__} in place of an object")
    return {key: value for key, value in values.items() if key != DIGEST}
