"""The one exception family: every error that a user can cause derives from it.

A message is one line: where, what was expected, what was found, and the cure. An
argument stands in it as in Python, in backquotes: `overwrite`, `pool=avg`. This module
knows nothing of the command line; `cnnfeat.cli` turns an error into one line on stderr
and exit status 1, and each such argument into its option.
"""


class CnnfeatError(Exception):
    """Anything that went wrong in a way that the user can mend."""


class OptionError(CnnfeatError, ValueError):
    """Options contradict each other, or one cannot have the value that it was given.

    The command line's exit status for it is that of wrong usage.
    """


class InputError(CnnfeatError):
    """IMAGES names nothing that can be listed: missing, empty, malformed."""


class ImageError(CnnfeatError):
    """One image cannot be read; the message is the reason alone, without the path."""


class NetworkError(CnnfeatError):
    """No such network, or it cannot be built."""


class WeightsError(CnnfeatError):
    """Weights are missing, damaged, unsafe, or of another architecture."""


class LayerError(CnnfeatError):
    """No such layer, or it cannot be tapped as asked."""


class DeviceError(CnnfeatError):
    """The device asked for is not there, or it ran out of memory."""


class StoreError(CnnfeatError):
    """A file is damaged, unfinished, of a newer format, or not one of ours."""


class OutputError(CnnfeatError):
    """An output exists already, or cannot be written."""


class ProvenanceError(CnnfeatError):
    """Two files do not go together: the message names the field that differs."""


class DataError(CnnfeatError, ValueError):
    """Features or labels that no head can be trained or scored on."""


class ShapeError(DataError):
    """Arrays whose shapes do not agree."""


class SplitError(CnnfeatError, ValueError):
    """The rows asked for cannot be drawn, or a published list does not match."""


class LeftAloneError(CnnfeatError):
    """Another process of the same run ended; that one says why."""


class DownloadError(CnnfeatError):
    """A data set cannot be fetched, checked or unpacked."""


class ExtraError(CnnfeatError):
    """A package is not installed that only some formats need."""


class CnnfeatWarning(UserWarning):
    """Something the user should know; never silent, never fatal."""


class ConvergenceWarning(CnnfeatWarning):
    """A solver stopped before it reached its tolerance."""
