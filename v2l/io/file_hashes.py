"""SHA-256 of what jobs read: of a large file once, and of a folder of pictures by its listing.

Big language models and data sets are read by many jobs; what was hashed once is kept in `CACHE`, a small file for each
state of a file, so that jobs, experiments and machines that share the folder need no lock.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from v2l.errors import UserError
from v2l.io.canonical import canonical_json
from v2l.io.folder_walk import FolderWalk
from v2l.io.json_records import read_json, write_json
from v2l.io.provenance import hash_path

CACHE = Path("work/file_hashes")
LARGE = 64 << 20  # bytes; smaller files are read each time


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read again only if its size or a time has changed; of a folder, see `folder_hash`."""
    if path.is_dir():
        return folder_hash(path)
    found = path.stat()
    if found.st_size < LARGE:
        return hash_path(path)
    state = [str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    kept = CACHE / f"{hashlib.sha256(canonical_json(state).encode()).hexdigest()}.json"
    with suppress(FileNotFoundError, UserError, KeyError):  # a damaged one is made anew
        return read_json(kept)["sha256"]
    digest = hash_path(path)
    with suppress(UserError, OSError):  # a full or read-only disk: only time is lost
        write_json(kept, {"sha256": digest, "path": str(path)}, indent=None)
    return digest


def folder_hash(root: Path) -> str:
    """SHA-256 over relative names and hashes of the files of a folder, see `listing`: what a user's model folder holds.

    Links are followed and hidden files left out, unlike in `hash_path` of v2l.io.provenance.
    """
    names = [os.fsdecode(name) for name, _, _ in listing(root)]
    return hashlib.sha256(canonical_json([[name, file_hash(root / name)] for name in names]).encode()).hexdigest()


def listing_hash(root: Path) -> tuple[int, int, str]:
    """Number of files below a folder, their bytes, and the SHA-256 over names, sizes and times; no file is opened."""
    digest, count, total = hashlib.sha256(), 0, 0
    for name, size, time in listing(root):
        digest.update(b"%s\0%d %d\n" % (name, size, time))
        count, total = count + 1, total + size
    return count, total, digest.hexdigest()


def listing(root: Path) -> Iterator[tuple[bytes, int, int]]:
    """Name, size and modification time (ns) of every regular file below a folder, as `FolderWalk` orders them.

    A file with several names, of links, has a line for each.
    """
    for found in FolderWalk(root, unreadable=lambda error: None).files():  # the stage says which
        if stat.S_ISREG(found.status.st_mode):
            yield os.fsencode(found.name), found.status.st_size, found.status.st_mtime_ns
