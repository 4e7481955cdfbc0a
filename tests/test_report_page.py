"""The page is whole and escaped, asks nothing of the outside, and tells its cells."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cnnfeat.report import (
    ConfusionSheet,
    MeanStd,
    ReportFigure,
    ReportPage,
    Series,
    Table,
    figure_bytes,
    plot_learning_curve,
    render_html,
    save_html,
    similarity_order,
)


class Collector(HTMLParser):
    VOID = frozenset({"meta", "img", "br", "link", "wbr"})

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.open, self.text = [], [], [], ""
        self.titles, self.scripts = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "srcset", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-2:] == ["rect", "title"]:
            self.titles.append(data)
        else:
            self.text += data

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)


def parse(page):
    parser = Collector()
    parser.feed(render_html(page))
    assert parser.open == []
    return parser


def evil_page():
    evil = '<script>alert("1")</script>&amp;'
    png = figure_bytes(plot_learning_curve([1], [Series("SVM", [0.5])]))
    matrix = np.array([[3, 1], [0, 0]])
    return evil, ReportPage(
        title=evil,
        subtitle=evil,
        answer=evil,
        tables=[Table([{evil: evil}], caption=evil)],
        figures=[
            ReportFigure(png, evil, '" onerror="alert(1)', files=['x".png']),
            ConfusionSheet(matrix, [evil, "b"], evil),
        ],
        notes=[evil],
        origins={evil: {evil: evil}},
        warnings=[evil],
    )


def test_the_page_is_escaped_balanced_and_self_contained(tmp_path):
    evil, page = evil_page()
    save_html(page, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8") == render_html(page)
    parser = parse(page)
    # Title and heading, subtitle, answer, warning, note; the table's caption, heading
    # and cell; the captions of both figures, the key; three of the origin. The names at
    # the sides of the drawing are shortened.
    assert parser.text.count(evil) == 15
    assert [evil in title for title in parser.titles] == [True, False, True, True]
    assert parser.tags.count("script") == len(parser.scripts) == 1
    assert [link[:22] for link in parser.links] == ["data:image/png;base64,", 'x".png']
    assert "url(" not in render_html(page)
    assert "@import" not in render_html(page)


def test_browsers_run_the_page_s_own_script_and_style_alone():
    text = render_html(evil_page()[1])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert " style=" not in text
    assert not re.search(r'<[^>]*" on\w+=', text)


def test_long_names_in_a_table_may_be_broken_and_read_the_same():
    parser = parse(
        ReportPage("t", tables=[Table([{"layer": "blocks.5+a_b, 1,024.5"}])])
    )
    assert parser.tags.count("wbr") == 2
    assert "blocks.5+a_b, 1,024.5" in parser.text


def test_figures_come_before_tables_and_the_answer_first():
    png = figure_bytes(plot_learning_curve([1], [Series("SVM", [0.5])]))
    page = ReportPage(
        "t",
        answer="ANSWER",
        figures=[ReportFigure(png, "FIGURE", "a", files=["f.svg", "f.pdf"])],
        tables=[Table([{"TABLE": 1}])],
        origins={"Run": {"ORIGIN": "x", "nothing": ""}},
    )
    text = parse(page).text
    words = ("ANSWER", "FIGURE SVG PDF", "TABLE", "ORIGIN")
    places = [text.index(word) for word in words]
    assert places == sorted(places)
    assert "nothing" not in text


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 45), st.randoms(use_true_random=False))
def test_every_cell_of_the_sheet_names_its_classes_and_counts(k, random):
    confusion = np.array(
        [[random.choice((0, 0, 2)) for _ in range(k)] for _ in range(k)]
    )
    names = [f"class {i}" for i in range(k)]
    parser = parse(ReportPage("t", figures=[ConfusionSheet(confusion, names, "c")]))
    bands, cells = parser.titles[:k], parser.titles[k:]
    order = similarity_order(confusion)
    assert [one.split(" ", 1)[1] for one in bands] == [
        f"{names[i]}: {confusion[i].sum()} test images" for i in order
    ]
    told = {}
    for title in cells:
        found = re.fullmatch(
            r"(\d+) (.*): (\d+) of (\d+) \(.* %\) (right|taken for (\d+) (.*))", title
        )
        true, predicted = found[2], found[7] or found[2]
        assert names[order[int(found[1]) - 1]] == true
        assert int(found[4]) == confusion[names.index(true)].sum()
        told[names.index(true), names.index(predicted)] = int(found[3])
    assert told == {(i, j): confusion[i, j] for i, j in np.argwhere(confusion)}


@pytest.mark.parametrize("k", [4, 101])
def test_the_key_numbers_the_classes_as_the_sheet_does(k):
    sheet = ConfusionSheet(np.eye(k, dtype=int), [f"c{i}" for i in range(k)], "caption")
    text = render_html(ReportPage("t", figures=[sheet]))
    key = re.search(r'<ol class="key">(.*?)</ol>', text, re.S)[1]
    entries = re.findall(r"<li>(\S+) <span>100.0 %</span></li>", key)
    bands = re.findall(r'class="band".*?<title>(\d+) (\S+):', text)
    assert [(str(place + 1), name) for place, name in enumerate(entries)] == bands
    drawing = re.search(r"<svg.*?</svg>", text, re.S)[0]
    assert ("c0</text>" in drawing) is (k == 4)
    assert (">100</text>" in drawing) is (k == 101)


def test_a_sheet_that_does_not_fit_its_names_is_refused():
    page = ReportPage("t", figures=[ConfusionSheet(np.eye(3), ["a", "b"], "c")])
    with pytest.raises(ValueError, match=r"\(3, 3\) for 2 class names"):
        render_html(page)


def test_numbers_stand_at_the_right_where_they_can_be_sorted():
    rows = [{"layer": "fc6", "accuracy": MeanStd(0.923, 0.004)}]
    text = render_html(ReportPage("t", tables=[Table(rows)]))
    assert '<th scope="col" class="number">accuracy</th>' in text
    assert '<td class="number">92.3 ± 0.4</td>' in text
    assert "<td>fc6</td>" in text


def test_an_attribute_cannot_be_broken_out_of():
    assert ' onerror="' not in render_html(evil_page()[1])


def test_a_page_of_nothing_but_a_title_is_whole():
    text = render_html(ReportPage("Title"))
    assert text.startswith("<!DOCTYPE html>\n")
    assert "<h1>Title</h1>" in text
    assert "<h2>" not in text


def test_a_figure_that_is_no_png_is_refused():
    page = ReportPage("t", figures=[ReportFigure(b"GIF89a", "c", "a")])
    with pytest.raises(ValueError, match="not a PNG"):
        render_html(page)


def test_a_path_with_surrogates_does_not_stop_the_report(tmp_path):
    save_html(ReportPage("t", answer="a\udcffb"), tmp_path / "page.html")
    assert "a\\udcffb" in (tmp_path / "page.html").read_text("utf-8")
