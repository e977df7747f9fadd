"""JSON files that come with a data set, checked as they are read."""

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from v2l.data.text_files import read_text
from v2l.errors import UserError

T = TypeVar("T")


def read_dataset_json(path: Path, content: type[T]) -> T:
    """The file's `content`. Raises UserError with the place if it cannot be read or is something else."""
    text = read_text(path, "the data set's JSON file")
    try:
        return TypeAdapter(content).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join(map(str, first["loc"]))
        raise not_as_distributed(path, f"{entry}: {first['msg']}" if entry else first["msg"]) from None


def not_as_distributed(path: Path, problem: str) -> UserError:
    """The error of a file that is not as distributed."""
    return UserError(f"{path}: {problem}", "the data set's file as distributed", "restore it, or mend the entry")
