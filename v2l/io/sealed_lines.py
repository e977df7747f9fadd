"""Files that grow line by line, each a JSON value behind its digest: what a kill or a disk spoilt is passed over."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from v2l.io.disk_errors import disk_errors_named


def sealed_line(value: Any) -> bytes:
    """A JSON value as a line, with its end."""
    text = json.dumps(value, separators=(",", ":")).encode()
    return _digest(text) + b" " + text + b"\n"


def read_sealed_lines(path: Path) -> Iterator[Any]:
    """The values of the lines of a file; a damaged one is passed over with its number in a warning."""
    with disk_errors_named(path):
        lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        digest, _, text = line.partition(b" ")
        if digest == _digest(text):
            yield json.loads(text)
        elif line:
            logging.warning("%s, line %d is damaged and passed over", path, number)


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:32].encode()
