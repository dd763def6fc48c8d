"""MemorySavingActivations: bytes that autograd keeps, counted exactly, and gradients against torch's own."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reinvest._testing.compare import differences, distance
from reinvest._testing.loops import ChainLoop, HandLoop, Setup
from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import InvalidValue, LoopError
from reinvest.methods.surgery.memory_saving import (
    DERIVATIVES,
    MemorySavingActivations,
    pack_bits,
    save_as_before,
    save_less,
    saved_bytes,
    unpack_bits,
)

BITS = [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.LeakyReLU(0.0)]
SMOOTH = [nn.GELU(), nn.GELU("tanh"), nn.SiLU()]
ROWS, HIDDEN = 32, 64


class Written(nn.Module):
    """An activation written out, as model code sometimes has it."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return x * torch.sigmoid(x) if self.kind == "silu" else 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def net(activation, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, HIDDEN), copy.deepcopy(activation), nn.Linear(HIDDEN, 16)).to(dtype)


def buffers(model, dtype=torch.float32):
    """Kept bytes in units of one hidden activation in single precision."""
    x = torch.randn(ROWS, 16, dtype=dtype)
    return saved_bytes(lambda: model(x), [*model.parameters(), x]) / (ROWS * HIDDEN * 4)


def gradient(activation, x, weight):
    x = x.clone().requires_grad_()
    y = activation(x)
    (found,) = torch.autograd.grad(y, x, weight)
    return y.detach(), found


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (8,), (9,), (3, 5, 7), (64, 1), ()])
def test_bits_come_back_in_order_and_take_an_eighth_of_a_byte(shape):
    torch.manual_seed(0)
    mask = torch.rand(shape) < 0.5
    bits = pack_bits(mask)
    assert bits.dtype == torch.uint8 and bits.numel() == -(-mask.numel() // 8)
    assert torch.equal(unpack_bits(bits, mask.shape), mask)
    flat = mask.reshape(-1).tolist()
    assert bits.tolist() == [sum(b << k for k, b in enumerate(flat[i : i + 8])) for i in range(0, len(flat), 8)]


def test_what_torch_keeps_between_two_linear_layers():
    """The card's table: hidden buffers of Linear, activation, Linear."""
    wanted = [(nn.ReLU(), 1), (nn.Tanh(), 1), (nn.Sigmoid(), 1), (nn.GELU(), 2), (nn.SiLU(), 2), (nn.Mish(), 2)]
    wanted += [(nn.LeakyReLU(), 2), (nn.ReLU6(), 2), (Written("gelu"), 4), (Written("silu"), 3)]
    for activation, count in wanted:
        assert buffers(net(activation)) == count, activation


@pytest.mark.parametrize(
    "derivative, own", [("same", 1.0), ("bf16", 0.5), ("8bit", 0.25)], ids=["same", "bf16", "8bit"]
)
@pytest.mark.parametrize("activation", SMOOTH, ids=str)
def test_bytes_of_a_saved_derivative(activation, derivative, own):
    """1 is what the second layer keeps of its input; the paper's own form saves nothing against torch's GELU."""
    model = net(activation)
    save_less(model, derivative=derivative)
    assert buffers(model) == 1 + own


@pytest.mark.parametrize("activation", BITS, ids=str)
def test_bytes_of_one_bit(activation):
    model = net(activation)
    save_less(model)
    assert buffers(model) == 1 + 1 / 32, "on top of ReLU's shared output, in place of LeakyReLU's input"
    assert saved_bytes(lambda: model[1](torch.ones(9, requires_grad=True))) == 2, "nine bits"
    tail = nn.Sequential(nn.Linear(16, HIDDEN), copy.deepcopy(activation))
    assert buffers(tail) == 1
    save_less(tail)
    assert buffers(tail) == 1 / 32, "where nothing behind keeps the output"


def test_without_gradients_nothing_is_kept_or_computed():
    for activation in (nn.ReLU(), nn.GELU()):
        model = nn.Sequential(copy.deepcopy(activation))
        save_less(model)
        x = torch.randn(4, 4)
        assert saved_bytes(lambda model=model, x=x: model(x)) == 0
        with torch.no_grad():
            assert torch.equal(model(x.requires_grad_()), activation(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("activation", BITS, ids=str)
def test_one_bit_is_torch_bit_for_bit(activation, dtype):
    """Also at the corners, at both zeros, at infinities and NaN, and for gradients that are none of them finite."""
    torch.manual_seed(0)
    special = torch.tensor([0.0, -0.0, 6.0, math.inf, -math.inf, math.nan, 1e-40, -1e-40], dtype=dtype)
    x = torch.cat([special.repeat(4), torch.randn(993, dtype=dtype) * 4])
    if isinstance(activation, nn.ReLU6):  # torch's gradient at NaN is 1 or 0 there, depending on the place
        x = x.nan_to_num(3.0, posinf=math.inf, neginf=-math.inf)
    weight = torch.cat([special.repeat_interleave(4), torch.randn(993, dtype=dtype)])
    model = nn.Sequential(copy.deepcopy(activation))
    save_less(model)
    for mine, own in zip(gradient(model, x, weight), gradient(activation, x, weight), strict=True):
        assert torch.equal(mine.nan_to_num(7.0), own.nan_to_num(7.0)) and torch.equal(mine.isnan(), own.isnan())


@pytest.mark.parametrize("activation", SMOOTH, ids=str)
@pytest.mark.parametrize(
    "derivative, dtype, within",
    [
        ("same", torch.float64, 4e-16),
        ("same", torch.float32, 4e-7),
        ("bf16", torch.float32, 2**-8 * 1.13),
        ("8bit", torch.float32, 0.0025 + 1e-6),
    ],
    ids=["same64", "same32", "bf16", "8bit"],
)
def test_gradients_are_within_the_precision_of_what_is_saved(activation, derivative, dtype, within):
    x = torch.linspace(-12, 12, 24001, dtype=dtype)
    model = nn.Sequential(copy.deepcopy(activation))
    save_less(model, derivative=derivative)
    for scale in (1.0, 50.0):
        weight = torch.full_like(x, scale)
        (y, mine), (plain, own) = gradient(model, x, weight), gradient(activation, x, weight)
        assert torch.equal(y, plain)
        error = (mine - own).abs() / scale
        assert float(error.max()) <= within
        if derivative == "8bit":
            assert float(error.max()) > 0.002, "so the bound says something"
            assert bool((mine[x < -11.5] == 0).all()) and bool((mine[x > 11.5] == scale).all()), "0 and 1 are exact"
            assert abs(float((mine - own).mean()) / scale) < 1e-4, "no drift over the whole range"


def test_whole_nets_have_the_gradients_of_plain_ones():
    x = torch.randn(ROWS, 16)
    for activation in BITS:
        plain, model = net(activation), net(activation)
        save_less(model)
        plain(x).pow(2).sum().backward()
        model(x).pow(2).sum().backward()
        assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("activation", [*BITS[:1], *SMOOTH], ids=str)
def test_autocast_keeps_and_returns_half_precision(activation):
    model, plain = net(activation), net(activation)
    save_less(model, derivative="same")
    x = torch.randn(ROWS, 16)
    with torch.autocast("cpu", torch.bfloat16):
        kept = saved_bytes(lambda: model[1](model[0](x)), [*model.parameters(), x])
        y, wanted = model(x), plain(x)
    assert torch.equal(y, wanted) and y.dtype == torch.bfloat16
    inputs = 2 * ROWS * 16  # the first layer's copy of its input in half precision
    own = ROWS * HIDDEN * 2 if activation in SMOOTH else ROWS * HIDDEN // 8
    assert kept == inputs + own
    y.float().pow(2).sum().backward()
    wanted.float().pow(2).sum().backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=0.02, atol=0.02 * float(b.grad.abs().max()))


def test_a_second_backward_pass():
    x = torch.randn(8, dtype=torch.float64, requires_grad=True)
    smooth, bits = nn.Sequential(nn.GELU()), nn.Sequential(nn.LeakyReLU(0.2))
    save_less(smooth)
    save_less(bits)
    with pytest.raises(LoopError, match="one backward pass, got one with create_graph=True; pass derivative=None"):
        torch.autograd.grad(smooth(x).sum() + x.pow(3).sum(), x, create_graph=True)
    assert torch.autograd.gradgradcheck(lambda t: bits(t) * t, (x,))


def test_layouts_and_odd_strides():
    model = nn.Sequential(nn.ReLU())
    save_less(model)
    base = torch.randn(2, 3, 5, 4)
    for x in (
        base.to(memory_format=torch.channels_last),
        base.transpose(1, 3),
        base[:, :, ::2],
        base.expand(2, 3, 5, 4),
    ):
        mine, own = gradient(model, x, torch.ones_like(x)), gradient(F.relu, x, torch.ones_like(x))
        assert all(torch.equal(a, b) for a, b in zip(mine, own, strict=True))


@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_one_graph_under_the_compiler(derivative):
    torch._dynamo.reset()
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    save_less(model, derivative=derivative)
    x = torch.randn(5, 4)
    grads = []
    for forward in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        model.zero_grad()
        forward(x).sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*grads, strict=True))
    torch._dynamo.reset()


