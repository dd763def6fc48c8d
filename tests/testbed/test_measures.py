"""Measures of whole splits against hand-counted values."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from reinvest.core.errors import InvalidValue
from reinvest.testbed.tasks.measures import ClassAccuracy, MeanIoU, TokenMeans


def logits(predicted, classes):
    """One-hot logits [B, classes, ...] whose largest is `predicted` [B, ...]."""
    return F.one_hot(torch.as_tensor(predicted), classes).movedim(-1, 1).float()


def fed(measure, pairs):
    for output, target in pairs:
        measure.update(output, torch.as_tensor(target))
    return measure.compute()


def test_miou_of_a_hand_counted_picture():
    predicted = [[[0, 0, 1], [1, 1, 0]]]
    target = [[[0, 1, 1], [1, 0, -100]]]
    # class 0: 1 hit, union 3; class 1: 2 hits, union 4; class 2 occurs nowhere; the ignored pixel is in no union.
    told = fed(MeanIoU(3), [(logits(predicted, 3), target)])
    assert told["miou"] == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert told["pixel_accuracy"] == pytest.approx(3 / 5)


def test_a_class_that_is_only_predicted_counts_with_zero():
    measure = MeanIoU(3)
    told = fed(measure, [(logits([[[0, 2]]], 3), [[[0, 0]]])])
    assert told["miou"] == pytest.approx((1 / 2 + 0) / 2)
    assert measure.per_class().isnan().tolist() == [False, True, False]


def test_batches_of_any_size_give_the_same_values():
    g = torch.Generator().manual_seed(0)
    output = torch.randn(12, 4, 5, 3, generator=g)
    target = torch.randint(4, (12, 5, 3), generator=g)
    target[torch.rand(target.shape, generator=g) < 0.2] = -100
    for measure in (lambda: MeanIoU(4), TokenMeans):
        whole = fed(measure(), [(output, target)])
        parts = fed(measure(), zip(output.split([5, 1, 6]), target.split([5, 1, 6]), strict=True))
        assert parts == pytest.approx(whole, rel=1e-12)


def test_class_accuracy_weighs_classes_alike():
    target = [0] * 8 + [1] * 2
    predicted = [0] * 6 + [1] * 2 + [1, 0]
    told = fed(ClassAccuracy(3), [(logits(predicted, 3), target)])
    assert told == pytest.approx({"class_accuracy": (6 / 8 + 1 / 2) / 2, "accuracy": 7 / 10})


def test_token_means_weigh_tokens_alike_in_both_layouts():
    g = torch.Generator().manual_seed(0)
    output = torch.randn(2, 3, 7, generator=g)
    target = torch.tensor([[1, -100, -100], [6, 0, 2]])
    kept = target != -100
    nll = F.cross_entropy(output[kept], target[kept]).item()
    right = (output[kept].argmax(1) == target[kept]).double().mean().item()
    expected = {"nll": nll, "token_accuracy": right, "perplexity": math.exp(nll)}
    for layout in (output, output.movedim(-1, 1)):
        assert fed(TokenMeans(), [(layout, target)]) == pytest.approx(expected, rel=1e-6)
    per_example = torch.stack([F.cross_entropy(o, t) for o, t in zip(output, target, strict=True)]).mean()
    assert nll != pytest.approx(per_example.item(), rel=1e-3)


def test_uniform_tokens_have_the_perplexity_of_the_vocabulary():
    told = fed(TokenMeans(), [(torch.zeros(3, 4, 11), torch.zeros(3, 4, dtype=torch.int64))])
    assert told["perplexity"] == pytest.approx(11, rel=1e-6)


def test_nothing_counted_is_not_a_number():
    nothing = torch.full((1, 2), -100)
    assert all(math.isnan(v) for v in fed(TokenMeans(), [(torch.zeros(1, 2, 3), nothing)]).values())
    assert all(math.isnan(v) for v in fed(MeanIoU(3), [(torch.zeros(1, 3, 2), nothing)]).values())


def test_a_hopeless_model_has_infinite_perplexity():
    told = fed(TokenMeans(), [(torch.tensor([[1000.0, 0.0]]), torch.tensor([1]))])
    assert told["nll"] == 1000 and told["perplexity"] == math.inf


@pytest.mark.parametrize("wrong", [0, 2.0, True])
def test_classes_are_a_count(wrong):
    with pytest.raises(InvalidValue, match="at least 1"):
        MeanIoU(wrong)
