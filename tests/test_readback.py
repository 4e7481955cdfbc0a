"""Fields say what a value must be; what is something else is named on one line."""

import json
import os

import pytest
from hypothesis import given, strategies as st

from cnnfeat.readback import (
    Anything,
    Entries,
    Items,
    Json,
    Malformed,
    Number,
    OrNothing,
    Record,
    Text,
    Truth,
    parse_json,
    why_unreadable,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
FIELDS = (
    *(Text(), Text(("a", "b")), Text(pattern="[0-9]+"), Number(), Number(1, 5)),
    *(Number(whole=True), Truth(), OrNothing(Text()), Items(Number()), Entries(Text())),
    Record({"a": Number(0)}, {"b": Text()}, others=None),
    Record({"a": Items(Text(), unique=True, at_least=1)}),
    Json(Entries()),
)


@given(value=JSON)
def test_any_value_is_taken_or_refused_on_one_line(value):
    for field in FIELDS:
        try:
            field.check("here", value)
        except Malformed as error:
            assert str(error).startswith("here")
            assert "\n" not in str(error)
            assert len(str(error)) < 400 or len(str(value)) > 50


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (Text(), "ünï"),
        (Text(("svm", "softmax")), "svm"),
        (Number(), 2**2000),
        (Number(0, 1), 0),
        (Number(1, whole=True), 1),
        (Truth(), True),
        (OrNothing(Number()), None),
        (Items(Text(), unique=True), ["a", "b"]),
        (Entries(Number()), {"a": 1}),
        (Record({"a": Truth()}, {"b": Text()}), {"a": False, "c": [1]}),
        (Record({"a": Truth()}, {"b": Text()}, others=None), {"a": False, "b": ""}),
        (Anything(), object),
    ],
)
def test_what_fits_comes_back_as_it_was(field, value):
    assert field.check("x", value) == value


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        (Text(), 3, "x: expected text, found 3"),
        (Text(), "a\0b", "without zero bytes"),
        (Text(), "\udc80", "UTF-8 text"),
        (Text(), b"\xff", "UTF-8 text"),
        (Text(("svm",)), "ridge", "x: expected one of svm, found 'ridge'"),
        (Text(pattern="[0-9]+", told="digits"), "1x", "x: expected digits"),
        (Number(), float("nan"), "a finite number, found nan"),
        (Number(), float("inf"), "a finite number, found inf"),
        (Number(), True, "found True"),
        (Number(), "1", "found '1'"),
        (Number(), 1j, "found 1j"),
        (Number(0, 1), 2, "from 0 to 1, found 2"),
        (Number(1, whole=True), 1.0, "a whole number from 1, found 1.0"),
        (Truth(), 2, "true or false, found 2"),
        (Truth(), 1.0, "true or false"),
        (Items(Text()), "abc", "a list"),
        (Items(Text()), ["a", 1], r"x\[1\]: expected text"),
        (Items(Text(), unique=True), ["a", "a"], "'a' is there twice"),
        (Items(Text(), at_least=1), [], "1 or more entries, found 0"),
        (Items(Text(), at_most=1), ["a", "b"], "0 to 1 entries, found 2"),
        (Entries(), [], "an object"),
        (Entries(), {1: 2}, "an object"),
        (Entries(Text()), {"a": 1}, "x/a: expected text"),
        (Record({"a": Text()}), {}, "x/a is missing"),
        (Record({}, others=None), {"b": 1}, "x/b is unknown"),
        (Json(Entries()), "[" * 9999, "x: not JSON"),
        (Json(Entries()), "{", "x: not JSON"),
        (Json(Entries()), "[]", "an object"),
    ],
)
def test_what_does_not_fit_is_named(field, value, match):
    with pytest.raises(Malformed, match=match):
        field.check("x", value)


def test_a_long_value_is_quoted_in_part():
    with pytest.raises(Malformed) as caught:
        Number().check("x", "a\n" * 1000)
    assert len(str(caught.value)) < 100
    assert "\n" not in str(caught.value)


def test_json_that_stays_text():
    assert Json(Entries(), as_text=True).check("x", '{"b": 1}') == '{"b": 1}'


@given(value=JSON)
def test_json_is_parsed_as_json_does(value):
    text = json.dumps(value)
    assert json.dumps(parse_json(text, "x")) == text


def test_whatever_is_no_file_is_said(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in {
        "file": None,
        "none": "there is no such file",
        "pipe": "is a pipe or a device: write what it gives into a file first",
        ".": "is a folder, not a file",
        "loop": "cannot be opened: Too many levels of symbolic links",
        "a" * 300: "cannot be opened: File name too long",
        "file/x": "cannot be opened: Not a directory",
        "\0": "cannot be opened: embedded null byte",
    }.items():
        assert why_unreadable(tmp_path / name) == reason
