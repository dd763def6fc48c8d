"""Tokens and pixels: what counts in a loss over positions, and what reaches the methods."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reinvest.core.batch import Batch
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue
from reinvest.core.method import Context, Method
from toy_loops import net, sgd
from toys import card

# --- tokens and pixels -----------------------------------------------------------------------------------------------


def sequences(batch: int = 5, length: int = 6, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, length, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(classes, (batch, length), generator=generator)
    for row in range(batch):
        y[row, row + 1 :] = -100  # example `row` has row + 1 valid tokens
    return x, y


class Tagger(nn.Module):
    """[B, T, 3] -> [B, T, 4], or [B, 4, T]."""

    def __init__(self, channels_first: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4, dtype=torch.float64)
        self.channels_first = channels_first
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-1, 1, 12).view(4, 3))
            self.linear.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        output = self.linear(x)
        return output.transpose(1, 2) if self.channels_first else output


def gradient(chain: Methods, model: nn.Module, x: Tensor, y: Tensor, parts: int = 1) -> tuple[float, Tensor]:
    """The whole batch's loss and the gradient of the first parameter, in one step."""
    data = [(x, y)]
    total = 0.0
    first = next(model.parameters())
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=1.0), duration="1ep", data=data, seed=0):
        before = first.detach().clone()
        for a, b in chain.batches(data, parts):
            loss = chain.loss(model(a), b)
            loss.backward()
            total += loss.item()
            chain.step()
    return total, before - first.detach()


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_token_reduction_is_the_usual_language_model_loss(channels_first: bool, parts: int) -> None:
    x, y = sequences()
    model = Tagger(channels_first)
    usual = F.cross_entropy(model.linear(x).flatten(0, 1), y.flatten())
    (expected,) = torch.autograd.grad(usual, [model.linear.weight])
    loss, got = gradient(Methods(reduction="token"), model, x, y, parts)
    assert loss == pytest.approx(usual.item(), abs=1e-12)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
def test_example_reduction_is_the_mean_of_the_examples_means(channels_first: bool, parts: int) -> None:
    x, y = sequences()
    model = Tagger(channels_first)
    losses = F.cross_entropy(model.linear(x).transpose(1, 2), y, reduction="none")
    usual = (losses.sum(1) / (y != -100).sum(1)).mean()
    (expected,) = torch.autograd.grad(usual, [model.linear.weight])
    loss, got = gradient(Methods(), model, x, y, parts)
    assert loss == pytest.approx(usual.item(), abs=1e-12)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_token_reduction_with_labels_shifted_in_the_loop(parts: int) -> None:
    x, y = sequences()
    y = y.flip(1)  # the first labels are ignored in some rows and count in others
    y[1:3, 0] = 2
    usual = F.cross_entropy(Tagger()(x)[:, :-1].flatten(0, 1), y[:, 1:].flatten())
    model, chain, data, total = Tagger(), Methods(reduction="token"), [(x, y)], 0.0
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        for a, b in chain.batches(data, parts):
            loss = chain.loss(model(a)[:, :-1], b[:, 1:])
            loss.backward()
            total += loss.item()
            chain.step()
    assert total == pytest.approx(usual.item(), abs=1e-12)


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("how", ["own mean", "scalar"])
def test_token_reduction_where_the_means_are_taken_elsewhere(parts: int, how: str) -> None:
    x, y = sequences()
    usual = F.cross_entropy(Tagger()(x).flatten(0, 1), y.flatten())

    def means(output: Tensor, target: Tensor) -> Tensor:
        losses = F.cross_entropy(output.transpose(1, 2), target, reduction="none")
        return losses.sum(1) / (target != -100).sum(1)

    model, chain, data, total = Tagger(), Methods(reduction="token"), [(x, y)], 0.0
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0, criterion=means):
        for a, b in chain.batches(data, parts):
            output = model(a)
            loss = chain.loss(F.cross_entropy(output.flatten(0, 1), b.flatten()) if how == "scalar" else output, b)
            loss.backward()
            total += loss.item()
            chain.step()
    assert total == pytest.approx(usual.item(), abs=1e-12)


def test_methods_of_the_loss_phase_see_one_loss_an_example_and_tokens_weigh_them_afterwards() -> None:
    seen: list[Tensor] = []

    class Double(Method):
        card = card("losses")

        def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
            seen.append(losses.detach().clone())
            return losses * torch.arange(1.0, 6.0, dtype=losses.dtype)

    x, y = sequences()
    model = Tagger()
    raw = F.cross_entropy(model(x).transpose(1, 2), y, reduction="none").detach()
    counts = (y != -100).sum(1)
    means = raw.sum(1) / counts
    loss, _ = gradient(Methods(Double(), reduction="token"), model, x, y)
    torch.testing.assert_close(seen[0], means, rtol=0, atol=1e-12)
    assert loss == pytest.approx(((means * torch.arange(1.0, 6.0) * counts).sum() / counts.sum()).item(), abs=1e-12)


@pytest.mark.parametrize("reduction", ["example", "token"])
@pytest.mark.parametrize("parts", [1, 2])
def test_an_example_without_a_valid_position_gives_no_gradient_and_no_nan(reduction: str, parts: int) -> None:
    x, y = sequences()
    y[-1] = -100
    loss, got = gradient(Methods(reduction=reduction), Tagger(), x, y, parts)
    less, expected = gradient(Methods(reduction=reduction), Tagger(), x[:-1], y[:-1], 1)
    share = 1 if reduction == "token" else 4 / 5
    assert loss == pytest.approx(less * share, abs=1e-12)
    torch.testing.assert_close(got, expected * share, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reduction", ["example", "token"])
def test_a_batch_without_any_valid_position_is_a_loss_of_zero(reduction: str) -> None:
    x, y = sequences()
    loss, got = gradient(Methods(reduction=reduction), Tagger(), x, torch.full_like(y, -100))
    assert loss == 0 and not got.any()


@pytest.mark.parametrize("reduction", ["example", "token"])
def test_ignored_labels_of_ordinary_classification(reduction: str) -> None:
    x, y = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, -100, 1, 2, -100, 3])
    model = net()
    losses = F.cross_entropy(model(x), y, reduction="none")
    expected = losses.sum() / (4 if reduction == "token" else 6)
    loss, _ = gradient(Methods(reduction=reduction), model, x, y)
    assert loss == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("reduction", ["example", "token"])
def test_pixels(reduction: str) -> None:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(3, 2, 4, 5, generator=generator), torch.randint(3, (3, 4, 5), generator=generator)
    y[0, :2] = -100
    model = nn.Conv2d(2, 3, 1)
    losses = F.cross_entropy(model(x), y, reduction="none").flatten(1)
    counts = (y != -100).flatten(1).sum(1)
    expected = losses.sum() / counts.sum() if reduction == "token" else (losses.sum(1) / counts).mean()
    loss, _ = gradient(Methods(reduction=reduction), model, x, y)
    assert loss == pytest.approx(expected.item(), abs=1e-6)


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"sum.*example|example.*sum"):
        Methods(reduction="sum")
