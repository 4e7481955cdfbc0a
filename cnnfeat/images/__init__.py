"""Which images, decoding, preprocessing, loading in batches.

Nothing in this room imports torch at module level, so that worker processes and
`--help` do without it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
