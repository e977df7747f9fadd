"""Nothing half-written ever carries a final name."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from v2l.io.claims import require_claim
from v2l.io.disk_errors import disk_errors_named
from v2l.io.folder_locks import in_use


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path of the same name in a folder of its own beside `path`; renamed on success, removed on failure.

    Raises UserError if `path` is an output of this job that a later run has claimed, or if the disk refuses to write.
    """
    with disk_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.part-"))
        try:
            with in_use(folder):
                yield (temporary := folder / path.name)
                require_claim(path)
                temporary.chmod(0o666 & ~_umask())
                with open(temporary, "rb") as written:
                    os.fsync(written.fileno())
                os.replace(temporary, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
