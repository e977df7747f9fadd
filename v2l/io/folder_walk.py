"""Every file below a folder, with its other names: what systems put there is left out, and links never lead round."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SYSTEM_NAMES = frozenset(  # in lower case
    ("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot", "__macosx")
    + ("$recycle.bin", "system volume information", "lost+found", "network trash folder", "temporary items")
    + ("thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "icon\r")
)
SYSTEM_ENDINGS = (":zone.identifier", "@synoeastream", "@synoresource")
SYSTEM = "hidden or the system's own"
ABOVE = "a link to the root, or to a folder that it lies in"
NOWHERE = "a link to nothing"

LeftOut = Callable[[str, str], None]  # relative name and rule
Unreadable = Callable[[OSError], None]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file by a name relative to the root; `same_as` is its first name, if this is another (a link)."""

    name: str
    status: os.stat_result
    same_as: str = ""


def is_system(name: str) -> bool:
    """Whether a file or folder is hidden, or of a name that systems give to their own."""
    lower = name.lower()
    return lower.startswith(".") or lower in SYSTEM_NAMES or lower.endswith(SYSTEM_ENDINGS)


class FolderWalk:
    """A walk through all that lies below `root`, which links may lead out of.

    What is left out, with every file below it, is told to `left_out`. A folder that cannot be read raises its OSError,
    or is told to `unreadable`. After `files`, `folders` has the names of all folders.
    """

    def __init__(self, root: str | os.PathLike, left_out: LeftOut | None = None, unreadable: Unreadable | None = None):
        self.root = os.path.realpath(root)
        self.folders: list[str] = []
        self._left_out, self._unreadable = left_out or (lambda name, rule: None), unreadable
        self._tops = {self.root: ""}  # real paths of the folders that the root and links lead to, with their names
        self._links: deque[tuple[str, str]] = deque()  # names and paths
        self._first: dict[tuple[int, int], str] = {}  # files that may have other names, by device and inode
        self._others: dict[str, str] = {}  # hard links' first names

    def files(self) -> Iterator[FoundFile]:
        """Every file, sorted in each folder, first those without links; none is opened.

        Names that are not UTF-8 have surrogates (`os.fsdecode`); pipes, sockets and devices count as files. A file or
        folder that a link leads to is found by that name too, but in it no further link is followed if it is reached
        without; a link to a folder that it lies in is left out, so loops end.
        """
        yield from self._below(self.root, "")
        while self._links:
            yield from self._linked(*self._links.popleft())

    def first_name(self, path: str) -> str | None:
        """By which name the file or folder at `path` is found first, after `files`; None if it is not."""
        target = top = os.path.realpath(path)
        while top not in self._tops and top != os.path.dirname(top):
            top = os.path.dirname(top)
        if top not in self._tops:
            return None
        below = os.path.relpath(target, top)
        if below != "." and any(map(is_system, below.split("/"))):
            return None
        name = os.path.normpath(os.path.join(self._tops[top], below))
        return self._others.get(name, "" if name == "." else name)

    def _below(self, top: str, prefix: str) -> Iterator[FoundFile]:
        for name, entry in self._scan(top, prefix, self._left_out, self.folders):
            if entry.is_symlink() or entry.is_dir():
                self._links.append((name, entry.path))
                continue
            if status := self._status(entry.path):
                yield FoundFile(name, status, self._same_as(name, status, status.st_nlink > 1))

    def _scan(
        self, top: str, prefix: str, left_out: LeftOut, folders: list[str]
    ) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Files, links, and folders that a link led to before, below the folder at `top`; names begin with `prefix`."""
        pending = [(top, prefix)]
        while pending:
            path, prefix = pending.pop()
            folders.append(prefix)
            try:
                with os.scandir(path) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._fail(error)
                continue
            deeper = []
            for entry in found:
                name = f"{prefix}/{entry.name}" if prefix else entry.name
                if is_system(entry.name):
                    _tell_all(entry, name, left_out)
                elif entry.is_dir(follow_symlinks=False) and entry.path not in self._tops:
                    deeper.append((entry.path, name))
                else:
                    yield name, entry
            pending += reversed(deeper)

    def _linked(self, name: str, path: str) -> Iterator[FoundFile]:
        target, place = os.path.realpath(path), os.path.dirname(path)
        if not os.path.exists(target):
            self._left_out(name, NOWHERE)
            return
        first = self.first_name(target)
        if not os.path.isdir(target):
            if status := self._status(target):
                yield FoundFile(name, status, first or self._same_as(name, status, True))
        elif _is_in(place, target) or _is_in(self.root, target):
            self._left_out(name, ABOVE)
        elif first is None:
            self._tops[target] = name
            yield from self._below(target, name)
        else:
            for other, entry in self._scan(target, name, lambda name, rule: None, self.folders):
                is_file = not entry.is_symlink() and not entry.is_dir()
                if is_file and (status := self._status(entry.path)):
                    same_as = os.path.join(first, os.path.relpath(other, name))
                    yield FoundFile(other, status, self._others.get(same_as, same_as))

    def _status(self, path: str) -> os.stat_result | None:
        try:
            return os.stat(path)
        except FileNotFoundError:  # removed since it was found
            return None
        except OSError as error:
            self._fail(error)
            return None

    def _fail(self, error: OSError) -> None:
        if self._unreadable is None:
            raise error
        self._unreadable(error)

    def _same_as(self, name: str, status: os.stat_result, has_others: bool) -> str:
        key = (status.st_dev, status.st_ino)
        first = self._first.get(key, "")
        if first:
            self._others[name] = first
        elif has_others:
            self._first[key] = name
        return first


def _tell_all(entry: os.DirEntry[str], name: str, left_out: LeftOut) -> None:
    """Tell of a file, or of all below a folder, that is the system's own."""
    if not entry.is_dir(follow_symlinks=False):
        left_out(name, SYSTEM)
        return
    for folder, _, files in os.walk(entry.path):
        for file in files:
            left_out(os.path.normpath(os.path.join(name, os.path.relpath(folder, entry.path), file)), SYSTEM)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
