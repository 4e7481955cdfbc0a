"""What must be seen of a run: checks of its record, its stderr and its folder."""

import csv
import re

import pytest


def says(path, expected):
    """Return a check: the record says `expected` at the dotted path."""

    def check(record, told, out):
        found = record
        for key in path.split("/"):
            found = found[int(key)] if isinstance(found, list) else found[key]
        if isinstance(expected, float):
            assert found == pytest.approx(expected)
        else:
            assert found == expected

    return check


def file_begins(name, start):
    """Return a check: a file is there, and begins with some bytes."""
    return lambda record, told, out: _begins(out / name, start)


def has_cells(name, column, value, n):
    """Return a check: a table has a value in so many lines of a column."""

    def check(record, told, out):
        with (out / name).open(encoding="utf-8") as file:
            assert [row[column] for row in csv.DictReader(file)].count(value) == n

    return check


def has_files(name):
    """Return a check: a file is there, as the report says."""

    def check(record, told, out):
        assert (out / name).exists()
        assert record["report"]["n_images"] == 12

    return check


def _begins(path, start):
    assert path.read_bytes().startswith(start)


def tells(pattern):
    """Return a check: stderr has a line of that pattern."""

    def check(record, told, out):
        assert re.search(pattern, told), told

    return check


def stops(pattern):
    """Return a check: the command ends with status 1, and a line of that pattern."""
    check = tells(pattern)
    check.status = 1
    return check


def is_silent(record, told, out):
    """Check that stderr has nothing but warnings."""
    assert all(one.startswith("cnnfeat: warning: ") for one in told.splitlines())


def is_replaced(record, told, out):
    """Check that nothing is left of what was there: the test wrote "old"."""
    assert all(path.read_bytes() != b"old" for path in out.iterdir() if path.is_file())


def works(record, told, out):
    """Check nothing more: the option moves work, and changes no result."""
    assert record


def has_events(record, told, out):
    """Check that TensorBoard has something to read."""
    assert any((out / "events").iterdir())


def two_labels(record, told, out):
    """Check that each image has two classes."""
    assert {len(one["labels"]) for one in record["report"]["predictions"]} == {2}


def compares(record, told, out):
    """Check that heads on the network as it was stand beside the one fine-tuned."""
    assert len(record["report"]["comparison"]) > 1


def has_asked(record, told, out):
    """Check that two rows are compared as asked."""
    ((first, second),) = record["report"]["asked_comparisons"]
    assert "layer2" in first and "layer10" in second


def starts_from_tiny(record, told, out):
    """Check that the head file is what the classifier starts from."""
    assert record["info"]["options"]["init"].endswith("tiny.h5")


def chose(field, expected):
    """Return a check of a head's hyper-parameters."""
    return says(f"info/hyperparameters/{field}", expected)


def trained(field, expected):
    """Return a check of a fine-tuned file's options."""
    return says(f"info/options/{field}", expected)
