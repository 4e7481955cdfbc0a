"""The verb that repeats a paper's experiment: layers × heads over random splits.

Joins `store`, `protocols`, `splits`, `heads`, `metrics` and `report`. `rows` draws,
`measure` fits and scores, `baselines` makes the comparison with raw pixels and random
weights, `results` holds a cell, `compare` sets two side by side,
`published` the papers' numbers, `summary` is all of it, `publish` writes it down.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
