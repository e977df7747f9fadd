"""Taking the listed members out of a downloaded archive, and nothing else."""

import errno
import fnmatch
import lzma
import shutil
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from tarfile import TarError
from typing import IO

from v2l.assets.bounded_archives import Bounds, opened_tar, opened_zip
from v2l.errors import UserError, printable

Members = Iterator[tuple[str, Callable[[], IO[bytes]]]]
BROKEN = (
    *(zipfile.BadZipFile, TarError, EOFError, zlib.error, lzma.LZMAError, struct.error),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError, LookupError),
)
# What the system says of the archive, not of the disk: a file in the place of a folder, a name too long, a false place.
ITS_OWN_FAULTS = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}


def unpack(source: Path, folder: str, members: list[str], target: Path) -> None:
    """Copy files of `source` (wheel, zip, tar or folder) that lie below `folder` in it to `target`.

    `members` are shell patterns (`*` also matches `/`) over the paths below `folder`. Only regular files are written,
    never links. Raises UserError if the archive is broken, unpacks to more than `Bounds` allow, holds a path that leads
    outside `target` or has control characters, or no file matches a pattern.
    """
    unmatched = set(members)
    try:
        with _members(source) as files:
            for name, opened in files:
                relative = _below(name, folder, source)
                if relative is None:
                    continue
                if patterns := [pattern for pattern in members if fnmatch.fnmatchcase(relative, pattern)]:
                    unmatched -= set(patterns)
                    path = target / relative
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with opened() as reader, open(path, "wb") as writer:
                        shutil.copyfileobj(reader, writer, 1 << 20)
    except BROKEN as error:
        raise _unusable(source, printable(str(error)), "a complete zip or tar archive") from None
    except OSError as error:
        if error.errno is not None and error.errno not in ITS_OWN_FAULTS:
            raise  # the disk's own trouble
        raise _unusable(source, printable(str(error)), "a complete archive, whose names fit into a folder") from None
    if unmatched:
        raise _unusable(source, f"nothing matches {sorted(unmatched)}", f"these files below {folder or 'its top'!r}")


@contextmanager
def _members(source: Path) -> Iterator[Members]:
    """Regular files of an archive or folder by their name in it."""
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
        yield ((path.relative_to(source).as_posix(), partial(_opened, path)) for path in files)
        return
    bounds = Bounds.of(source, partial(_unusable, source))
    with opened_zip(source, bounds) if zipfile.is_zipfile(source) else opened_tar(source, bounds) as members:
        yield members


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _below(name: str, folder: str, source: Path) -> str | None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise _unusable(source, f"it holds the path {printable(name)!r}", "paths inside the archive only")
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
        raise _unusable(source, f"it holds the path {printable(name)!r}", "names in UTF-8 without control characters")
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else None


def _unusable(source: Path, problem: str, expected: str) -> UserError:
    return UserError(
        f"{source.name} cannot be unpacked: {problem}",
        expected,
        "compare its entry in config/assets.lock with the archive, then run the stage again",
    )
