"""Reading the user's YAML files: values alone, no objects, and no more of them than the file could spell out."""

from pathlib import Path
from typing import Any

import yaml

from v2l.errors import UserError

MOST_VALUES = 1_000_000  # aliases make a few lines stand for more values than fit the memory

# `!!int x`, `2024-99-99` and their like make the library fail in ways of their own.
UNREADABLE = (
    yaml.YAMLError,
    OSError,
    RecursionError,
    ValueError,
    ArithmeticError,
    TypeError,
    AttributeError,
    LookupError,
)


def read_yaml(path: Path) -> Any:
    """The value in a YAML file, in UTF-8. Raises UserError if it cannot be read, is not plain YAML, or nests without
    end or beyond `MOST_VALUES`."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
        if _count(value, {}) > MOST_VALUES:
            raise ValueError(f"its aliases stand for more than {MOST_VALUES:,} values")
        return value
    except UNREADABLE as error:
        deep = isinstance(error, RecursionError) and not error.args[0].startswith("a value")
        cause = "its values are nested too deeply" if deep else " ".join(str(error).split())
        fault = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else f"is not YAML ({cause})"
        raise UserError(f"{path} {fault}", "a mapping of config keys", "mend the file") from None


def read_mapping(path: Path, expected: str) -> dict[str, Any]:
    """The mapping of names in a YAML file, empty for an empty file. Raises UserError for anything else."""
    values = read_yaml(path)
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}, no mapping", expected, "mend the file")
    if odd := [key for key in values if not isinstance(key, str)]:
        raise UserError(
            f"{path} has the key {odd[0]!r}, which is no text", expected, "put it in quotes, or take it out"
        )
    return values


def _count(value: Any, known: dict[int, int]) -> int:
    """Values in `value`, a shared one as often as it is named. Raises RecursionError for one that holds itself, and
    ValueError for a text that is none of a file or a path."""
    if isinstance(value, str) and "\0" in value.encode().decode():  # half a surrogate pair cannot be encoded
        raise ValueError(f"the text {value!r:.80} holds a zero byte")
    if not isinstance(value, dict | list | set | tuple):
        return 1
    if id(value) not in known:
        known[id(value)] = -1
        inner = [*value, *value.values()] if isinstance(value, dict) else [*value]
        known[id(value)] = 1 + sum(_count(item, known) for item in inner)
    if known[id(value)] < 0:
        raise RecursionError("a value holds itself")
    return known[id(value)]
