"""Plots hold the numbers given, and are saved whole."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from matplotlib.cbook import is_math_text
from matplotlib.text import Text
from PIL import Image

from cnnfeat.errors import OptionError, OutputError
from cnnfeat.report import (
    ConfusedPair,
    Reference,
    Series,
    Table,
    figure_bytes,
    find_confused_pairs,
    plot_accuracy_by_layer,
    plot_c_curve,
    plot_confused_pairs,
    plot_confusion_matrix,
    plot_contact_sheet,
    plot_learning_curve,
    plot_per_class_accuracy,
    plot_training_curves,
    save_figure,
    similarity_order,
)


def texts(axis_labels):
    return [label.get_text() for label in axis_labels]


def test_accuracy_by_layer_draws_the_means_and_spreads_in_percent():
    series = [Series("SVM", [0.4, 0.6], [0.01, 0.02]), Series("softmax", [0.3, 0.5])]
    axes = plot_accuracy_by_layer(["conv1", "conv2"], series).axes[0]
    svm, softmax = axes.containers
    np.testing.assert_allclose(svm.lines[0].get_ydata(), [40, 60])
    np.testing.assert_allclose(softmax.lines[0].get_ydata(), [30, 50])
    bars = [segment[:, 1] for segment in svm.lines[2][0].get_segments()]
    np.testing.assert_allclose(bars, [[39, 41], [58, 62]])
    assert texts(axes.get_xticklabels()) == ["conv1", "conv2"]
    assert texts(axes.get_legend().get_texts()) == ["SVM", "softmax"]
    assert (axes.get_xlabel(), "(%)" in axes.get_ylabel()) == ("layer", True)


def segments(container):
    return np.array([one[:, 0] for one in container.lines[2][0].get_segments()])


@pytest.mark.parametrize("n_series", [1, 2, 4, 9])
@pytest.mark.parametrize("places", [[5, 10, 30], [7]])
def test_error_bars_stand_beside_each_other(n_series, places):
    values = [0.5] * len(places)
    series = [Series(f"{i}", values, [0.1] * len(places)) for i in range(n_series)]
    axes = plot_learning_curve(places, series).axes[0]
    x = np.array([segments(one)[:, 0] for one in axes.containers])
    # (n_series, n_places): no two at one x, and all nearer to their own place.
    assert all(len(np.unique(column)) == n_series for column in x.T)
    gap = np.diff(places).min(initial=1000)
    assert (np.abs(x - places) < gap / 2).all()
    np.testing.assert_allclose(x.mean(axis=0), places)


def test_the_mark_of_the_chosen_c_is_on_its_line():
    series = [Series("SVM", [0.7, 0.5], [0.1, 0.1]), Series("softmax", [0.3, 0.4])]
    axes = plot_c_curve([0.1, 1], series, chosen={"softmax": 1}).axes[0]
    (mark,) = (one for one in axes.lines if one.get_markersize() == 13)
    line = axes.containers[1].lines[0]
    np.testing.assert_allclose(mark.get_xydata()[0], line.get_xydata()[1])


def test_a_baseline_is_dashed_in_the_colour_of_its_head():
    series = [
        Series("SVM", [0.4, 0.5], style=0),
        Series("softmax", [0.4, 0.5], style=1),
        Series("random, SVM", [0.2, 0.1], baseline=True, style=0),
    ]
    ours, _, random = (
        one.lines[0]
        for one in plot_accuracy_by_layer(["1", "2"], series).axes[0].containers
    )
    assert ours.get_color() == random.get_color()
    assert (ours.is_dashed(), random.is_dashed()) == (False, True)


def test_published_numbers_look_unlike_measured_ones():
    ours, theirs = Series("SVM", [0.4]), Series("ZF", [0.5], published=True)
    first, second = plot_accuracy_by_layer(["1"], [ours, theirs]).axes[0].containers
    assert second.lines[0].get_linestyle() == ":"
    assert first.lines[0].get_linestyle() == "-"


def test_references_are_dashed_lines_named_below_ours():
    references = [Reference("ZF", 0.862, at=30), Reference("DeCAF", 0.8477)]
    figure = plot_accuracy_by_layer(
        ["1", "2"], [Series("SVM", [0.4, 0.5])], references=references
    )
    axes = figure.axes[0]
    across = [line for line in axes.lines if line.get_label() in ("ZF", "DeCAF")]
    assert [line.get_ydata()[0] for line in across] == pytest.approx([86.2, 84.77])
    assert all(line.is_dashed() for line in across)
    assert texts(figure.legends[0].get_texts()) == ["SVM", "ZF", "DeCAF"]
    low, high = axes.get_ylim()
    assert low < 40
    assert high > 86.2
    # A layer is no number of images: nothing is marked at 30 here.
    assert axes.get_xlim()[1] < 2


def test_a_reference_is_marked_at_its_training_size():
    figure = plot_learning_curve(
        [5, 30], [Series("SVM", [0.5, 0.9])], references=[Reference("ZF", 0.862, at=30)]
    )
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    found = [
        tuple(line.get_xydata()[0]) for line in marks if len(line.get_xdata()) == 1
    ]
    assert found == [(30, pytest.approx(86.2))]


def test_the_learning_curve_stands_at_the_training_sizes():
    axes = plot_learning_curve([5, 30], [Series("SVM", [0.5, 0.9])]).axes[0]
    np.testing.assert_allclose(axes.containers[0].lines[0].get_xdata(), [5, 30])
    assert list(axes.get_xticks()) == [5, 30]


def test_the_c_curve_is_sorted_logarithmic_and_marks_the_choice():
    series = [Series("SVM", [0.7, 0.5, 0.6])]
    axes = plot_c_curve([1, 0.01, 10], series, chosen={"SVM": 1}).axes[0]
    assert axes.get_xscale() == "log"
    line = axes.containers[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [0.01, 1, 10])
    np.testing.assert_allclose(line.get_ydata(), [50, 70, 60])
    assert "chosen for SVM: C = 1" in texts(axes.get_legend().get_texts())


@pytest.mark.parametrize(
    ("C", "chosen", "match"),
    [
        ([0.0, 1.0], {}, "positive"),
        ([0.1, 1.0], {"SVM": 5.0}, "not in the grid"),
        ([0.1, 1.0], {"other": 1.0}, "none of"),
    ],
)
def test_a_c_curve_that_contradicts_itself_is_refused(C, chosen, match):
    with pytest.raises(ValueError, match=match):
        plot_c_curve(C, [Series("SVM", [0.1, 0.2])], chosen=chosen)


def test_lengths_that_disagree_are_refused():
    with pytest.raises(ValueError, match="2 means, 1 stds"):
        Series("SVM", [0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="1 values for 2 places"):
        plot_accuracy_by_layer(["a", "b"], [Series("SVM", [0.1])])
    with pytest.raises(ValueError, match=r"different lengths: \[1, 2\]"):
        plot_training_curves([1.0, 2.0], validation_accuracy=[0.5])


def test_training_curves_name_the_best_epoch():
    figure = plot_training_curves([2, 1, 0.5], validation_accuracy=[0.3, 0.6, 0.5])
    loss, accuracy = figure.axes
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [[1, 2], [2, 1], [3, 0.5]])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [30, 60, 50])
    labels = texts(accuracy.get_legend().get_texts())
    assert "best: 60.0 % (epoch 2)" in labels


def test_the_confusion_matrix_shows_shares_of_the_true_class():
    axes = plot_confusion_matrix([[3, 1], [0, 0]], ["ant", "bee"]).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[75, 25], [0, 0]])
    assert texts(axes.get_yticklabels()) == ["ant", "bee"]
    assert texts(axes.texts) == ["75", "25", "0", "0"]


def two_groups(k):
    """Return counts where even classes are taken for even ones, odd for odd."""
    alike = np.add.outer(np.arange(k), np.arange(k)) % 2 == 0
    return np.where(np.eye(k, dtype=bool), 20, np.where(alike, 3, 0))


def test_many_classes_are_ordered_by_what_they_are_taken_for():
    names = [f"{'even' if i % 2 == 0 else 'odd'} {i}" for i in range(12)]
    axes = plot_confusion_matrix(two_groups(12), names).axes[0]
    groups = [name.split()[0] for name in texts(axes.get_yticklabels())]
    assert groups in (["even"] * 6 + ["odd"] * 6, ["odd"] * 6 + ["even"] * 6)
    assert texts(axes.get_xticklabels()) == texts(axes.get_yticklabels())
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(np.diag(shares), 100 * 20 / 35)
    np.testing.assert_array_equal(shares[:6, 6:], 0)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.randoms(use_true_random=False))
def test_the_order_by_similarity_has_each_class_once(k, random):
    confusion = np.array([[random.randint(0, 4) for _ in range(k)] for _ in range(k)])
    assert sorted(similarity_order(confusion)) == list(range(k))


@pytest.mark.parametrize(("k", "named"), [(1, True), (120, True), (121, False)])
def test_class_names_are_drawn_while_they_fit(k, named):
    names = [f"class {i}" for i in range(k)]
    axes = plot_confusion_matrix(np.eye(k, dtype=int), names).axes[0]
    assert ("class 0" in texts(axes.get_yticklabels())) is named


def test_a_confusion_matrix_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 2\) for 3 class names"):
        plot_confusion_matrix(np.eye(2), ["a", "b", "c"])


def test_per_class_bars_are_sorted_and_leave_out_unscored_classes():
    axes = plot_per_class_accuracy([0.9, np.nan, 0.1], ["a", "b", "c"]).axes[0]
    assert texts(axes.get_yticklabels()) == ["c", "a"]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [10, 90])
    assert "1 without test images" in axes.get_xlabel()
    with pytest.raises(ValueError, match="no class has a test image"):
        plot_per_class_accuracy([np.nan], ["a"])


def test_many_classes_show_the_two_ends():
    accuracy = np.arange(397) / 397
    figure = plot_per_class_accuracy(accuracy, [str(i) for i in range(397)])
    shown = texts(figure.axes[0].get_yticklabels())
    assert shown == [str(i) for i in [*range(20), *range(377, 397)]]
    assert "357 classes between" in figure.axes[0].get_xlabel()


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=4, max_size=4
    )
)
def test_confused_pairs_are_the_largest_off_diagonal_counts(counts):
    confusion = np.array(counts).reshape(4, 4)
    pairs = find_confused_pairs(confusion, n_pairs=5)
    off = sorted(confusion[~np.eye(4, dtype=bool)], reverse=True)[:5]
    assert [count for *_, count in pairs] == [count for count in off if count]
    assert all(i != j and confusion[i, j] == count for i, j, count in pairs)


def test_confused_pairs_and_contact_sheets_show_the_images_given():
    image = np.full((5, 7, 3), 9, np.uint8)
    pair = ConfusedPair("ant", "bee", 3, 4, [image], [image, image])
    figure = plot_confused_pairs([pair, pair])
    assert sum(len(axes.images) for axes in figure.get_axes()) == 6
    sheet = plot_contact_sheet([image, image[:, :, 0]], ["$a", "b"])
    np.testing.assert_array_equal(sheet.axes[0].images[0].get_array(), image)
    assert sheet.axes[0].get_title() == "$a"
    with pytest.raises(ValueError, match="1 captions for 2 images"):
        plot_contact_sheet([image, image], ["a"])


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_a_figure_is_saved_in_the_format_of_its_suffix(tmp_path, suffix, start):
    for name in ("a", "b"):
        figure = plot_learning_curve([1, 2], [Series("SVM", [0.5, 0.75])])
        save_figure(figure, tmp_path / f"{name}{suffix.upper()}")
    data = (tmp_path / f"a{suffix.upper()}").read_bytes()
    assert data.startswith(start)
    assert data == (tmp_path / f"b{suffix.upper()}").read_bytes()
    assert b"atplotlib v" not in data and b"CreationDate" not in data
    with pytest.raises(OptionError, match=r"\.pdf or \.png or \.svg"):
        save_figure(figure, tmp_path / "a.jpg")


NAMES = ("$x^2$", r"\$5 and $6", "two\nlines", "\x1b[31m", "$", "<b>", "a" * 60 + "$$")


def test_names_are_drawn_as_text_in_every_plot():
    k = len(NAMES)
    lines = [Series(name, [0.1] * k) for name in NAMES]
    references = [Reference(name, 0.2) for name in NAMES]
    image = np.zeros((5, 7, 3), np.uint8)
    for figure in (
        plot_accuracy_by_layer(NAMES, lines, references=references, title=NAMES[0]),
        plot_learning_curve(range(1, k + 1), lines, title=NAMES[1]),
        plot_c_curve(range(1, k + 1), lines, chosen={NAMES[0]: 1, NAMES[3]: 2}),
        plot_confusion_matrix(np.eye(k, dtype=int), NAMES, title=NAMES[2]),
        plot_per_class_accuracy(np.ones(k), NAMES),
        plot_contact_sheet([image] * k, NAMES, title=NAMES[3]),
        plot_confused_pairs([ConfusedPair(n, n, 1, 2) for n in NAMES], title=NAMES[0]),
    ):
        figure.canvas.draw()
        for text in figure.findobj(Text):
            assert not any(c in text.get_text() for c in "\n\x1b")
            if "$" in text.get_text().replace("mathdefault", ""):
                is_set = text.get_parse_math() and is_math_text(text.get_text())
                assert not is_set or "mathdefault" in text.get_text()


def test_a_table_shows_names_as_text():
    table = Table([{"name": name, "n": 1} for name in NAMES], caption="a\x1b[31m")
    for text in (table.to_text(), table.to_markdown()):
        assert "\x1b" not in text
    assert r"\<b\>" in table.to_markdown()
    assert len(table.to_text().splitlines()) == len(NAMES) + 3


def test_a_saved_figure_is_a_png_and_the_same_each_time(tmp_path):
    def draw():
        return plot_accuracy_by_layer(["a$b$", "_{x"], [Series("$\\x", [0.1, 0.2])])

    save_figure(draw(), tmp_path / "plot.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["plot.png"]
    assert (tmp_path / "plot.png").read_bytes() == figure_bytes(draw())
    with Image.open(tmp_path / "plot.png") as image:
        assert image.format == "PNG"
        assert image.size == (750, 630)
        assert "Software" not in image.info
    with pytest.raises(OutputError, match="missing"):
        save_figure(draw(), tmp_path / "missing/plot.png")


@pytest.mark.parametrize(
    ("suffix", "first"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_equal_figures_are_equal_bytes_in_every_format(suffix, first):
    made = [
        figure_bytes(plot_confusion_matrix(two_groups(12), ["$x"] * 12), suffix)
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert made[0].startswith(first)
    assert b"matplotlib" not in made[0][:200].lower() or suffix == ".svg"
    assert b"<dc:date>" not in made[0]
    assert b"CreationDate" not in made[0]


def test_training_curves_mark_the_epoch_that_was_kept():
    """Of two equal ones that of the lower loss, which the curves need not know."""
    figure = plot_training_curves(
        [2, 1, 0.5], validation_accuracy=[0.3, 0.6, 0.6], best_epoch=3
    )
    labels = texts(figure.axes[1].get_legend().get_texts())
    assert "best: 60.0 % (epoch 3)" in labels
