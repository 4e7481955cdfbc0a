"""Factories of a user's, for the tests of `--model package.module:factory`."""

import torch
from tiny import TinyNet
from torch import nn


def tiny(num_classes=5):
    torch.manual_seed(0)
    return TinyNet(num_classes)


def fixed():
    return TinyNet(5)


def fails():
    raise OSError("no such\nfile")


def nothing():
    return {"not": "a module"}


class Holder:
    headless = staticmethod(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))


NUMBER = 3
