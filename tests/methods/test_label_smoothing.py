"""Label smoothing."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue
from reinvest.methods.targets.label_smoothing import LabelSmoothing, smooth_labels

LOGITS = torch.linspace(-2, 3, 24).view(6, 4)
CLASSES = torch.tensor([0, 3, 1, 2, 2, 0])


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0])
def test_loss_is_that_of_torch(alpha):
    found = F.cross_entropy(LOGITS, smooth_labels(CLASSES, LOGITS, alpha), reduction="none")
    wanted = F.cross_entropy(LOGITS, CLASSES, reduction="none", label_smoothing=alpha)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_alpha_zero_returns_the_targets_themselves():
    assert smooth_labels(CLASSES, LOGITS, 0.0) is CLASSES


def test_soft_targets_are_smoothed_like_hard_ones():
    hard, soft = (smooth_labels(t, LOGITS, 0.2) for t in (CLASSES, F.one_hot(CLASSES, 4).float()))
    assert torch.allclose(hard, soft, atol=1e-7)
    assert torch.allclose(hard.sum(1), torch.ones(6))


def test_ignored_examples_stay_ignored():
    target = torch.tensor([0, -100, 1, 2, -100, 0])
    soft = smooth_labels(target, LOGITS, 0.1)
    assert torch.equal(soft[target == -100], torch.zeros(2, 4))
    found = F.cross_entropy(LOGITS, soft, reduction="none")
    wanted = F.cross_entropy(LOGITS, target, reduction="none", label_smoothing=0.1)
    assert torch.allclose(found, wanted, atol=1e-6)
    again = smooth_labels(soft, LOGITS, 0.1)
    assert torch.equal(again[target == -100], torch.zeros(2, 4))


@pytest.mark.parametrize("reduction", ["example", "token"])
def test_dense_targets_through_the_chain_ignore_what_torch_ignores(reduction):
    output = torch.linspace(-1, 2, 2 * 5 * 3).view(2, 5, 3).requires_grad_()
    target = torch.tensor([[1, -100, 4], [0, 2, 3]])
    model = torch.nn.Linear(1, 1)
    methods = Methods(LabelSmoothing(0.1), reduction=reduction)
    loader = [(torch.zeros(2, 1), target)]
    with methods.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1st", data=loader, seed=0):
        for _, y in methods.batches(loader):
            loss = methods.loss(output, y)
    each = F.cross_entropy(output, target, reduction="none", label_smoothing=0.1)
    wanted = each.sum() / 5 if reduction == "token" else (each[0].sum() / 2 + each[1].mean()) / 2
    assert torch.allclose(loss, wanted, atol=1e-6)


def test_low_precision_logits_get_targets_in_full_precision():
    soft = smooth_labels(CLASSES, LOGITS.bfloat16(), 0.1)
    assert soft.dtype == torch.float32 and torch.equal(soft, smooth_labels(CLASSES, LOGITS, 0.1))
    assert smooth_labels(CLASSES, LOGITS.double(), 0.1).dtype == torch.float64
    F.cross_entropy(LOGITS.bfloat16(), soft)


def test_targets_are_not_changed_in_place():
    soft = F.one_hot(CLASSES, 4).float()
    before = soft.clone()
    smooth_labels(soft, LOGITS, 0.3)
    assert torch.equal(soft, before)


@pytest.mark.parametrize(
    ("target", "output", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, 7), "movedim"),
        (torch.tensor([0, 4]), torch.zeros(2, 4), "0 .. 3"),
        (torch.tensor([0, -1]), torch.zeros(2, 4), "0 .. 3"),
        (torch.zeros(2, 3), torch.zeros(2, 4), "shape of the logits"),
        (torch.tensor([1]), torch.zeros(4, 4), r"got targets \[1\] and logits \[4, 4\]"),
        (torch.tensor([1, 0, 2, 3, 1]), torch.zeros(4, 4), r"got targets \[5\] and logits \[4, 4\]"),
    ],
)
def test_targets_that_do_not_fit_are_refused(target, output, message):
    with pytest.raises(InvalidValue, match=message):
        smooth_labels(target, output, 0.1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("shape", [(3,), (1, 3)])
def test_class_numbers_of_any_whole_type_are_themselves(dtype, shape):
    """As a byte -100 is 156, which is a class like any other."""
    target = torch.tensor([0, 156, 199]).view(shape)
    output = torch.zeros(shape[0], 200, *shape[1:])
    found = smooth_labels(target.to(dtype), output, 0.2)
    assert torch.equal(found, smooth_labels(target, output, 0.2))
    assert torch.allclose(found.sum(1), torch.ones(shape))


def test_alpha_is_checked_by_the_function_too():
    with pytest.raises(InvalidValue, match=r"got 1\.1"):
        smooth_labels(CLASSES, LOGITS, 1.1)
