"""Tables, plots and one HTML page from results that others computed.

Computes no score, decodes no image, prints nothing. matplotlib is imported only when
the first figure is made.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
