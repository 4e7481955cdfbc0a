"""What is inside a network: layer names, taps, receptive fields, stages, the table."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
