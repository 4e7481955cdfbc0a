"""The machinery behind `cnnfeat.extract`: stages, engine choice, interrupts.

Images come from `images`, engines from `networks`, and rows go to `store`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
