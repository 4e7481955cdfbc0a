"""The papers' protocols: their rows, their lists, and the numbers they printed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
