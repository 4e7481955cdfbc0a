"""Names that others gave, shown as text and as nothing else.

Classes, images and layers have the names that folders and files have, and those may
hold anything: control characters that a terminal obeys, formulas that a spreadsheet
runs, dollars that matplotlib sets as mathematics. What a page does is the affair of
`report`, which escapes HTML.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

# Beside control characters: what starts a new line, and what turns around the order in
# which a line is read.
_SEPARATORS = frozenset("\u2028\u2029")
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e")
_ISOLATES = frozenset("\u2066\u2067\u2068\u2069")
_OBEYED = _SEPARATORS | _DIRECTIONS | _ISOLATES
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
# Spreadsheets take a cell that begins so for a formula, after spaces too; the wide
# forms as well.
_FORMULA = re.compile(r"'*\s*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def visible_text(text: str) -> str:
    r"""Return text on one line, with what a terminal would obey spelled out.

    Control characters, ends of lines and marks of direction become escapes as in
    Python (`\x1b`, `\n`, `\u202e`), as do bytes that are no text.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    is_control = unicodedata.category(character) in ("Cc", "Cs")
    if not is_control and character not in _OBEYED:
        return character
    return character.encode("unicode_escape").decode("ascii")


def plot_text(text: str) -> str:
    """Return text that matplotlib draws as it is, dollars included."""
    # A name with an escaped dollar of its own keeps its backslash.
    return visible_text(text).replace("$", r"\$")


def json_text(value: Any) -> str:
    """Return a value as JSON on one line, readable, with nothing that is obeyed."""
    text = json.dumps(value, ensure_ascii=False)
    if text.isascii() and text.isprintable():
        return text
    # Only strings hold what is not ASCII; JSON spells out the rest by itself.
    return "".join(
        character if _visible(character) == character else f"\\u{ord(character):04x}"
        for character in text
    )


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV, numbers as they are, texts as `csv_cell` makes them."""
    text = io.StringIO()
    # Ends lines by "\r\n", and so puts cells that hold either between quotes.
    writer = csv.writer(text)
    lines = []
    for row in rows:
        writer.writerow([csv_cell(c) if isinstance(c, str) else c for c in row])
        lines.append(text.getvalue().removesuffix("\r\n"))
        text.seek(0)
        text.truncate()
    return "".join(f"{line}\n" for line in lines)


def csv_cell(text: str) -> str:
    """Return a text as a cell that no spreadsheet takes for a formula.

    One that begins as a formula and is no number gets an apostrophe before it, which
    spreadsheets take for "this is text"; `from_csv_cell` takes it away.

    References
    ----------
    OWASP, "CSV Injection".
    """
    is_formula = _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


def from_csv_cell(cell: str) -> str:
    """Return the text that `csv_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
