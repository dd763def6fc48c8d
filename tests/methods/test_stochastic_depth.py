"""StochasticDepth: the formula block by block, how often a branch survives, and nothing left at the end."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reinvest._testing.compare import differences, distance, generators
from reinvest._testing.loops import ChainLoop, Setup
from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import InvalidValue
from reinvest.core.streams import stream
from reinvest.methods.surgery.stochastic_depth import BranchDrops, StochasticDepth, linear_survival
from reinvest.testbed.models.gpt import gpt
from reinvest.testbed.models.resnet import Block, resnet8, resnet20

HERE = {f"{__name__}:Residual": "1"}


class Residual(nn.Sequential):
    """x + g(x), g = linear, relu."""

    def forward(self, x):
        return x + super().forward(x)


def residual(depth=3):
    torch.manual_seed(0)
    return nn.Sequential(*(Residual(nn.Linear(4, 4), nn.ReLU()) for _ in range(depth)))


def small(blocks=1):
    torch.manual_seed(1)
    return (resnet8 if blocks == 1 else resnet20)(input_shape=(3, 8, 8), classes=4, width=4)


def attached(model, method, ids=None):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Methods(method).attach(model, optimizer, duration="3st", data=[0] * 3, seed=0)


def test_survival_falls_linearly_from_the_input():
    assert linear_survival(4, 0.5) == [0.875, 0.75, 0.625, 0.5]
    assert linear_survival(54, 0.5)[-1] == 0.5 and linear_survival(3, 1.0) == [1.0, 1.0, 1.0]
    assert linear_survival(0, 0.5) == []
    assert sum(linear_survival(1000, 0.5)) / 1000 == pytest.approx(0.75, abs=1e-3), (
        "three quarters of the blocks, as in the paper"
    )


@pytest.mark.parametrize("mode", ["batch", "sample"])
def test_a_branch_is_divided_by_its_survival_or_left_out(mode):
    """Inverted scaling of H = id + b f(id): b / p in place of b, for every block and every example."""
    model = residual(2).double()
    plain = copy.deepcopy(model)
    x = torch.randn(6, 4, dtype=torch.float64)
    drops = BranchDrops(model, 0.6, mode, HERE)
    rates = [0.8, 0.6]
    assert drops.survival.tolist() == pytest.approx(rates)
    for alive in ([1, 1], [1, 0], [0, 1], [0, 0]):
        table = torch.tensor(alive).expand(6, 2).clone() if mode == "sample" else torch.tensor(alive)
        if mode == "sample":
            table[2:4] = 1 - table[2:4]
        drops.draw(torch.where(table.bool(), 0.0, 0.99))
        wanted = x
        for k, block in enumerate(plain):
            factor = (table[..., k] / drops.survival[k]).double()
            branch = block(wanted) - wanted
            wanted = wanted + (branch * (factor[:, None] if mode == "sample" else factor))
        assert torch.allclose(model(x), wanted, atol=1e-12)


def test_a_net_of_the_package_drops_to_its_shortcuts():
    model = small()
    plain = copy.deepcopy(model)
    x = torch.randn(4, 3, 8, 8)
    for mode in ("batch", "sample"):
        drops = BranchDrops(model, 0.5, mode)
        assert len(drops) == 3 and drops.skips == (mode == "batch")
        drops.draw(torch.full((3,) if mode == "batch" else (4, 3), 0.999))
        h = F.relu(plain.bn(plain.conv(x)))
        for block in plain.blocks:
            h = F.relu(block.shortcut(h))
        assert torch.equal(model(x), plain.head(h.mean((2, 3))))
        drops.remove()
        plain.load_state_dict(model.state_dict())


def test_a_skipped_block_is_not_computed_and_gets_no_gradient():
    model = small()
    calls = []
    for k, block in enumerate(model.blocks):
        block.conv1.register_forward_hook(lambda *_, k=k: calls.append(k))
    drops = BranchDrops(model, 0.5, "batch")
    statistics = model.blocks[1].bn1.running_mean.clone()
    drops.draw(torch.tensor([0.0, 0.99, 0.0]))
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    assert calls == [0, 2] and drops.kept == pytest.approx(2 / 3)
    assert torch.equal(model.blocks[1].bn1.running_mean, statistics)
    assert all(p.grad is None for p in model.blocks[1].parameters())
    assert all(p.grad is not None for p in model.blocks[2].parameters())
    unknown = BranchDrops(small(), 0.5, "batch", {"reinvest.testbed.models.resnet:Block": "bn2"})
    assert not unknown.skips, "without its shortcut a block is computed, and its branch multiplied by 0"


def test_evaluation_is_the_plain_model_and_survival_1_is_bit_for_bit():
    x = torch.randn(4, 3, 8, 8)
    model = small()
    wanted = model.eval()(x)
    drops = BranchDrops(model, 0.3, "sample")
    drops.draw(torch.rand(4, 3))
    assert torch.equal(model(x), wanted)
    drops.remove()
    one, plain = small(), small()
    always = BranchDrops(one, 1.0, "sample")
    always.draw(torch.full((4, 3), 1 - 2.0**-24))
    assert torch.equal(one(x), plain(x))
    assert differences(one.state_dict(), plain.state_dict()) == []


def test_the_mean_over_draws_is_the_plain_branch():
    model = residual(1).double()
    x = torch.randn(3, 4, dtype=torch.float64)
    wanted = model.eval()(x)
    model.train()
    drops = BranchDrops(model, 0.25, "sample", HERE)
    rows = torch.arange(4).repeat_interleave(3)
    drops.draw((rows[:, None] + 0.5) / 4)  # one of four draws survives, exactly
    found = model(x.repeat(4, 1)).view(4, 3, 4).mean(0)
    assert torch.allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("mode", ["batch", "sample"])
def test_a_branch_survives_as_often_as_it_should(mode):
    """2,000 draws a branch; the deviation allowed is 4 standard errors (fixed streams)."""
    model = residual(4)
    method = StochasticDepth(0.4, mode=mode, blocks=HERE)
    rows = 1 if mode == "batch" else 20
    counts = torch.zeros(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    steps = 2000 // rows
    loader = [(torch.zeros(rows, 4), torch.zeros(rows, dtype=torch.int64))] * steps
    chain = Methods(method)
    with chain.attach(model, optimizer, duration=f"{steps}st", data=loader, seed=3):
        for x, y in chain.batches(loader):
            factors = torch.stack([block[1].drop_factor.expand(rows) for block in model])
            counts += (factors > 0).sum(1)
            chain.loss(model(x), y).backward()
            chain.step()
    for count, rate in zip(counts / 2000, linear_survival(4, 0.4), strict=True):
        assert abs(float(count) - rate) < 4 * (rate * (1 - rate) / 2000) ** 0.5


def test_draws_belong_to_the_example_whatever_its_batch():
    factors = {}
    for size in (8, 16):
        setup = Setup(batch_size=size, batch_norm=False, dropout=0.0)
        method = StochasticDepth(0.5, mode="sample", blocks={"torch.nn:Sequential": "4"})
        loop = ChainLoop(setup, [method])
        seen = {}
        with loop.attached():
            for ids, x, y in setup.loader(0):
                (batch,) = loop.chain.batches(_One(ids, x, y))
                seen.update(zip(ids.tolist(), loop.model.body[4].drop_factor.tolist(), strict=True))
                loop._step(batch)
                loop.chain.context.epoch = -1
        factors[size] = seen
    assert factors[8] == factors[16] and set(factors[8].values()) == {0.0, 2.0}


class _One:
    indexed, examples = True, 48

    def __init__(self, *batch):
        self.batch = batch

    def __iter__(self):
        return iter([self.batch])

    def __len__(self):
        return 1


def test_batch_mode_draws_once_for_all_nodes_and_parts():
    blocks = {"torch.nn:Sequential": "4"}
    setup = Setup().plain()
    whole = ChainLoop(setup, [StochasticDepth(0.5, blocks=blocks)]).run().result()
    assert distance(whole, ChainLoop(setup, [StochasticDepth(0.5, blocks=blocks)], parts=4).run().result()) < 1e-6
    nodes = ChainLoop(setup, [StochasticDepth(0.5, blocks=blocks)], nodes=2).run().result()
    assert differences(whole, nodes) == []
    first = stream(setup.seed, "StochasticDepth", 0, 0).uniform(1) < 0.5
    loop = ChainLoop(setup, [StochasticDepth(0.5, blocks=blocks)])
    with loop.attached():
        loop.train(until=1)
        assert bool(loop.model.body[4].drop_factor > 0) == bool(first)


def test_parts_of_unlike_sizes_see_their_own_rows():
    model = residual(1)
    drops = BranchDrops(model, 0.5, "sample", HERE)
    drops.draw(torch.tensor([[0.0], [0.9], [0.9], [0.0], [0.9]]))
    x = torch.rand(5, 4)
    whole = model(x)
    drops.draw(torch.tensor([[0.0], [0.9], [0.9], [0.0], [0.9]]))
    assert torch.equal(torch.cat([model(x[:3]), model(x[3:])]), whole)


def test_no_draw_comes_from_the_global_generator():
    model = small()
    before = generators()
    chain = Methods(StochasticDepth())
    loader = [(torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64))]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with chain.attach(model, optimizer, duration="1ep", data=loader, seed=0):
        for x, y in chain.batches(loader):
            chain.loss(model(x), y).backward()
            chain.step()
    assert differences(generators(), before) == []


def test_names_classes_and_hooks_are_back_at_the_end():
    model = small()
    names, own = list(model.state_dict()), list(model.parameters())
    attributes = [sorted(vars(m)) for m in model.modules()]
    drops = BranchDrops(model, 0.5)
    assert drops.replaced["blocks.2"] == "Block -> SkippedBlock"
    assert drops.replaced["blocks.2.bn2"] == "BatchNorm2d -> DroppedBatchNorm2d"
    assert list(model.state_dict()) == names and all(a is b for a, b in zip(model.parameters(), own, strict=True))
    assert isinstance(model.blocks[0], Block) and isinstance(copy.deepcopy(model).blocks[0], Block)
    drops.remove()
    assert [type(b) for b in model.blocks] == [Block] * 3 and type(model.blocks[0].bn2) is nn.BatchNorm2d
    assert [sorted(vars(m)) for m in model.modules()] == attributes


def test_a_model_without_blocks_has_nothing_to_draw():
    drops = BranchDrops(nn.Sequential(nn.Linear(2, 2)), 0.5)
    drops.draw(torch.rand(0))
    assert len(drops) == 0 and drops.replaced == {}


def test_two_branches_of_a_transformer_layer_draw_apart():
    model = gpt(input_shape=(8,), classes=11, width=16, layers=2, heads=2)
    drops = BranchDrops(model, 0.5, "sample")
    assert len(drops) == 4 and drops.survival.tolist() == [0.75, 0.75, 0.5, 0.5]
    drops.draw(torch.full((3, 4), 0.9))
    tokens = torch.randint(0, 11, (3, 8))
    trunk = model.trunk
    wanted = trunk.norm(trunk.embed(tokens) + trunk.positions[:8])
    assert torch.allclose(trunk(tokens), wanted, atol=1e-6)


# dynamo looks at what a graph before it returned and hides this warning, which an "error" filter raises all the same.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_net_with_skipped_blocks_gives_the_same_weights():
    results = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model = small()
        forward = torch.compile(model, backend="aot_eager") if compiled else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        chain = Methods(StochasticDepth(0.5))
        torch.manual_seed(0)
        loader = [(torch.randn(4, 3, 8, 8), torch.arange(4))] * 4
        kinds = []
        with chain.attach(model, optimizer, duration="1ep", data=loader, seed=0):
            for x, y in chain.batches(loader):
                kinds.append(chain.members[0].kind(chain.context))
                chain.loss(forward(x), y).backward()
                chain.step()
        results.append(model.state_dict())
        assert len(set(kinds)) > 1 and set(kinds) <= {"0/10", "3/10", "7/10", "10/10"}
    assert distance(*results) < 1e-6
    torch._dynamo.reset()


def test_half_precision_stays_half():
    model = residual(1)
    drops = BranchDrops(model, 0.5, "sample", HERE)
    drops.draw(torch.rand(3, 1))
    with torch.autocast("cpu", torch.bfloat16):
        assert model[0][1](torch.randn(3, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_the_report_and_what_is_refused():
    model = residual(2)
    method = StochasticDepth(0.5, blocks=HERE)
    chain = Methods(method)
    chain.reports = False
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with chain.attach(model, optimizer, duration="1st", data=[0], seed=0):
        assert method.report() == {
            "replaced": {"0.1": "ReLU -> DroppedReLU", "1.1": "ReLU -> DroppedReLU"},
            "survival": [0.75, 0.5],
        }
    assert method.report() == {"replaced": {}, "survival": []}
    assert json.loads(json.dumps(method.spec()))["blocks"] == HERE
    with (
        pytest.raises(InvalidValue, match="got '7' for '0'; the block has 0, 1"),
        attached(model, StochasticDepth(blocks={f"{__name__}:Residual": ["1", "7"]})),
    ):
        pass
    assert type(model[0][1]) is nn.ReLU, "what was refused has changed nothing"
    with (
        pytest.warns(NoEffectWarning, match="no residual block of a known type, so StochasticDepth had no effect"),
        attached(nn.Linear(2, 2), StochasticDepth()) as other,
    ):
        other.reports = False
