"""The machinery behind `cnnfeat.extract`: stages, engine choice, interrupts.

Images come from `images`, engines from `networks`, and rows go to `store`.
"""
