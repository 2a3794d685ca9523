"""Tables on disk: CSV files, and those whose columns are the fields of a dataclass."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, astuple, fields
from pathlib import Path
from typing import Any, TypeVar

from polyp_lightning.common.errors import DataError
from polyp_lightning.common.files import write_beside

Row = TypeVar("Row")


def read_table(path: Path, errors: str = "strict") -> tuple[list[str], list[dict[str, str]]]:
    """Reads a CSV file with a header: the names of the columns, and each row by these names.

    ``errors`` says what becomes of bytes that are not UTF-8, as for :func:`open`.
    """
    with path.open(newline="", encoding="utf-8", errors=errors) as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or []), list(reader)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]], line_end: str = "\r\n") -> Path:
    """Writes a CSV file with a header, and returns its path; None becomes an empty cell."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator=line_end)
    writer.writerow(header)
    writer.writerows(rows)
    with write_beside(path) as beside:
        beside.write_text(content.getvalue(), encoding="utf-8", newline="")
    return path


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Reads the rows of a table as a dataclass of str, int, float or literals of str; an empty number is NaN.

    A column may be missing, as it is in older files, where its field has a default.

    Raises:
        DataError: there is no such file, a column is missing, or a cell holds no number where one belongs.
    """
    names = [field.name for field in fields(kind) if field.default is MISSING]  # type: ignore[arg-type]
    try:
        header, rows = read_table(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path} can't be read: {error}; give a file that `study` or `test` has written"
        raise DataError(msg) from error
    missing = [name for name in names if name not in header]
    if missing:
        msg = f"{path} has no column {', '.join(missing)}; give a file that `study` or `test` has written"
        raise DataError(msg)
    return [_build_row(path, line, kind, row) for line, row in enumerate(rows, 2)]


def write_rows(path: Path, kind: type[Any], rows: Iterable[Any]) -> None:
    """Writes a table; NaN becomes an empty cell, which every program reads as missing."""
    cells = (["" if value != value else value for value in astuple(row)] for row in rows)
    write_table(path, [field.name for field in fields(kind)], cells, "\n")


def _build_row(path: Path, line: int, kind: type[Row], texts: dict[str, Any]) -> Row:
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in texts:
            continue
        text = texts[field.name]
        try:
            values[field.name] = _parse(field.type, text)
        except (TypeError, ValueError) as error:
            msg = f"{path}, line {line}: {field.name} is {text!r}, not a number; remove the line and run it again"
            raise DataError(msg) from error
    return kind(**values)


def _parse(kind: Any, text: str | None) -> str | int | float:
    if text is None:
        raise ValueError
    if kind is int:
        return int(text)
    if kind is float:
        return float(text) if text else float("nan")
    return text
