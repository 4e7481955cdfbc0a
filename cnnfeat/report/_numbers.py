"""Numbers as people read them: separators, units, no exponents."""

import math
from collections.abc import Sequence
from decimal import Decimal
from statistics import median

_UNITS = ((1e9, " G"), (1e6, " M"), (1e3, " k"))


def format_percent(mean: float, std: float | None = None, *, digits: int = 1) -> str:
    """Return a fraction as a percentage without its sign, "92.3 ± 0.4".

    NaN is a dash; a NaN or missing spread is left out.
    """
    if math.isnan(mean):
        return "–"
    text = f"{100 * mean:.{digits}f}"
    if std is None or math.isnan(std):
        return text
    return f"{text} ± {100 * std:.{digits}f}"


def format_number(value: float, digits: int = 3) -> str:
    """Return a number with `digits` significant ones and no exponent: 1000, 0.01.

    Without separators, so that `--C` takes what was shown.
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(value)
    text = format(Decimal(f"{value:.{digits}g}"), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_amount(count: int) -> str:
    """Return a count with a unit and three digits: 864, 9.41 k, 10.8 M, 4.09 G."""
    for size, unit in _UNITS:
        if count >= size * 0.9995:
            return f"{Decimal(f'{count / size:.3g}'):f}{unit}"
    return str(count)


def format_range(values: Sequence[float]) -> str:
    """Return the median, and the smallest and largest where they differ.

    "10", or "10 (1 to 100)".
    """
    low, high = format_number(min(values)), format_number(max(values))
    middle = format_number(median(values))
    return middle if low == high else f"{middle} ({low} to {high})"
