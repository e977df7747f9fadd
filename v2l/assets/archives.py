"""Taking the listed members out of a downloaded archive, and nothing else."""

import fnmatch
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from v2l.errors import UserError

Members = dict[str, Callable[[], IO[bytes]]]


def unpack(source: Path, folder: str, members: list[str], target: Path) -> None:
    """Copy files of `source` (wheel, zip, tar or folder) that lie below `folder` in it to `target`.

    `members` are shell patterns (`*` also matches `/`) over the paths below `folder`. Only regular files are written,
    never links. Raises UserError if the archive is broken, holds a path that leads outside `target`, or no file matches
    a pattern.
    """
    unmatched = set(members)
    try:
        with _members(source) as files:
            for name, opened in files.items():
                relative = _below(PurePosixPath(name), folder, source)
                if relative is None:
                    continue
                if patterns := [pattern for pattern in members if fnmatch.fnmatchcase(relative, pattern)]:
                    unmatched -= set(patterns)
                    path = target / relative
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with opened() as reader, open(path, "wb") as writer:
                        shutil.copyfileobj(reader, writer, 1 << 20)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise _unusable(source, f"{error}", "a complete zip or tar archive") from None
    if unmatched:
        raise _unusable(source, f"nothing matches {sorted(unmatched)}", f"these files below {folder or 'its top'!r}")


@contextmanager
def _members(source: Path) -> Iterator[Members]:
    """Regular files of an archive or folder by their name in it."""
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
        yield {path.relative_to(source).as_posix(): partial(_opened, path) for path in files}
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            yield {name: partial(archive.open, name) for name in archive.namelist() if name[-1:] != "/"}
    else:
        with tarfile.open(source) as archive:
            yield {item.name: partial(_extracted, archive, item) for item in archive.getmembers() if item.isreg()}


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _extracted(archive: tarfile.TarFile, item: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(item)
    assert file is not None, "only what is no regular file has no content"
    return file


def _below(name: PurePosixPath, folder: str, source: Path) -> str | None:
    if name.is_absolute() or ".." in name.parts:
        raise _unusable(source, f"it holds the path {str(name)!r}", "paths inside the archive only")
    return name.relative_to(folder).as_posix() if name.is_relative_to(folder) else None


def _unusable(source: Path, problem: str, expected: str) -> UserError:
    return UserError(
        f"{source.name} cannot be unpacked: {problem}",
        expected,
        "compare its entry in config/assets.lock with the archive, then run the stage again",
    )
