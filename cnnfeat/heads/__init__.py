"""Linear heads on arrays of features: estimators, transforms, choice of C.

Nothing here opens a file. `Head`, which scores, needs NumPy alone until it does so;
whatever is fitted loads torch and scikit-learn.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
