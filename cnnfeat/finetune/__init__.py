"""Fine-tuning: adapt a network to images, and show whether it paid.

Importing this package imports torch; the command line does it inside command bodies.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
