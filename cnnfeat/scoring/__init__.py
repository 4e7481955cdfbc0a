"""What turns images into class scores: a head or a fine-tuned network, and its pass."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