def test_what_is_replaced_and_put_back():
    class Own(nn.ReLU):
        pass

    model = nn.Sequential(nn.ReLU(), nn.ReLU(inplace=True), nn.SiLU(inplace=True), Own(), nn.GELU("tanh"), nn.Tanh())
    hooked = model[0].register_forward_hook(lambda *_: None)
    before = [sorted(vars(m)) for m in model]
    done = save_less(model)
    assert done == {"0": "ReLU -> OneBitReLU", "4": "GELU -> DerivativeGELU"} and save_less(model) == {}
    assert save_as_before(model) == 2 and [sorted(vars(m)) for m in model] == before
    assert type(model[4]) is nn.GELU and model[4].approximate == "tanh" and len(model[0]._forward_hooks) == 1
    hooked.remove()
    assert list(save_less(model, one_bit=False)) == ["4"]
    save_as_before(model)
    assert list(save_less(model, derivative=None)) == ["0"]


def test_a_run_with_one_bit_is_the_plain_run_bit_for_bit():
    method = MemorySavingActivations()
    loop = ChainLoop(Setup(), [method])
    with loop.attached():
        assert method.report() == {"replaced": dict.fromkeys(["body.2", "body.5"], "ReLU -> OneBitReLU")}
        x, _ = Setup().data()
        kept = saved_bytes(lambda: loop.model.body(x[:4]))
        save_as_before(loop.model)
        assert saved_bytes(lambda: loop.model.body(x[:4])) > kept
        save_less(loop.model)
        for buffer in loop.model.buffers():  # the two looks above moved the statistics
            buffer.copy_(torch.ones_like(buffer) if buffer.is_floating_point() else torch.zeros_like(buffer))
        loop.model.body[1].running_mean.zero_()
        loop.train()
    assert differences(loop.result(), HandLoop(Setup()).run().result()) == [] and method.report() == {"replaced": {}}


def test_a_run_with_derivatives_stays_near_the_plain_run():
    results = []
    for methods in ([], [MemorySavingActivations(derivative="same")], [MemorySavingActivations()]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 32), nn.GELU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 3)).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loader = [(torch.randn(16, 6).double(), torch.randint(0, 3, (16,)))] * 20
        chain = Methods(*methods)
        with chain.attach(model, optimizer, duration="1ep", data=loader, seed=0):
            for x, y in chain.batches(loader):
                chain.loss(model(x), y).backward()
                chain.step()
        results.append(model.state_dict())
    assert distance(results[0], results[1]) < 1e-14
    assert 1e-7 < distance(results[0], results[2]) < 1e-3


def test_nothing_found_is_said_and_bad_values_are_refused():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(NoEffectWarning, match="no activation module that does not work in place"),
        Methods(MemorySavingActivations()).attach(model, optimizer, duration="1st", data=[0], seed=0),
    ):
        pass
    with pytest.raises(InvalidValue, match="None or one of 'same', 'bf16', '8bit', got '4bit'; choose one of them"):
        MemorySavingActivations(derivative="4bit")
