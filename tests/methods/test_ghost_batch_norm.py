"""GhostBatchNorm: every ghost batch by itself, the running statistics' two rules, and batch norm everywhere else."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop, HandLoop, Setup
from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import InvalidValue
from reinvest.methods.surgery.ghost_batch_norm import (
    GhostBatchNorm,
    ghost_normalize,
    join_batch_norms,
    split_batch_norms,
)

SHAPES = {nn.BatchNorm1d: (), nn.BatchNorm2d: (5, 4), nn.BatchNorm3d: (2, 3, 2)}


def layer(kind=nn.BatchNorm2d, **options):
    torch.manual_seed(0)
    made = kind(3, dtype=torch.float64, **options)
    if made.affine:
        nn.init.normal_(made.weight)
        nn.init.normal_(made.bias)
    return nn.Sequential(made)


def data(rows, shape=(5, 4)):
    torch.manual_seed(1)
    return torch.randn(rows, 3, *shape, dtype=torch.float64) * 2 + 1


@pytest.mark.parametrize("kind", list(SHAPES))
@pytest.mark.parametrize(
    "rows, cuts", [(8, [4, 4]), (11, [6, 5]), (12, [4, 4, 4]), (13, [5, 4, 4]), (7, [7]), (3, [3])]
)
def test_every_ghost_batch_is_normalised_by_itself(kind, rows, cuts):
    """Also where the batch does not divide: B // size parts, as equal as can be, none below the size."""
    model, plain = layer(kind), layer(kind)
    split_batch_norms(model, 4)
    x = data(rows, SHAPES[kind])
    assert torch.equal(model(x), torch.cat([plain(part) for part in x.split(cuts)]))


def test_the_formula():
    x = data(8)
    y, means, variances = ghost_normalize(x, 4, eps=1e-3)
    for k in range(2):
        part = x[4 * k : 4 * k + 4]
        mean, biased = part.mean((0, 2, 3)), part.var((0, 2, 3), correction=0)
        assert torch.allclose(means[k], mean) and torch.allclose(variances[k], biased * 80 / 79)
        wanted = (part - mean[:, None, None]) / (biased + 1e-3).sqrt()[:, None, None]
        assert torch.allclose(y[4 * k : 4 * k + 4], wanted, atol=1e-12)


def test_gradients_are_those_of_the_parts():
    model, plain = layer(), layer()
    split_batch_norms(model, 4)
    x = data(9)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = torch.randn_like(x)
    (model(a) * weights).sum().backward()
    (torch.cat([plain(part) for part in b.split([5, 4])]) * weights).sum().backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-12)
    assert torch.allclose(model[0].weight.grad, plain[0].weight.grad, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, 0.3])
def test_the_running_statistics_move_once_a_step(momentum):
    """Not once a ghost batch, which would be a momentum of 1 - (1 - m)^G: 0.41 in place of 0.1 for 5 of them."""
    model = layer(momentum=momentum)
    split_batch_norms(model, 2)
    x = data(10)
    model(x)
    parts = x.view(5, 2, 3, 5, 4)
    mean = parts.mean((1, 3, 4)).mean(0)
    variance = parts.var((1, 3, 4)).mean(0)
    assert torch.allclose(model[0].running_mean, momentum * mean)
    assert torch.allclose(model[0].running_var, 1 - momentum + momentum * variance)
    assert int(model[0].num_batches_tracked) == 1


def test_the_papers_rule_moves_them_once_a_ghost_batch():
    model, plain = layer(), layer()
    split_batch_norms(model, 2, "ghost")
    x = data(10)
    model(x)
    for part in x.split(2):
        plain(part)
    assert torch.allclose(model[0].running_mean, plain[0].running_mean, atol=1e-14)
    assert torch.allclose(model[0].running_var, plain[0].running_var, atol=1e-14)
    assert int(model[0].num_batches_tracked) == 5
    ones = torch.ones(10, 3, 5, 4, dtype=torch.float64)
    fresh = layer()
    split_batch_norms(fresh, 2, "ghost")
    fresh(ones)
    assert torch.allclose(fresh[0].running_mean, torch.full((3,), 1 - 0.9**5, dtype=torch.float64))


@pytest.mark.parametrize("updates", ["batch", "ghost"])
def test_without_momentum_they_are_plain_averages(updates):
    model = layer(momentum=None)
    split_batch_norms(model, 2, updates)
    batches = [data(4), data(4) * 3 - 1]
    for x in batches:
        model(x)
    means = torch.stack([part.mean((0, 2, 3)) for x in batches for part in x.split(2)])
    assert torch.allclose(model[0].running_mean, means.mean(0))


def test_evaluation_is_batch_norm_bit_for_bit():
    model = layer()
    split_batch_norms(model, 4)
    model(data(8))
    plain = layer()
    plain.load_state_dict(model.state_dict())
    x = data(16)
    assert torch.equal(model.eval()(x), plain.eval()(x))


