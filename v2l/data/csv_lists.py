"""CSV files that list a data set's images."""

import csv
from pathlib import Path

from v2l.errors import UserError, few


def read_csv(path: Path, columns: list[str]) -> list[list[str]]:
    """The named columns of a CSV file, row by row. Raises UserError if it cannot be read or lacks one."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = set(columns) - set(reader.fieldnames or ())
            rows = [] if missing else [[row[name] or "" for name in columns] for row in reader]
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror})", "a label list", "correct its path in the config"
        ) from None
    if missing:
        raise UserError(
            f"{path} has no column {few(sorted(missing))}", f"columns {','.join(columns)}", "use the original list"
        )
    return rows
