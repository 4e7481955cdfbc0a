"""Which values of an image with more than 8 bits become black and white.

Only the word for it: what it does to values is done in `cnnfeat.images`.
"""

import math
import re
from dataclasses import dataclass

from cnnfeat.errors import DataError

AUTO, FULL, MINMAX = "auto", "full", "minmax"
_EXPECTED = "expected auto, full, minmax, P1,P99 (percentiles) or LO,HI (values)"


@dataclass(frozen=True)
class ValueRange:
    """A range of values, as it is asked for and recorded.

    Parameters
    ----------
    kind : {"auto", "full", "minmax", "percentiles", "values"}
    low, high : float
        Percentiles in [0, 100], or values, low below high; 0 for the other kinds.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0

    def __str__(self) -> str:
        sign = {"percentiles": "P", "values": ""}.get(self.kind)
        if sign is None:
            return self.kind
        return f"{sign}{self.low:.12g},{sign}{self.high:.12g}"


def read_range(text: str) -> ValueRange:
    """Return what `auto`, `full`, `minmax`, `P1,P99` or `0,4095` asks for.

    Raises
    ------
    DataError
        If the text is none of these, or the first number is not below the second.
    """
    if text in (AUTO, FULL, MINMAX):
        return ValueRange(text)
    match = re.fullmatch(r"([Pp]?)([^Pp,]+),([Pp]?)([^Pp,]+)", text)
    if match is None or bool(match[1]) != bool(match[3]):
        raise DataError(f"range {text!r}: {_EXPECTED}")
    try:
        low, high = float(match[2]), float(match[4])
    except ValueError:
        raise DataError(f"range {text!r}: {_EXPECTED}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DataError(f"range {text!r}: the first number must be below the second")
    if match[1] and not 0 <= low < high <= 100:
        raise DataError(f"range {text!r}: percentiles go from 0 to 100")
    return ValueRange("percentiles" if match[1] else "values", low, high)
