"""The verb that tells how alike sets of features of the same images are.

Images of several feature files are matched by path; each layer of each file is a set.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
