"""Which rows a head is trained on and which it is scored on: drawn, or from a CSV."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
