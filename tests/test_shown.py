"""Names are shown as text: no terminal obeys them, no spreadsheet, no formula."""

import csv
import io
import json
import unicodedata

import pytest
from hypothesis import example, given, strategies as st

from cnnfeat.shown import (
    csv_cell,
    csv_text,
    from_csv_cell,
    json_text,
    plot_text,
    visible_text,
)

names = st.text() | st.text("=+-@'\t\r\n $1e.aé\x1b\x9b\u202e\u2028<&", max_size=8)


def is_obeyed(character):
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character)[:2] in ("LR", "RL", "PD")
        or character in "\u2066\u2067\u2068\u2069"
    )


@given(name=names)
@example(name="\x1b[31mred\x07")
@example(name="\udc80")
def test_a_terminal_obeys_nothing(name):
    shown = visible_text(name)
    assert not any(map(is_obeyed, shown))
    assert visible_text(shown) == shown
    assert shown == name or any(map(is_obeyed, name))


def test_what_people_write_stays_as_it_is():
    for name in ("Käfer 3", "日本語", "a b", "family: 👨‍👩‍👧", "مرحبا", "=x", "$x$"):
        assert visible_text(name) == name
    assert visible_text("a\nb\t\x1b[0m") == r"a\nb\t\x1b[0m"


@given(name=names)
def test_a_cell_is_no_formula_and_comes_back(name):
    cell = csv_cell(name)
    assert from_csv_cell(cell) == name
    first = cell.lstrip()[:1]
    try:
        float(cell)
    except ValueError:
        assert first not in tuple("=+-@＝＋－＠")
        assert cell[:1] not in tuple("\t\r\n")


@pytest.mark.parametrize("name", ["-1", "+2.5", "1e-3", "a", "a=b", "it's", "'quoted'"])
def test_cells_without_harm_stay_as_they_are(name):
    assert csv_cell(name) == name


@given(rows=st.lists(st.lists(names, min_size=2, max_size=2), max_size=4))
def test_rows_come_back_from_csv(rows):
    text = io.StringIO(csv_text(rows), newline="")
    found = [[from_csv_cell(cell) for cell in row] for row in csv.reader(text)]
    assert found == rows


def test_numbers_stay_numbers():
    assert csv_text([["=a", -1.5, None, True]]) == "'=a,-1.5,,True\n"


@given(value=st.dictionaries(names, names))
def test_json_is_readable_and_obeyed_by_nobody(value):
    text = json_text(value)
    assert json.loads(text) == value
    assert not any(map(is_obeyed, text))


def test_dollars_are_drawn():
    matplotlib = pytest.importorskip("matplotlib.cbook")
    for name in ("$x$", r"\$x$", "a$", "$$", "x"):
        assert not matplotlib.is_math_text(plot_text(name))
