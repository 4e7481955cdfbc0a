"""The one place where the version stands; importable without anything heavy."""

__version__ = "0.1.0"
