"""The verb that names the classes of images, with a head or a fine-tuned network."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
