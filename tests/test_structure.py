"""The house is built as docs/architecture.md says; `structure.py` counts."""

import re

import pytest
import structure
from structure import PACKAGE

LEAVES = {
    *("errors", "suffixes", "channel", "outputs", "machine", "interrupts"),
    *("image_table", "layer_spec", "value_range", "seen", "splits", "metrics"),
    *("readback", "shown"),
    *("significance", "fetching", "similarity"),
}
# Leaf -> the leaves that it may import.
LEAF_IMPORTS = {
    **{leaf: set() for leaf in ("errors", "suffixes", "channel")},
    **{leaf: {"errors"} for leaf in ("machine", "interrupts", "metrics")},
    "outputs": {"errors", "suffixes"},
    "fetching": {"errors", "outputs"},
    **{leaf: set() for leaf in ("readback", "shown", "similarity")},
    **{leaf: {"errors"} for leaf in ("layer_spec", "value_range", "significance")},
    "image_table": {"errors", "value_range"},
    "seen": {"errors", "image_table"},
    "splits": {"errors", "image_table", "readback", "shown"},
}
# Room -> the rooms that it may import besides the leaves (docs/architecture.md).
ROOM_IMPORTS = {
    "images": set(),
    "networks": {"images"},
    "layers": {"networks"},
    "extraction": {"images", "networks", "layers"},
    "heads": set(),
    "store": {"heads"},
    "scoring": {"images", "networks", "layers", "extraction", "heads", "store"},
    "protocols": set(),
    "training": {"images", "networks", "layers", "extraction"},
    "datasets": set(),
    "report": set(),
    "exchange": {"images", "store"},
}
VERBS = {
    *("extract", "train", "evaluate", "predict", "benchmark", "finetune"),
    *("download", "describe", "visualize", "leaks", "suspects", "compare"),
    *("export", "import_", "merge"),
}
# The verbs that call other verbs: baselines are extracted, heads scored with and
# without copies, files of the same images aligned.
VERB_IMPORTS = {
    "benchmark": {"extract"},
    "leaks": {"evaluate"},
    "compare": {"benchmark"},
}


def test_every_room_has_its_place():
    known = {*LEAVES, *ROOM_IMPORTS, *VERBS, "cli"}
    found = {structure.room_of(name) for name in structure.modules()}
    assert found - {"__init__", "__main__", "_version"} == known


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_a_leaf_imports_only_leaves_below_it(leaf):
    found = structure.imported_rooms()[leaf] - {"_version"}
    assert found <= LEAF_IMPORTS[leaf]


@pytest.mark.parametrize("room", sorted(ROOM_IMPORTS))
def test_imports_point_one_way(room):
    found = structure.imported_rooms()[room] - {"_version"}
    assert found - LEAVES <= ROOM_IMPORTS[room]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_verbs_join_rooms_and_know_no_other_verb_nor_the_command_line(verb):
    found = structure.imported_rooms()[verb] - {"_version"}
    assert found <= {*LEAVES, *ROOM_IMPORTS, *VERB_IMPORTS.get(verb, ())}


def test_the_command_line_calls_verbs():
    found = structure.imported_rooms()["cli"] - {"_version"}
    assert found <= {*LEAVES, *VERBS, "report"}


def test_nobody_imports_in_circles():
    assert structure.circles(structure.module_graph()) == []
    assert structure.circles(structure.imported_rooms()) == []


def test_doors_behind_a_face_are_shut():
    assert structure.imports_past_a_face() == ["__main__: cnnfeat.cli.main"]
    assert structure.open_doors() == []


def test_activations_are_tapped_in_one_place():
    assert structure.tapping_sites() == []
    assert structure.loops_over_batches() == ["extraction/_run"]


def test_pixels_keep_their_layout_to_the_network_s_door():
    assert structure.axis_changes() == ["images/_preprocessing"]


def test_there_is_one_queue():
    assert structure.bounded_queues() == ["channel.Channel"]


def test_imports_inside_functions_are_few_and_give_their_reason():
    found = structure.function_imports()
    assert len(found) <= 10
    for name, line in found:
        lines = (PACKAGE / f"{name}.py").read_text().splitlines()
        around = lines[max(0, line - 5) : line]
        assert any("#" in text for text in around), (name, line)


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert structure.circles(graph) == [{"b", "c"}]


def test_the_page_on_architecture_names_every_room():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    table = page[page.index("| room |") :]
    for room in (*LEAVES, *ROOM_IMPORTS, *VERBS, "cli"):
        assert re.search(rf"`{room}/?`", table), room
