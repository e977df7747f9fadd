"""Put results where users look for them, once they are known to be what their stages wrote.

`python -m v2l.pipeline.show_results FILE... OUTPUT`: a copy of one file; of several, which are CSV lists of the same
columns, all rows below one header.
"""

import sys
from pathlib import Path

from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.claims import claimed
from v2l.io.disk_errors import disk_errors_named
from v2l.io.records import require_recorded


def show_results(paths: list[Path], output: Path) -> None:
    """Write the content of `paths` to `output`. Raises UserError if one is not what the record beside it says."""
    contents = []
    for path in paths:
        require_recorded(path)
        with disk_errors_named(path):
            contents.append(path.read_bytes())
    rows = [content.partition(b"\n")[2] for content in contents[1:]]
    with claimed([output]), disk_errors_named(output), atomic_path(output) as temporary:
        temporary.write_bytes(b"".join([contents[0], *rows]))


if __name__ == "__main__":
    *names, last = map(Path, sys.argv[1:])
    try:
        show_results(names, last)
    except UserError as error:
        sys.exit(f"error: {error}")
