"""The digest that each file of the pipeline carries of itself, so that no damaged one is taken for a result.

A file holds once, near one of its ends, `BLANK`, in which `seal` writes the SHA-256 of all its bytes with the digits of
`BLANK` at 0. It stands where the format has room: metadata of Parquet and safetensors, a key of JSON, behind the
archive of a checkpoint. The digits have a mark at either side, so that damage to one does not hide them. Files of
earlier versions, and foreign ones, hold none and cannot be checked.
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from v2l.errors import UserError, printable

MARK, DIGITS, MARK_BEHIND = b"v2l-sha256:", 64, b":v2l-sealed"
BLANK = MARK + b"0" * DIGITS + MARK_BEHIND
DIGEST = "digest"  # the key it has where a format has keys
ENDS = 16 << 20  # bytes at each end of a file in which the mark is looked for
BUFFER = 1 << 20


class DamagedFile(UserError):
    """A file of the pipeline that cannot be used, for `reason`."""

    reason: str


def seal(path: Path) -> None:
    """Write the digest of the file at `path` in place of the `BLANK` that it holds. Raises ValueError without one."""
    with open(path, "r+b") as file:
        place = _place(file)
        if place is None:
            raise ValueError(f"{path} holds no room for a digest")
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest.encode())


def require_whole(path: Path) -> None:
    """Raise UserError unless the file at `path` is as it was sealed; one without a digest passes."""
    try:
        require_sealed(path)
    except OSError as error:
        raise damaged(path, error.strerror or type(error).__name__) from None


def require_sealed(path: Path) -> None:
    """As `require_whole`, for a file that is not damaged only because it cannot be read: raises OSError then.

    A file is read once for each process and state of it (size, times).
    """
    status = path.stat()
    if _is_whole(path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns) is False:
        raise damaged(path, "its content does not match the digest in it")


def damaged(path: Path, reason: object) -> DamagedFile:
    """What to say of a file of the pipeline that cannot be used, with the stage that makes it anew."""
    text = " ".join(str(reason).split())[:200]
    folders = path.parts[:-1]
    remedy = "delete it and run again"
    if len(folders) > 2 and folders[0] in ("results", "work"):
        remedy += f": stage {folders[2]} makes it anew"
    problem = f"{printable(str(path))} cannot be used: {text}"
    error = DamagedFile(problem, "the file as the pipeline wrote it", remedy)
    error.reason = text
    return error


@lru_cache(maxsize=4096)
def _is_whole(path: Path, *state: int) -> bool | None:
    """Whether a file matches its digest; None without one. `state` tells one state of a file from another."""
    with open(path, "rb") as file:
        place = _place(file)
        if place is None:
            return None
        file.seek(place)
        return file.read(DIGITS) == _digest(file, place).encode()


def _place(file: BinaryIO) -> int | None:
    """Where the digits begin, if the file has one of the marks and room for them."""
    size = file.seek(0, 2)
    for start in (max(0, size - ENDS), 0):
        file.seek(start)
        content = file.read(ENDS)
        for mark, shift in ((MARK, len(MARK)), (MARK_BEHIND, -DIGITS)):
            found = content.rfind(mark)
            if found >= 0 and 0 <= (place := start + found + shift) <= size - DIGITS:
                return place
    return None


def _digest(file: BinaryIO, place: int) -> str:
    digest, position = hashlib.sha256(), 0
    buffer = memoryview(bytearray(BUFFER))
    file.seek(0)
    while read := file.readinto(buffer):  # type: ignore[attr-defined]
        first, last = (min(max(0, edge - position), read) for edge in (place, place + DIGITS))
        buffer[first:last] = b"0" * (last - first)
        digest.update(buffer[:read])
        position += read
    return digest.hexdigest()
