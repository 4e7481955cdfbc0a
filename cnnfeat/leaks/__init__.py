"""The verb that finds copies of images: within a set, across its splits, in another.

Joins `store`, `similarity` (which rows are near), `images` (whether they show the
same) and `evaluate` (what it does to an accuracy).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
