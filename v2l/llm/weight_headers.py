"""Which files hold a language model's weights, and how many values of which type, from their headers alone."""

import json
import math
import struct
from collections import Counter
from pathlib import Path
from typing import BinaryIO, NamedTuple

from v2l.errors import UserError, few
from v2l.io.file_kinds import kind_of

# In the order in which transformers looks for them.
WEIGHTS_FILES = tuple(
    f"{name}{end}" for name in ("model.safetensors", "pytorch_model.bin") for end in ("", ".index.json")
)
FLOATS = {"F64": "float32", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
GGUF_FLOATS = {0: "float32", 1: "float16", 28: "float32"}
EXPANDED = "bfloat16"  # of quantised values in a GGUF file: as wide a range as float32, so that none overflows
GGUF_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
GGUF_STRING, GGUF_ARRAY = 8, 9
MOST_HEADER_BYTES = 100_000_000  # as safetensors has it
WHOLE = "a complete, undamaged language model"
AGAIN = "copy or download it again"


class WeightSize(NamedTuple):
    """Number of values of a model's weights, and the precision of most of them; None where no header says it."""

    values: int
    precision: str | None


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads weights from; none if it finds none.

    Raises UserError for an index that cannot be read.
    """
    name = next((name for name in WEIGHTS_FILES if (folder / name).exists()), None)
    if name is None:
        return []
    if not name.endswith(".index.json"):
        return [folder / name]
    parts = read_object(folder / name).get("weight_map")
    if not isinstance(parts, dict) or not parts or not all(isinstance(part, str) for part in parts.values()):
        raise UserError(f"{folder / name} names no files of weights", "an index with `weight_map`", AGAIN)
    return [folder / part for part in sorted(set(parts.values()))]


def require_weights_whole(folder: Path, key: str) -> None:
    """Raise UserError for weights of a folder, which `key` names, that are not there, no weights, or cut off."""
    files = weight_files(folder)
    if missing := [path.name for path in files if not path.exists()]:
        raise UserError(
            f"{key}: {folder} lacks {len(missing)} of the {len(files)} files that its index names: {few(missing)}",
            "all files of the weights",
            "copy or download those that are missing",
        )
    for path in files:
        if kind := kind_of(path):
            raise UserError(f"{key}: {path} is {kind}", "a file of weights", AGAIN)
        if path.suffix == ".safetensors":
            safetensors_header(path)


def size_of(path: Path) -> WeightSize | None:
    """Of a folder or a GGUF file; None if there are no weights. Raises UserError for what cannot be read."""
    if path.suffix == ".gguf":
        return gguf_size(path) if path.is_file() else None
    files = weight_files(path)
    if not files or not all(file.is_file() for file in files):
        return None
    if files[0].suffix != ".safetensors":
        return None
    values: Counter[str] = Counter()
    for file in files:
        for entry in safetensors_header(file).values():
            values[entry["dtype"]] += math.prod(entry["shape"])
    known = {kind: count for kind, count in values.items() if kind in FLOATS}
    most = max(known, key=lambda kind: known[kind]) if known else None
    return WeightSize(sum(values.values()), FLOATS[most] if most else None)


def safetensors_header(path: Path) -> dict[str, dict]:
    """Key -> dtype, shape and data_offsets of each tensor. Raises UserError for a file that is cut off or none."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if 2 <= length <= MOST_HEADER_BYTES else b""
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        last = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        assert all(isinstance(entry["dtype"], str) and math.prod(entry["shape"]) >= 0 for entry in entries.values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError, RecursionError):
        raise UserError(f"{path} is no safetensors file, or is damaged at its beginning", WHOLE, AGAIN) from None
    needed, found = 8 + length + last, path.stat().st_size
    if found < needed:
        raise UserError(f"{path} is cut off: it has {found:,} of {needed:,} bytes", WHOLE, AGAIN)
    return entries


def gguf_size(path: Path) -> WeightSize:
    """Values in a GGUF file and the type of most of them, if they are not quantised; else EXPANDED.

    Raises UserError for a file that is no GGUF file, or cut off.
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF" or _number(file, "I") not in (2, 3):
                raise ValueError
            tensors, entries = _number(file, "Q"), _number(file, "Q")
            for _ in range(entries):
                _skip_string(file)
                _skip_value(file, _number(file, "I"))
            values: Counter[int] = Counter()
            for _ in range(tensors):
                _skip_string(file)
                shape = [_number(file, "Q") for _ in range(_number(file, "I"))]
                values[_number(file, "I")] += math.prod(shape)
                _number(file, "Q")
    except (ValueError, KeyError, struct.error):
        kind = kind_of(path)
        what = kind if kind and not kind.startswith("a GGUF") else "no GGUF file, or cut off in its header"
        raise UserError(f"{path} is {what}", WHOLE, AGAIN) from None
    most = max(values, key=lambda kind: values[kind]) if values else None
    return WeightSize(sum(values.values()), GGUF_FLOATS.get(most, EXPANDED) if most is not None else None)


def read_object(path: Path) -> dict:
    """The JSON object in a file. Raises UserError that says what is in the file instead."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text)
    except RecursionError:
        problem = "is nested too deeply to be read"
    except (OSError, ValueError) as error:
        kind = kind_of(path) if path.is_file() else None
        is_json = kind is None or kind.startswith("a JSON")
        problem = f"cannot be read as JSON ({' '.join(str(error).split())[:200]})" if is_json else f"is {kind}"
    else:
        if isinstance(content, dict):
            return content
        problem = f"holds {type(content).__name__} where an object should be"
    raise UserError(f"{path} {problem}", "a JSON object", AGAIN)


def _number(file: BinaryIO, kind: str) -> int:
    size = struct.calcsize(f"<{kind}")
    return struct.unpack(f"<{kind}", file.read(size))[0]


def _skip_string(file: BinaryIO) -> None:
    file.seek(_number(file, "Q"), 1)


def _skip_value(file: BinaryIO, kind: int) -> None:
    if kind == GGUF_STRING:
        _skip_string(file)
    elif kind == GGUF_ARRAY:
        of, count = _number(file, "I"), _number(file, "Q")
        if of in GGUF_NUMBERS:
            file.seek(count * struct.calcsize(f"<{GGUF_NUMBERS[of]}"), 1)
        else:
            for _ in range(count):
                _skip_value(file, of)
    else:
        file.seek(struct.calcsize(f"<{GGUF_NUMBERS[kind]}"), 1)
