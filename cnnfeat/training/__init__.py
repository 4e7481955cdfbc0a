"""Training of a network's parts: the loop, rates, checkpoints, several processes.

It works on modules, batches of inputs and rows. It knows no image files, no command
line and no reports.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
