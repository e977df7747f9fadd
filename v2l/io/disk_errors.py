"""What the disk refuses, in one line that names the file: no space, no quota, no right to write."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from v2l.errors import UserError, printable

WRITABLE, FOLDER = "a folder that this user may write to", "folders above it"
REFUSALS = {  # errno -> what was expected, and the way out
    errno.ENOSPC: ("free space on its disk", "free some, or move the project to a larger disk, and run again"),
    errno.EDQUOT: ("space within this user's quota", "free some, or ask for a larger quota, and run again"),
    errno.EFBIG: ("leave to write files of its size", "raise the limit (`ulimit -f`), and run again"),
    errno.EROFS: (WRITABLE, "mount the file system for writing, or move the project, and run again"),
    errno.EACCES: (WRITABLE, "give this user the rights to the file and its folder, and run again"),
    errno.EPERM: (WRITABLE, "give this user the rights to the file and its folder, and run again"),
    errno.ENOTDIR: (FOLDER, "move away the file that has the name of a folder, and run again"),
    errno.EEXIST: (FOLDER, "move away the file that has the name of a folder, and run again"),
    errno.EISDIR: ("a file in its place", "move away the folder that has its name, and run again"),
    errno.EIO: ("a disk that works", "look after the disk, and run again: what was finished stays"),
}


@contextmanager
def disk_errors_named(path: Path) -> Iterator[None]:
    """Raise UserError in place of an error of the disk; it names the file that the error names, else `path`."""
    try:
        yield
    except Exception as error:
        if refused := disk_error(error, path):
            raise refused from error
        raise


def disk_error(error: BaseException, path: Path | None = None) -> UserError | None:
    """The UserError that stands for `error`, if a disk is behind it: an OSError, or a library's error that quotes one.

    It names the file of the OSError, else `path`; None if `error` is of another kind.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, UserError):
        number = getattr(found, "errno", None) or _quoted(str(found))
        if number in REFUSALS:
            expected, remedy = REFUSALS[number]
            named = os.fsdecode(getattr(found, "filename", None) or path or "a file")
            if path and f".{path.name}.part-" in named:  # where `path` is written before it has its name
                named = str(path)
            problem = f"{printable(named)} cannot be written or read: {os.strerror(number).lower()}"
            return UserError(problem, expected, remedy)
        found = found.__cause__ or found.__context__
    return None


def _quoted(text: str) -> int | None:
    """The errno that a message of Rust or C++ holds, by number or by the system's words for it."""
    if numbered := re.search(r"(?:os error|errno) (\d+)", text):
        return int(numbered[1])
    return next((number for number in REFUSALS if os.strerror(number) in text), None)
