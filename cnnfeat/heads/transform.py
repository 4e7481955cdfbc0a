"""What is done to features before a head sees them; fitted on training rows."""

from __future__ import annotations

from typing import Any

import numpy as np


class FeatureTransform:
    def __init__(
        self, scale="l2", *, signed_sqrt=False, n_components=None, widths=None
    ):
        self.scale, self.signed_sqrt, self.n_components = (
            scale,
            signed_sqrt,
            n_components,
        )
        self.widths = widths

    def fit(self, X: Any) -> Any:
        self.factor_ = 20 / np.linalg.norm(X, axis=1).mean()
        self.mean_, self.std_ = X.mean(0), X.std(0)
        return self

    def transform(self, X: Any) -> Any:
        if self.scale == "l2":
            n = np.linalg.norm(X, axis=1, keepdims=True)
            return X / np.where(n > 0, n, 1)
        if self.scale == "mean-norm":
            return X * self.factor_
        if self.scale == "standard":
            return (X - self.mean_) / np.where(self.std_ > 0, self.std_, 1)
        return X

    def to_arrays(self) -> dict:
        return {
            "scale": self.scale,
            "factor": self.factor_,
            "mean": self.mean_,
            "std": self.std_,
        }

    @classmethod
    def from_arrays(cls, d: dict) -> Any:
        t = cls(d["scale"])
        t.factor_, t.mean_, t.std_ = d["factor"], d["mean"], d["std"]
        return t
