"""Records beside files whose formats have no room for them: what made the file, and the SHA-256 of its content."""

from pathlib import Path
from typing import Any

from v2l.io.digests import damaged
from v2l.io.json_records import read_json, write_json
from v2l.io.provenance import beside, hash_path

CONTENT = "content_sha256"


def write_beside(path: Path, record: dict[str, Any], hashed: bool = True) -> Path:
    """Write `record` and, if it is to be `hashed`, the SHA-256 of the file at `path` to `<path>.provenance.json`."""
    write_json(beside(path), record | ({CONTENT: hash_path(path)} if hashed else {}), sort_keys=True)
    return beside(path)


def read_beside(path: Path) -> dict[str, Any] | None:
    """What `write_beside` wrote, or None. Raises UserError for a damaged record."""
    return read_json(beside(path)) if beside(path).exists() else None


def require_recorded(path: Path) -> None:
    """Raise UserError if the file at `path` is not what the record beside it was written for; without one it passes."""
    recorded = (read_beside(path) or {}).get(CONTENT)
    if recorded is not None and hash_path(path) != recorded:
        raise damaged(path, "its content is not what was written: it was edited or damaged")
