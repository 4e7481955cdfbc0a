"""Networks: which one, its weights, its layers, and what they compute.

Plain re-exports: importing this package imports torch, so the command line does it
inside command bodies only.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
