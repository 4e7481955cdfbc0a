"""Every option and argument of the command line, defined once, by subject.

A command writes `options.heads.C_opt`. Callbacks turn text into values and raise
`click.BadParameter` (exit status 2) on anything else. Where one flag has to stand for
two things, docs/cli.md says so, and each of the two options says which it is.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
