"""Linear heads on arrays of features: estimators, transforms, choice of C.

Nothing here opens a file. Importing this package imports torch and scikit-learn, so
the verbs import it inside their functions.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
