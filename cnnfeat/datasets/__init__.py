"""Data set recipes, fetching a file, unpacking an archive, counting what came out.

Knows nothing of networks or features and prints nothing; `cnnfeat.download` joins
these parts.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
