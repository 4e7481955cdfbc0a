"""Parts of fine-tuning: how long features are, what the options stand for."""

import math

import pytest
import torch

from cnnfeat.finetune import FinetuneOptions
from cnnfeat.finetune._preparing import mean_norm


def test_the_norm_of_spatial_features_is_of_their_average():
    features = torch.rand(4, 6, 5, 5)
    assert mean_norm(features) == pytest.approx(mean_norm(features.mean((2, 3))))


def test_batch_norm_and_head_defaults():
    assert FinetuneOptions(train="head").augmentation == "none"
    assert FinetuneOptions().augmentation == "light"
    assert FinetuneOptions(optimizer="adamw").learning_rate == 1e-3
    assert math.isclose(FinetuneOptions().learning_rate, 0.01)
