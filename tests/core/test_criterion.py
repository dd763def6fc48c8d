"""Losses per example in every layout, and the refusal of a mean."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reinvest.core.criterion import check_losses, cross_entropy, per_example, valid_counts
from reinvest.core.errors import InvalidValue


def test_logits_and_labels() -> None:
    output, target = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    assert torch.equal(cross_entropy(output, target), F.cross_entropy(output, target, reduction="none"))


@pytest.mark.parametrize("length", [2, 5, 7])
def test_sequences_in_both_layouts(length: int) -> None:
    output, target = torch.randn(4, length, 3), torch.randint(3, (4, length))
    target[0, 0] = -100
    expected = F.cross_entropy(output.transpose(1, 2), target, reduction="none")
    assert torch.allclose(cross_entropy(output, target), expected)
    assert torch.equal(cross_entropy(output.transpose(1, 2), target), expected)
    assert expected[0, 0] == 0


def test_pixels() -> None:
    output, target = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    assert cross_entropy(output, target).shape == (2, 4, 5)
    assert torch.allclose(cross_entropy(output.movedim(1, -1), target), cross_entropy(output, target))


def test_probabilities() -> None:
    output, target = torch.randn(5, 3), torch.rand(5, 3).softmax(1)
    assert torch.equal(cross_entropy(output, target), F.cross_entropy(output, target, reduction="none"))
    output, target = torch.randn(5, 3, 7), torch.rand(5, 3, 7).softmax(1)
    assert cross_entropy(output, target).shape == (5, 7)


def test_means_over_valid_positions() -> None:
    losses = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    targets = torch.tensor([[0, 1, 2], [1, -100, -100], [-100, -100, -100]])
    assert valid_counts(losses, targets).tolist() == [3, 1, 0]
    assert per_example(losses, targets).tolist() == [2, 4, 0]
    assert per_example(losses, torch.rand(3, 3)).tolist() == [2, pytest.approx(4 / 3), 0]
    assert valid_counts(losses[:, 0], targets).tolist() == [3, 1, 0]
    assert valid_counts(losses[:, 0], targets[:, 1]).tolist() == [1, 0, 0]
    flat = torch.tensor([1.0, 2.0])
    assert per_example(flat, torch.tensor([0, 1])) is flat


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), F.cross_entropy])
def test_a_mean_is_refused_with_the_remedy(criterion: object) -> None:
    with pytest.raises(InvalidValue, match=r"scalar.*reduction='none'"):
        check_losses(torch.tensor(1.0), 4, criterion)
    with pytest.raises(InvalidValue, match=r"\[3\].*reduction='none'|4.*reduction='none'"):
        check_losses(torch.zeros(3), 4, criterion)
    with pytest.raises(InvalidValue, match="tensor"):
        check_losses(1.0, 4, criterion)
