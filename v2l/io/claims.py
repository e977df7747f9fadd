"""Whose an output is: the run that began last. One that was left behind must not write over what a later one made.

Snakemake's jobs outlive a Snakemake that is killed, and the next start makes their outputs anew. So a job that begins
leaves a token for each output, in the place of an earlier job's, and looks for it before it writes there. It may sleep
before it comes to that, until a later job has ended: the token stays, and says when its process began.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from v2l.errors import UserError
from v2l.io.disk_errors import disk_errors_named
from v2l.io.folder_locks import alone_in

FOLDER = Path("work/claims")  # of the project, in which jobs run
TOGETHER_NS = 20_000_000  # processes that began so close together are of the same age; a tick of the kernel's is half
_own: dict[Path, str] = {}  # token of each output that this process has claimed


@contextmanager
def claimed(paths: Iterable[Path]) -> Iterator[None]:
    """Hold the outputs at `paths` until the block ends, from now on in the place of every process that held them.

    Raises UserError, and holds none, if a process that began later than this one has ever held one of them, or if one
    that is claiming does not come to an end.
    """
    began = _began_ns()
    token = f"{began} {secrets.token_hex(16)}"
    absolute = list(map(Path.absolute, paths))
    if absolute:
        with disk_errors_named(FOLDER.absolute()), alone_in(FOLDER.absolute()):  # else a later claim may come between
            _claim(absolute, began, token)
    try:
        yield
    finally:
        for path in [path for path, held in _own.items() if held == token]:
            del _own[path]


def _claim(paths: list[Path], began: int, token: str) -> None:
    for path in paths:
        if _claimant_ns(path) > began + TOGETHER_NS:
            raise _taken_over(path)
    for path in paths:
        with disk_errors_named(_file(path)):
            _file(path).write_text(token)
        _own[path] = token


def require_claim(path: Path) -> None:
    """Raise UserError if a later run holds or held what this process claimed; other files may be written by anyone."""
    if path.absolute() in _own and _token(path.absolute()) != _own[path.absolute()]:
        raise _taken_over(path)


def _taken_over(path: Path) -> UserError:
    return UserError(
        f"{path} was taken over by a run that began later (or {FOLDER} was emptied): this one writes nothing there",
        "one run for each output",
        "nothing where a Snakemake was killed and started again, else run again",
    )


def _began_ns() -> int:
    """When this process began, in nanoseconds since 1970, to a tick of the kernel's (10 ms)."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return _booted_ns() + ticks * 10**9 // os.sysconf("SC_CLK_TCK")


def _booted_ns() -> int:
    """When the machine began, by the reading in which the process was held up least between the two clocks."""
    readings = []
    for _ in range(5):
        before, now, after = _since_boot_ns(), time.time_ns(), _since_boot_ns()
        readings.append((after - before, now - (before + after) // 2))
    return min(readings)[1]


def _since_boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _claimant_ns(path: Path) -> int:
    """When the process began that claimed `path` last; 0 if none did, or if it is said to have begun in the future."""
    text = (_token(path) or "").partition(" ")[0]
    began = int(text) if text.isascii() and text.isdecimal() else 0
    return began if began <= time.time_ns() else 0


def _file(path: Path) -> Path:
    return FOLDER.absolute() / hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:24]


def _token(path: Path) -> str | None:
    try:
        return _file(path).read_text(errors="replace")
    except FileNotFoundError:
        return None
