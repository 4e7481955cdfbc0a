"""Images through a network to rows of features: the noun in the middle.

A Source gives batches of pixels, an Extractor turns them into rows, a Sink takes those:
`run(source, extractor, sink)`. Every verb that needs activations calls it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
