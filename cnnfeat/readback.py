"""What is read back is held against a description of it, once, where it is opened.

A field says what one value must be: `check` returns the value, or raises `Malformed`,
which names the field, what was expected and what was found. Fields are put together
into records, and so describe JSON, TOML, and the attributes of an HDF5 file.
"""

import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field as has
from pathlib import Path
from typing import Any, NoReturn, Protocol

_SHOWN = 40  # characters of a value that a message quotes


class Malformed(ValueError):
    """A value is not what its field says; the message is one line."""


class Field(Protocol):
    """Describes one value."""

    def check(self, where: str, value: Any) -> Any:
        """Return the value, as Python's own type, or raise Malformed."""
        ...


def fail(where: str, expected: str, found: object) -> NoReturn:
    """Raise Malformed: `where` is the field, `found` the value that is there."""
    shown = found if isinstance(found, Described) else repr(found)
    if len(shown) > _SHOWN:
        shown = f"{shown[: _SHOWN - 1]}…"
    raise Malformed(f"{where}: expected {expected}, found {shown}")


class Described(str):
    """What was found, in words rather than as a value."""


@dataclass(frozen=True)
class Text:
    """A string, of the `choices` where there are any, or matching `pattern`."""

    choices: tuple[str, ...] = ()
    pattern: str = ""
    told: str = "text"

    def check(self, where: str, value: Any) -> str:
        """Return the string."""
        if isinstance(value, bytes):
            value = value.decode("utf-8", "surrogateescape")
        if not isinstance(value, str):
            fail(where, self.told, value)
        if "\0" in value or not _is_utf8(value):
            fail(where, "UTF-8 text without zero bytes", value)
        if self.choices and value not in self.choices:
            fail(where, f"one of {', '.join(self.choices)}", value)
        if self.pattern and not re.fullmatch(self.pattern, value):
            fail(where, self.told, value)
        return value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class Number:
    """A finite number within bounds, both included; `whole` for integers alone."""

    lowest: float = -math.inf
    highest: float = math.inf
    whole: bool = False

    def check(self, where: str, value: Any) -> Any:
        """Return the int or float."""
        kinds = int if self.whole else (int, float)
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        # Not math.isfinite: a whole number may be larger than any float.
        is_inside = is_number and self.lowest <= value <= self.highest
        if not is_inside or abs(value) == math.inf:
            fail(where, self._told(), value)
        return value

    def _told(self) -> str:
        kind = "a whole number" if self.whole else "a finite number"
        low = "" if self.lowest == -math.inf else f" from {self.lowest:g}"
        return f"{kind}{low}" + (
            "" if self.highest == math.inf else f" to {self.highest:g}"
        )


@dataclass(frozen=True)
class Truth:
    """True or false; 0 and 1 of programs that have no such type."""

    def check(self, where: str, value: Any) -> bool:
        """Return the bool."""
        if not isinstance(value, int) or value not in (0, 1):
            fail(where, "true or false", value)
        return bool(value)


@dataclass(frozen=True)
class Anything:
    """Whatever is there."""

    def check(self, where: str, value: Any) -> Any:
        """Return the value."""
        return value


@dataclass(frozen=True)
class OrNothing:
    """A field, or None."""

    field: Field

    def check(self, where: str, value: Any) -> Any:
        """Return the value or None."""
        return None if value is None else self.field.check(where, value)


@dataclass(frozen=True)
class Items:
    """A list of one kind of item; `unique` where none may be there twice."""

    item: Field
    unique: bool = False
    at_least: int = 0
    at_most: float = math.inf

    def check(self, where: str, value: Any) -> list[Any]:
        """Return the list, each item checked."""
        if not isinstance(value, list):
            fail(where, "a list", value)
        if not self.at_least <= len(value) <= self.at_most:
            fail(where, self._told(), Described(len(value)))
        items = [self.item.check(f"{where}[{k}]", one) for k, one in enumerate(value)]
        if self.unique:
            refuse_repeats(where, items)
        return items

    def _told(self) -> str:
        if self.at_most == math.inf:
            return f"{self.at_least} or more entries"
        return f"{self.at_least} to {self.at_most} entries"


def refuse_repeats(where: str, items: Any) -> None:
    """Raise Malformed if an item stands in a sequence twice."""
    if len(set(items)) == len(items):
        return
    seen: set[Any] = set()
    for item in items:
        if item in seen:
            raise Malformed(f"{where}: {item!r} is there twice")
        seen.add(item)


@dataclass(frozen=True)
class Entries:
    """A mapping of strings to one kind of value."""

    value: Field = Anything()

    def check(self, where: str, value: Any) -> dict[str, Any]:
        """Return the dict, each value checked."""
        if not isinstance(value, Mapping) or not all(
            isinstance(key, str) for key in value
        ):
            fail(where, "an object with names", value)
        return {
            Text().check(where, key): self.value.check(_below(where, key), one)
            for key, one in value.items()
        }


@dataclass(frozen=True)
class Record:
    """A mapping of known names, and of `others`; None where there may be none."""

    required: Mapping[str, Field]
    optional: Mapping[str, Field] = has(default_factory=dict)
    others: Field | None = Anything()

    def check(self, where: str, value: Any) -> dict[str, Any]:
        """Return the dict, each known value checked."""
        found = Entries().check(where, value)
        for name in self.required:
            if name not in found:
                raise Malformed(f"{_below(where, name)} is missing")
        known = {**self.required, **self.optional}
        checked = {}
        for name, one in found.items():
            field = known.get(name, self.others)
            if field is None:
                raise Malformed(
                    f"{_below(where, name)} is unknown; known: {', '.join(known)}"
                )
            checked[name] = field.check(_below(where, name), one)
        return checked


@dataclass(frozen=True)
class Json:
    """Text that holds JSON; with `as_text` it stays text."""

    field: Field
    as_text: bool = False

    def check(self, where: str, value: Any) -> Any:
        """Return what the JSON says, or the text."""
        text = Text().check(where, value)
        said = self.field.check(where, parse_json(text, where))
        return text if self.as_text else said


def parse_json(text: str | bytes, where: str) -> Any:
    """Return what a JSON text says.

    Raises
    ------
    Malformed
        If it is none, also where it is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{where}: not JSON: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _below(where: str, name: str) -> str:
    name = json.dumps(name, ensure_ascii=False)[1:-1]  # a line's end would end ours
    return f"{where}/{name}" if where else name


def why_unreadable(path: str | Path) -> str | None:
    """Say why no file can be read at `path`; None where one is that may be tried.

    Nothing is opened: opening a pipe waits for whoever writes into it.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "there is no such file"
    except (OSError, ValueError) as error:
        return f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISDIR(mode):
        return "is a folder, not a file"
    if not stat.S_ISREG(mode):
        return "is a pipe or a device: write what it gives into a file first"
    return None
