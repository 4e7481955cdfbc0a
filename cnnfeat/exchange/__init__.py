"""Features in the files of other tools: written, and read.

Packages that only one format needs are extras, read when that format is asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
