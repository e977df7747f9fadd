"""Every file below a folder, once: what systems put there, and links to what is there already, are left out."""

import os
from collections.abc import Callable, Iterator

SYSTEM_NAMES = frozenset(
    ("@eaDir", "#recycle", "#snapshot", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found")
    + ("Thumbs.db", "desktop.ini")
)
SYSTEM = "hidden or the system's own"
LINK = "a link to what is there already, or above"
NOWHERE = "a link to nothing"

LeftOut = Callable[[str, str], None]  # relative name and rule
Unreadable = Callable[[OSError], None]


def walk(root: str | os.PathLike, left_out: LeftOut | None = None, unreadable: Unreadable | None = None) -> Iterator:
    """(relative name, os.DirEntry) of every file below `root`, sorted in each folder; no file is opened.

    Names that are not UTF-8 have surrogates (`os.fsdecode`); pipes, sockets and devices count as files. A link to a
    folder or file elsewhere is followed, once; those to what is walked anyway, or to a folder above, are not, so loops
    end. What is left out, with every file below it, is told to `left_out`; a folder that cannot be read raises its
    OSError, or is told to `unreadable`.
    """
    say = left_out or (lambda name, rule: None)
    tops = [os.path.realpath(root)]  # of what is walked
    links: list[tuple[str, os.DirEntry]] = []
    yield from _walk(os.fspath(root), "", links, say, unreadable)
    files = set()
    while links:
        name, entry = links.pop(0)
        target = os.path.realpath(entry.path)
        if not os.path.exists(target):
            say(name, NOWHERE)
        elif _is_walked(target, tops) or target in files or any(_is_below(top, target) for top in tops):
            say(name, LINK)
        elif os.path.isdir(target):
            tops.append(target)
            yield from _walk(entry.path, name, links, say, unreadable)
        else:
            files.add(target)
            yield name, entry


def is_system(name: str) -> bool:
    """Whether a file or folder is hidden, or of a name that systems give to their own."""
    return name.startswith(".") or name in SYSTEM_NAMES


def _walk(
    folder: str, prefix: str, links: list, left_out: LeftOut, unreadable: Unreadable | None
) -> Iterator[tuple[str, os.DirEntry]]:
    pending = [(folder, prefix)]
    while pending:
        folder, prefix = pending.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if unreadable is None:
                raise
            unreadable(error)
            continue
        folders = []
        for entry in found:
            name = f"{prefix}/{entry.name}" if prefix else entry.name
            if is_system(entry.name):
                _count(entry, name, left_out)
            elif entry.is_symlink():
                links.append((name, entry))
            elif entry.is_dir():
                folders.append((entry.path, name))
            else:
                yield name, entry
        pending += reversed(folders)


def _count(entry: os.DirEntry, name: str, left_out: LeftOut) -> None:
    """Tell of a file, or of all below a folder, that is the system's own."""
    if not entry.is_dir(follow_symlinks=False):
        left_out(name, SYSTEM)
        return
    for folder, _, files in os.walk(entry.path):
        for file in files:
            left_out(os.path.join(name, os.path.relpath(folder, entry.path), file).replace("/./", "/"), SYSTEM)


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def _is_walked(target: str, tops: list[str]) -> bool:
    """Whether a real path lies below one of the folders that are walked, in no folder that is left out."""
    for top in tops:
        if _is_below(target, top) and not any(map(is_system, os.path.relpath(target, top).split("/"))):
            return True
    return False
