"""CSV files that list a data set's images."""

import csv
from pathlib import Path

from v2l.data.text_files import read_text
from v2l.errors import UserError, few

DELIMITERS = (",", ";", "\t")


def read_csv(path: Path, columns: list[str]) -> list[list[str]]:
    """The named columns of a CSV file, row by row, without the white space around values; empty lines are left out.

    Fields are separated as the header's are: by commas, semicolons or tabs. Raises UserError if it cannot be read or
    lacks a column, and for a line that has fewer or more fields than the header.
    """
    text = read_text(path, "a label list")
    first = next((line for line in text.split("\n") if line.strip()), "")
    headers = {delimiter: [name.strip(' "') for name in first.split(delimiter)] for delimiter in DELIMITERS}
    delimiter = max(headers, key=lambda delimiter: len(set(columns) & set(headers[delimiter])))
    if missing := [name for name in columns if name not in headers[delimiter]]:
        raise UserError(
            f"{path} has no column {few(missing)}: its first line is {first[:80]!r}",
            f"columns {','.join(columns)}",
            "use the original list, or add the header",
        )
    (_, header), *rows = _rows(path, text, delimiter)
    return _selected(path, header, rows, columns)


def _rows(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Line number and fields of every line that is not blank."""
    reader = csv.reader(text.split("\n"), delimiter=delimiter, strict=True)
    rows = []
    try:
        for fields in reader:
            if stripped := [field.strip() for field in fields] if any(map(str.strip, fields)) else []:
                rows.append((reader.line_num, stripped))
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: {error}", "a CSV file", "mend the line, or use the original list"
        ) from None
    return rows


def _selected(path: Path, header: list[str], rows: list[tuple[int, list[str]]], columns: list[str]) -> list[list[str]]:
    for name in columns:
        if header.count(name) > 1:
            raise UserError(f"{path} has column {name} twice", f"columns {','.join(columns)}", "use the original list")
    places = [header.index(name) for name in columns]
    for number, fields in rows:
        while len(fields) > len(header) and not fields[-1]:
            fields.pop()
        if len(fields) != len(header):
            raise UserError(
                f"{path}, line {number} has {len(fields)} fields, the header {len(header)}",
                "as many fields in every line, those with a separator in them in double quotes",
                "mend the line",
            )
    return [[fields[place] for place in places] for _, fields in rows]
