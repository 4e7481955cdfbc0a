"""Parts of fine-tuning: what is read ahead, how long features are, the options."""

import math

import pytest

from cnnfeat.errors import DataError
from cnnfeat.finetune import FinetuneOptions
from cnnfeat.finetune._inputs import prepare_ahead


def test_items_made_ahead_keep_order_and_errors():
    assert list(prepare_ahead(iter(range(10)))) == list(range(10))

    def broken():
        yield 1
        raise DataError("here")

    made = prepare_ahead(broken())
    assert next(made) == 1
    with pytest.raises(DataError, match="here"):
        next(made)


def test_batch_norm_and_head_defaults():
    assert FinetuneOptions(train="head").augmentation == "none"
    assert FinetuneOptions().augmentation == "light"
    assert FinetuneOptions(optimizer="adamw").learning_rate == 1e-3
    assert math.isclose(FinetuneOptions().learning_rate, 0.01)
