"""JSON files that come with a data set, checked as they are read."""

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from v2l.errors import UserError

T = TypeVar("T")


def read_json(path: Path, content: type[T]) -> T:
    """The file's `content`. Raises UserError with the place if it cannot be read or is something else."""
    try:
        return TypeAdapter(content).validate_json(path.read_bytes())
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror})"
        raise UserError(problem, "the data set's JSON file", "correct its path in the config") from None
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join(map(str, first["loc"]))
        raise damaged(path, f"{entry}: {first['msg']}" if entry else first["msg"]) from None


def damaged(path: Path, problem: str) -> UserError:
    """The error of a file that is not as distributed."""
    return UserError(f"{path}: {problem}", "the data set's file as distributed", "restore it, or mend the entry")