def test_a_batch_below_two_ghosts_is_batch_norm_bit_for_bit():
    model, plain = layer(), layer()
    split_batch_norms(model, 8)
    x = data(15)
    assert torch.equal(model(x), plain(x))
    assert differences(model.state_dict(), plain.state_dict()) == []


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_layers_without_weights_or_statistics(options):
    model, plain = layer(**options), layer(**options)
    split_batch_norms(model, 4)
    x = data(8)
    assert torch.equal(model(x), torch.cat([plain(part) for part in x.split(4)]))
    assert (
        differences(dict(model.state_dict()), dict(layer(**options).state_dict())) == [] or model[0].track_running_stats
    )


def test_wrong_shapes_are_refused_as_before():
    model = layer()
    split_batch_norms(model, 2)
    with pytest.raises(ValueError, match="expected 4D input"):
        model(torch.randn(8, 3, dtype=torch.float64))


def test_names_weights_and_hooks_stay_and_classes_come_back():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.SyncBatchNorm(3), nn.GroupNorm(1, 3), nn.BatchNorm1d(3))
    names, own = list(model.state_dict()), list(model.parameters())
    model[0].register_forward_hook(lambda *_: None)
    assert split_batch_norms(model, 4) == {
        "0": "BatchNorm2d -> GhostBatchNorm2d",
        "3": "BatchNorm1d -> GhostBatchNorm1d",
    }
    assert split_batch_norms(model, 4) == {}, "once is enough"
    assert list(model.state_dict()) == names and all(a is b for a, b in zip(model.parameters(), own, strict=True))
    assert isinstance(copy.deepcopy(model)[0], nn.BatchNorm2d) and len(model[0]._forward_hooks) == 1
    assert join_batch_norms(model) == 2
    assert [type(m) for m in model] == [nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.BatchNorm1d]
    assert not any("ghost" in name for name in vars(model[0]))


def test_parts_of_an_accumulated_batch_are_batches_of_their_own():
    """As plain batch norm sees them; so parts of one ghost batch each are what whole batches of ghosts are."""
    setup = Setup(dropout=0.0)
    whole = ChainLoop(setup, [GhostBatchNorm(8, updates="ghost")]).run().result()
    parts = ChainLoop(setup, [GhostBatchNorm(8, updates="ghost")], parts=2).run().result()
    assert torch.allclose(whole["model"]["head.weight"], parts["model"]["head.weight"], atol=1e-6)
    assert not torch.allclose(
        whole["model"]["head.weight"], HandLoop(setup).run().result()["model"]["head.weight"], atol=1e-6
    )


# dynamo looks at what a graph before it returned and hides this warning, which an "error" filter raises all the same.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_net_gives_the_same_weights_and_statistics():
    torch._dynamo.reset()
    results = []
    for backend in (None, "aot_eager"):
        method = GhostBatchNorm(5)
        loop = ChainLoop(Setup(dropout=0.0), [method], backend=backend)
        with loop.attached():
            assert method.report() == {"replaced": {"body.1": "BatchNorm2d -> GhostBatchNorm2d"}}
            loop.train()
        results.append(loop.result()["model"])
    assert all(torch.allclose(results[0][n], results[1][n], atol=1e-6) for n in results[0])
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_no_compiler_lowers_the_norm():
    """Inductor gets its gradient wrong (see split_batch_norms), so nothing of it may be in a graph."""
    torch._dynamo.reset()
    seen = []

    def backend(graph, _):
        seen.extend(node.target for node in graph.graph.nodes if node.op.startswith("call"))
        return graph.forward

    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    split_batch_norms(model, 2)
    torch.compile(model, backend=backend)(torch.randn(4, 3, 4, 4)).sum().backward()
    names = " ".join(str(target) for target in seen)
    assert "lerp_" in names
    assert "batch_norm" not in names and "split" not in names
    torch._dynamo.reset()


def test_statistics_stay_in_single_precision_under_autocast():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    split_batch_norms(model, 2)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(torch.randn(6, 3, 4, 4))
    assert y.dtype == torch.bfloat16 and model[1].running_var.dtype == torch.float32
    plain = F.batch_norm(model[0](torch.randn(6, 3, 4, 4)), None, None, training=True)
    _, means, _ = ghost_normalize(torch.randn(4, 3, 2, 2).bfloat16(), 2)
    assert means.dtype == torch.float32
    assert y.shape == plain.shape and bool(torch.isfinite(model[1].running_var).all())


def test_a_model_without_batch_norm_is_named():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(NoEffectWarning, match="the model has no batch norm, so GhostBatchNorm had no effect"),
        Methods(GhostBatchNorm()).attach(model, optimizer, duration="1st", data=[0], seed=0),
    ):
        pass
    with pytest.raises(InvalidValue, match="updates is one of 'batch', 'ghost', got 'step'; choose one of them"):
        GhostBatchNorm(updates="step")
