"""cnnfeat: features of pretrained convnets, linear heads, honest statistics.

The face of the package: `__init__.pyi` lists it. Names are resolved on first use, so
that importing the package, as the command line does for `--help`, imports no torch.
"""

import lazy_loader

from cnnfeat._version import __version__ as __version__
from cnnfeat.machine import quiet_threads

quiet_threads()  # before anything imports torch

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
