"""Tables and numbers as people read them, and as programs do."""

import csv
import dataclasses
import io
from unicodedata import combining, east_asian_width

import pytest
from hypothesis import given, strategies as st

from cnnfeat.report import (
    Column,
    MeanStd,
    Table,
    format_amount,
    format_number,
    format_percent,
    format_range,
)


@dataclasses.dataclass
class Row:
    layer: str
    accuracy: MeanStd
    n: int


ROWS = [Row("fc6", MeanStd(0.923, 0.004), 30), Row("a|b", MeanStd(0.5), 5)]
COLUMNS = ("layer", Column("accuracy", percent=True), "n")


def test_percentages_exist_only_in_print():
    assert format_percent(0.9231, 0.0044) == "92.3 ± 0.4"
    assert format_percent(0.5) == "50.0"
    assert format_percent(float("nan"), 0.1) == "–"
    assert Column("x", percent=True).show(0.25) == "25.0"
    assert Column("x").show(0.25) == "0.25"
    assert Column("x", percent=True).heading == "x (%)"


def test_a_text_table_is_aligned():
    lines = Table(ROWS, COLUMNS, "Results").to_text().splitlines()
    assert lines[0] == "Results"
    assert lines[1] == "layer  accuracy (%)   n"
    assert lines[3] == "fc6      92.3 ± 0.4  30"
    assert lines[4] == "a|b            50.0   5"


def test_columns_that_say_one_thing_move_into_the_caption():
    rows = [{"a": "x", "n": 1000, "b": 1, "c": None}, {"a": "x", "n": 1000, "b": 2}]
    table = Table(rows, ("a", "n", "b", "c"), "Results").without_constants()
    assert table.to_text().splitlines() == ["Results; a x; n 1,000", "b", "─", "1", "2"]
    alone = Table(rows[:1], ("a", "b"))
    assert alone.without_constants() is alone


@given(
    st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), min_size=1),
    st.integers(30, 120),
)
def test_a_text_table_fits_the_terminal(cells, width):
    rows = [{"a": a, "b": b, "n": 1.5} for a, b in cells]
    for line in Table(rows, ("a", "b", "n"), "word " * 50).to_text(width).splitlines():
        assert sum(1 + (east_asian_width(c) in "WF") for c in line) <= width + sum(
            combining(c) > 0 for c in line
        )


def test_spare_columns_are_left_out_last_first_where_the_terminal_is_narrow():
    rows = [{"name": "x" * 20, "a": 1, "b": 2, "c": 3}]
    columns = (
        *(Column("name", whole=True), Column("a", spare=True)),
        *(Column("b", spare=True), Column("c")),
    )
    headings = [
        Table(rows, columns).to_text(width).splitlines()[0].split()
        for width in (30, 27, 23, 10)
    ]
    assert headings[0] == ["name", "a", "b", "c"]
    assert headings[1] == ["name", "a", "c"]
    assert headings[2] == headings[3] == ["name", "c"]


def test_a_cut_text_keeps_both_ends():
    rows = [{"name": "abcdefghijklmnopqrstuvwxyz"}]
    assert Table(rows).to_text(11).splitlines()[2] == "abcde…vwxyz"
    assert Table(rows).to_text(None).splitlines()[2] == rows[0]["name"]


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        *((0, "0"), (999, "999"), (9408, "9.41 k"), (999_600, "1 M")),
        *((10_840_000, "10.8 M"), (4_089_000_000, "4.09 G")),
    ],
)
def test_amounts_have_a_unit(count, shown):
    assert format_amount(count) == shown
    assert Column("n", amount=True).show(count) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((1000.0, "1000"), (0.01, "0.01"), (1e-7, "0.0000001"), (2.5, "2.5")),
        *((100.00000000952838, "100"), (float("nan"), "–"), (0.0, "0")),
    ],
)
def test_numbers_have_no_exponent(value, shown):
    assert format_number(value) == shown


@given(st.floats(1e-12, 1e12))
def test_a_shown_number_is_the_number(value):
    shown = float(format_number(value, 6))
    assert shown == pytest.approx(value, rel=1e-5)


def test_several_numbers_are_a_median_and_a_range():
    assert format_range([1.0, 100.0, 10.0]) == "10 (1 to 100)"
    assert format_range([10.0, 10.0]) == "10"


def test_a_markdown_table_escapes_bars():
    lines = Table(ROWS, COLUMNS).to_markdown().splitlines()
    assert lines[:2] == ["| layer | accuracy (%) | n |", "| --- | --: | --: |"]
    assert lines[2:] == ["| fc6 | 92.3 ± 0.4 | 30 |", "| a\\|b | 50.0 | 5 |"]


def test_csv_keeps_fractions_at_full_precision():
    rows = list(csv.DictReader(io.StringIO(Table(ROWS, COLUMNS).to_csv())))
    assert rows[0] == {
        "layer": "fc6",
        "accuracy": "0.923",
        "accuracy_std": "0.004",
        "n": "30",
    }
    assert rows[1]["accuracy_std"] == ""


def test_an_empty_table_has_its_headings():
    assert Table([], ("a", "b")).to_csv() == "a,b\n"
    assert Table([], ("a", "b")).to_text().splitlines()[0] == "a  b"
