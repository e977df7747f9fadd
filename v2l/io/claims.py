"""Whose an output is: the run that began last. One that was left behind must not write over what a later one made.

Snakemake's jobs outlive a Snakemake that is killed, and the next start makes their outputs anew. So a job that begins
leaves a token for each output, in the place of an earlier job's, and looks for it before it writes there.
"""

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from v2l.errors import UserError
from v2l.io.disk_errors import disk_errors_named

FOLDER = Path("work/claims")  # of the project, in which jobs run
_own: dict[Path, str] = {}  # token of each output that this process has claimed


@contextmanager
def claimed(paths: Iterable[Path]) -> Iterator[None]:
    """Hold the outputs at `paths` until the block ends, from now on in the place of every process that held them."""
    token = secrets.token_hex(16)
    for path in map(Path.absolute, paths):
        with disk_errors_named(_file(path)):
            FOLDER.mkdir(parents=True, exist_ok=True)
            _file(path).write_text(token)
        _own[path] = token
    try:
        yield
    finally:
        for path in [path for path, held in _own.items() if held == token]:
            del _own[path]
            if _token(path) == token:
                _file(path).unlink(missing_ok=True)


def require_claim(path: Path) -> None:
    """Raise UserError if a later run holds or held what this process claimed; other files may be written by anyone."""
    if path.absolute() in _own and _token(path.absolute()) != _own[path.absolute()]:
        raise UserError(
            f"{path} was taken over by a run that began later (or {FOLDER} was emptied): this one writes nothing there",
            "one run for each output",
            "nothing where a Snakemake was killed and started again, else run again",
        )


def _file(path: Path) -> Path:
    return FOLDER.absolute() / hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:24]


def _token(path: Path) -> str | None:
    try:
        return _file(path).read_text(errors="replace")
    except FileNotFoundError:
        return None
