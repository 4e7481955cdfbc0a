"""Colours and sizes shared by the plots, so that one head looks alike in all of them.

The eight colours are Okabe and Ito's, told apart with every common form of colour
blindness (Wong, "Points of view: Color blindness", Nature Methods 8, 2011). Lines
differ in marker and dash as well, for print without colour.
"""

from typing import Any

OKABE_ITO = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8F7A00",  # Okabe and Ito's yellow is too pale on white; darkened
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")
GREYS = ("0.45", "0.65")
"""Of what was not measured here."""
DPI = 150
"""Dots an inch of every PNG."""


def line_style(index: int) -> dict[str, Any]:
    """Return matplotlib keywords of the index-th line: colour, marker and dash."""
    return {
        "color": OKABE_ITO[index % len(OKABE_ITO)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[(index // len(OKABE_ITO)) % len(DASHES)],
    }
