"""WarmStart and its functions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop, EpochLoader, Setup
from reinvest.core.batch import unpack
from reinvest.core.chain import Methods
from reinvest.core.criterion import cross_entropy
from reinvest.core.errors import InvalidValue, LoopError
from reinvest.core.view import TaskView
from reinvest.methods.surgery._rescale import (
    dash_scales,
    descent_directions,
    fire_weight,
    nearest_isometry,
    refresh_statistics,
)
from reinvest.methods.surgery._states import is_norm, layer_weights
from reinvest.methods.surgery.warm_start import WarmStart, partial_state, shrink_perturb
from reinvest.methods.weights.ema import EMA


class Loader:
    """One epoch of batches that offers its clean data and class names."""

    indexed = True

    def __init__(self, x, y, *, class_names=None, clean=True):
        self.x, self.y, self.examples, self.reads = x, y, len(x), 0
        self.view = TaskView(clean=self.clean if clean else None, class_names=class_names)

    def __len__(self):
        return 1

    def __iter__(self):
        yield torch.arange(len(self.x)), self.x, self.y

    def clean(self, size):
        self.reads += 1
        ids = torch.arange(len(self.x))
        for part in ids.split(size):
            yield part, self.x[part], self.y[part]


def mlp(seed=0, inputs=6, classes=3, bias=True, norm=False):
    torch.manual_seed(seed)
    layers = [nn.Linear(inputs, 8, bias=bias), nn.ReLU(), nn.Linear(8, 8, bias=bias), nn.ReLU()]
    if norm:
        layers.insert(1, nn.BatchNorm1d(8))
    return nn.Sequential(*layers, nn.Linear(8, classes, bias=bias))


def data(examples=40, inputs=6, classes=3):
    torch.manual_seed(5)
    return torch.randn(examples, inputs), torch.randint(0, classes, (examples,))


def state_of(model):
    return {n: t.detach().clone() for n, t in model.state_dict().items()}


def started(model, method, loader=None, optimizer=None):
    """The state and the report right after attach."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) if optimizer is None else optimizer
    loader = Loader(*data()) if loader is None else loader
    with Methods(method).attach(model, optimizer, duration="1ep", data=loader, seed=0):
        return state_of(model), method.report()


# ---- shrink and perturb --------------------------------------------------------------------------------------------


def test_keep_one_is_the_old_state_and_noise_one_the_fresh_one_bit_for_bit():
    old, fresh = state_of(mlp(1, norm=True)), state_of(mlp(2, norm=True))
    old["1.running_mean"] += 1
    fresh["0.weight"][0, 0] = -0.0
    assert differences(shrink_perturb(old, fresh, keep=1.0, noise=0.0), old) == []
    found = shrink_perturb(old, fresh, keep=0.0, noise=1.0)
    assert differences(found, fresh) == [] and bool(torch.signbit(found["0.weight"][0, 0]))


def test_norms_and_buffers_stay_old_and_layers_are_mixed():
    old, fresh = state_of(mlp(1, norm=True)), state_of(mlp(2, norm=True))
    old["1.weight"], old["1.running_var"] = torch.full((8,), 2.0), torch.full((8,), 3.0)
    found = shrink_perturb(old, fresh, keep=0.6, noise=0.4)
    assert torch.equal(found["0.weight"], 0.6 * old["0.weight"] + 0.4 * fresh["0.weight"])
    assert torch.equal(found["5.bias"], 0.6 * old["5.bias"] + 0.4 * fresh["5.bias"])
    for name in ("1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(found[name], old[name])
    model = mlp(2, norm=True)
    assert layer_weights(model) == {n for n in old if not n.startswith("1.")}
    assert layer_weights(model, norms=True) == {n for n, _ in model.named_parameters()}
    also = shrink_perturb(old, fresh, layer_weights(model, norms=True), keep=0.5, noise=0.0)
    assert torch.equal(also["1.weight"], torch.full((8,), 1.0)) and torch.equal(
        also["1.running_var"], old["1.running_var"]
    )


def test_shrinking_a_relu_net_without_biases_scales_logits_by_keep_to_the_depth():
    model, (x, _) = mlp(bias=False), data()
    before = model(x)
    found, report = started(model, WarmStart(state_of(model), keep=0.5))
    after = model(x)
    assert torch.equal(after, before * 0.5**3), "powers of two are exact"
    assert torch.equal(after.argmax(1), before.argmax(1))
    assert report["layers"] == dict.fromkeys(found, 0.5)
    assert report["function"] == pytest.approx(1 - 0.5**3)


def test_a_layer_before_a_norm_shrinks_without_changing_the_function():
    """Batch norm statistics are taken again: left as they were, the outputs would not fit."""
    setup = Setup()
    model = setup.model()
    model.body[1].eps = 1e-12
    old = state_of(model)
    x, y = setup.data()
    loader = Loader(x, y)
    refresh_statistics(model, _batches(x, y))
    before = model.eval()(x).detach()
    stale = state_of(model)
    names = {"body.0.weight", "body.0.bias"}
    shrunk = shrink_perturb(state_of(model), old, names, keep=0.25, noise=0.0)
    model.load_state_dict(shrunk)
    assert float((model(x).detach() - before).abs().max()) > 0.05, "the statistics of the larger weights do not fit"
    refresh_statistics(model, _batches(x, y))
    assert torch.allclose(model(x), before, atol=1e-5)
    assert not torch.allclose(state_of(model)["body.1.running_mean"], stale["body.1.running_mean"])
    model.load_state_dict(stale)
    started(model, WarmStart(stale, keep=0.25), loader)
    assert torch.allclose(model.body[1].running_mean, 0.25 * stale["body.1.running_mean"], atol=1e-6)


def _batches(x, y):
    return [unpack((torch.arange(len(x)), x, y), True)]


def test_tied_weights_are_scaled_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(5, 4)
            self.head = nn.Linear(4, 5, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x):
            return self.head(self.embedding(x))

    torch.manual_seed(0)
    model = Tied()
    old = model.head.weight.detach().clone()
    x, y = torch.arange(5), torch.arange(5)
    loader = Loader(x, y)
    for method in (WarmStart(None, keep=0.5), WarmStart({"head.weight": old}, keep=0.5)):
        found, _ = started(model, method, loader)
        assert torch.equal(found["head.weight"], old * 0.5) and torch.equal(found["embedding.weight"], old * 0.5)
        assert model.head.weight is model.embedding.weight
        with torch.no_grad():
            model.head.weight.copy_(old)
    started(model, WarmStart(None, keep=0.25, method="dash"), loader)
    ratio = (model.head.weight / old).detach()
    assert bool(((ratio >= 0.25 - 1e-6) & (ratio <= 1 + 1e-6)).all()), "0.25 squared would be twice"


def test_16_bit_weights_are_mixed_in_32():
    old, fresh = {"a.weight": torch.full((2, 2), 1.0)}, {"a.weight": torch.full((2, 2), 2.0**-8)}
    short = [{n: t.bfloat16() for n, t in s.items()} for s in (old, fresh)]
    found = shrink_perturb(*short, keep=0.5, noise=1.0)["a.weight"]
    assert found.dtype == torch.bfloat16 and torch.equal(found, torch.full((2, 2), 0.5 + 2.0**-8).bfloat16())


# ---- DASH and FIRE -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3, 3), (6,)])
def test_dash_scales_lie_between_keep_and_one_and_keep_directions(shape):
    torch.manual_seed(1)
    weight, direction = torch.randn(shape), torch.randn(shape)
    scales = dash_scales(weight, direction, 0.3)
    assert float(scales.min()) >= 0.3 - 1e-7 and float(scales.max()) <= 1.0
    flat = (lambda t: t.flatten(2)) if len(shape) > 2 else (lambda t: t)
    cosine = torch.cosine_similarity(flat(weight * scales), flat(weight), dim=-1)
    assert torch.allclose(cosine, torch.ones_like(cosine))
    wanted = torch.cosine_similarity(flat(weight), flat(direction), dim=-1).clamp(0.3, 1.0)
    assert torch.allclose(flat(scales.expand(shape))[..., 0], wanted, atol=1e-6)


def test_dash_leaves_a_row_parallel_to_the_descent_direction():
    torch.manual_seed(1)
    weight = torch.randn(3, 40)
    direction = torch.stack([0.37 * weight[0], -weight[1], torch.zeros(40)])
    assert torch.equal(dash_scales(weight, direction, 0.3), torch.tensor([[1.0], [0.3], [0.3]]))
    assert torch.equal(dash_scales(weight, torch.randn(3, 40), 1.0), torch.ones(3, 1))


def test_descent_directions_are_a_running_average_of_negative_mean_gradients():
    model, (x, y) = mlp(norm=True), data(30)
    before = state_of(model)
    batches = [unpack((part, x[part], y[part]), True) for part in torch.arange(30).split(10)]
    found = descent_directions(model, batches, cross_entropy, ["0.weight", "5.bias"], chunk=20, smoothing=0.3)
    model.eval()
    chunks = []
    for rows in (slice(0, 20), slice(20, 30)):
        loss = cross_entropy(model(x[rows]), y[rows]).mean()
        chunks.append(torch.autograd.grad(loss, [model[0].weight, model[5].bias]))
    for k, name in enumerate(("0.weight", "5.bias")):
        wanted = 0.7 * 0.3 * -chunks[0][k] + 0.3 * -chunks[1][k]
        assert torch.allclose(found[name], wanted, atol=1e-6)
    assert differences(state_of(model), before) == []
    assert all(p.grad is None for p in model.parameters())


def test_dash_shrinks_a_run_and_leaves_modes_generators_and_norms():
    setup = Setup()
    model = setup.model()
    old = state_of(model)
    loader = Loader(*setup.data())
    generator = torch.get_rng_state()
    found, report = started(model, WarmStart(old, keep=0.3, method="dash"), loader)
    assert torch.equal(torch.get_rng_state(), generator) and model.training
    for name in ("body.0.weight", "head.weight"):
        ratio = found[name] / old[name]
        assert bool(((ratio >= 0.3 - 1e-5) & (ratio <= 1 + 1e-5)).all()) and float(ratio.min()) < 0.99
    assert torch.equal(found["body.1.weight"], old["body.1.weight"])
    assert report["function"] > 0
    with pytest.raises(InvalidValue, match=r"gradients of the training data"):
        started(setup.model(), WarmStart(old, keep=0.3, method="dash"), Loader(*setup.data(), clean=False))


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_the_nearest_isometry_is_the_polar_factor(shape):
    torch.manual_seed(2)
    matrix = torch.randn(shape).double()
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.allclose(nearest_isometry(matrix), u @ v, atol=1e-5)
    assert torch.equal(nearest_isometry(torch.zeros(shape)), torch.zeros(shape))


def test_fire_makes_isometries_of_the_scale_of_a_layer():
    torch.manual_seed(3)
    conv = torch.randn(8, 4, 3, 3)
    found = fire_weight(conv)
    for k in range(9):
        one = found.flatten(2)[..., k]
        assert torch.allclose(one.T @ one, torch.eye(4) * (8 / 4 / 81), atol=1e-5)
    model = mlp()
    old = state_of(model)
    whole, _ = started(model, WarmStart(old, keep=0.0, method="fire"))
    half, _ = started(mlp(9), WarmStart(old, keep=0.5, method="fire"))
    assert torch.allclose(whole["2.weight"].T @ whole["2.weight"], torch.eye(8), atol=1e-4)
    assert torch.allclose(half["2.weight"], (whole["2.weight"] + old["2.weight"]) / 2, atol=1e-6)
    assert torch.equal(whole["2.bias"], old["2.bias"])


# ---- fitting -------------------------------------------------------------------------------------------------------


def test_a_grown_head_keeps_its_known_classes_by_number():
    old, fresh = state_of(mlp(1, classes=3)), state_of(mlp(2, classes=5))
    found = partial_state(old, fresh)
    assert torch.equal(found.state["4.weight"][:3], old["4.weight"])
    assert torch.equal(found.state["4.weight"][3:], fresh["4.weight"][3:])
    assert torch.equal(found.state["4.bias"], torch.cat([old["4.bias"], fresh["4.bias"][3:]]))
    assert {n: r.tolist() for n, r in found.fresh_rows.items()} == {"4.weight": [3, 4], "4.bias": [3, 4]}
    assert torch.equal(found.state["0.weight"], old["0.weight"])
    with pytest.raises(InvalidValue, match="fewer classes"):
        partial_state(fresh, old)


def test_classes_are_found_by_name_in_any_order_and_number():
    for names, rows in ((["b", "d", "a"], [1, None, 0]), (["c", "a"], [2, 0]), (["a", "x", "b", "c"], [0, None, 1, 2])):
        old, fresh = state_of(mlp(1, classes=3)), state_of(mlp(2, classes=len(names)))
        found = partial_state(old, fresh, old_names=["a", "b", "c"], new_names=names).state
        for new, row in enumerate(rows):
            source = fresh["4.weight"][new] if row is None else old["4.weight"][row]
            assert torch.equal(found["4.weight"][new], source)
        assert torch.equal(found["2.weight"], old["2.weight"])


def test_a_hidden_width_that_equals_the_classes_is_not_taken_for_the_head():
    old, fresh = state_of(mlp(1, classes=8)), state_of(mlp(2, classes=8))
    names = list("abcdefgh")
    found = partial_state(old, fresh, old_names=names, new_names=names[::-1]).state
    assert torch.equal(found["0.weight"], old["0.weight"]) and torch.equal(found["2.bias"], old["2.bias"])
    assert torch.equal(found["4.weight"], old["4.weight"].flip(0))


def test_rows_of_new_classes_stay_fresh_however_much_the_rest_shrinks():
    old, model = state_of(mlp(1, classes=3)), mlp(2, classes=4)
    fresh = state_of(model)
    found, report = started(model, WarmStart(old, keep=0.5, noise=0.5), Loader(*data(classes=3)))
    assert torch.equal(found["4.weight"][3], fresh["4.weight"][3])
    assert torch.equal(found["4.weight"][:3], 0.5 * old["4.weight"] + 0.5 * fresh["4.weight"][:3])
    assert report["fresh_rows"] == {"4.weight": [3], "4.bias": [3]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("2.weight"), "missing: 2.weight"),
        (lambda s: s.update({"9.weight": torch.zeros(2)}), "unexpected: 9.weight"),
        (lambda s: s.update({"2.weight": torch.zeros(8, 7)}), r"another shape: 2.weight \[8, 7\] for \[8, 8\]"),
        (lambda s: s.update({"0.weight": torch.zeros(7, 6)}), "another shape: 0.weight"),
    ],
)
def test_other_mismatches_are_refused_by_key(change, words):
    old = state_of(mlp(1, classes=3))
    change(old)
    with pytest.raises(InvalidValue, match=words):
        partial_state(old, state_of(mlp(2, classes=4)))


def test_heads_can_be_refused():
    old = state_of(mlp(1, classes=3))
    with pytest.raises(InvalidValue, match=r"4.weight \[3, 8\] for \[4, 8\]"):
        started(mlp(2, classes=4), WarmStart(old, heads="refuse"))
    found, _ = started(mlp(2, classes=3), WarmStart(old, heads="refuse"))
    assert differences(found, old) == []


def test_the_prefix_of_a_wrapper_is_no_other_model():
    old = {f"_orig_mod.module.{n}": t for n, t in state_of(mlp(1)).items()}
    found, _ = started(mlp(2), WarmStart(old))
    assert differences(found, state_of(mlp(1))) == []


# ---- the method ----------------------------------------------------------------------------------------------------


def test_keep_one_is_the_old_run_and_scratch_changes_nothing():
    old = state_of(mlp(1, norm=True))
    loader = Loader(*data())
    found, report = started(mlp(2, norm=True), WarmStart(old), loader)
    assert differences(found, old) == [] and loader.reads == 0, "nothing changed, so nothing is looked at"
    assert set(report["layers"].values()) == {0.0} and report["function"] is None
    found, report = started(mlp(2, norm=True), WarmStart(old, keep=0, noise=1), loader)
    assert differences(found, state_of(mlp(2, norm=True))) == [] and report == {}


def test_stale_moments_are_refused_and_empty_ones_are_not():
    model, old = mlp(2), state_of(mlp(1))
    for name in ("SGD", "AdamW", "Adagrad"):
        options = {"momentum": 0.9} if name == "SGD" else {}
        optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01, **options)
        started(model, WarmStart(old), optimizer=optimizer)
        model(data()[0]).sum().backward()
        optimizer.step()
        with pytest.raises(LoopError, match="fresh optimizer"):
            started(model, WarmStart(old), optimizer=optimizer)
        started(model, WarmStart(old, keep=0.0, noise=1.0), optimizer=optimizer)


def test_the_report_ends_with_the_run_and_says_what_was_re_used():
    method = WarmStart(None, keep=0.5)
    _, report = started(mlp(), method)
    assert report["layers"]["0.weight"] == pytest.approx(0.5) and method.report() == {} and method.one_off() == 0.0
    assert method.reuses() == [] and WarmStart("3f2a").reuses() == [("3f2a", "warm start")]


def test_an_average_begins_at_the_warm_weights_whatever_the_order():
    old = state_of(Setup().model())
    found = []
    for order in (1, -1):
        methods = [WarmStart(old, keep=0.5), EMA(decay=0.9)][::order]
        found.append(ChainLoop(Setup(seed=4), methods).run().result())
    assert differences(*found) == []


def test_a_resumed_run_goes_on_from_its_own_state():
    old = state_of(Setup(seed=8).model())
    whole = ChainLoop(Setup(), [WarmStart(old, keep=0.7, noise=0.1)]).run().result()
    first, second = (ChainLoop(Setup(), [WarmStart(old, keep=0.7, noise=0.1)]) for _ in range(2))
    with first.attached():
        written = first.train(until=4).save()
    with second.attached():
        second.load(written)
        second.train()
    assert differences(second.result(), whole) == []


def test_norms_are_known_by_class_and_by_name():
    class RootNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    class NormalLayer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 3))

    assert all(is_norm(m) for m in (nn.BatchNorm2d(2), nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.RMSNorm(2), RootNorm()))
    assert not is_norm(NormalLayer()) and not is_norm(nn.Linear(2, 2))


def test_a_loader_without_a_view_will_do():
    setup = Setup()
    loader = EpochLoader(setup, 0, 0, 1, dicts=False)
    model = setup.model()
    old = copy.deepcopy(model).state_dict()
    _, report = started(model, WarmStart(old, keep=0.5), loader)
    assert report["function"] is None and report["layers"]["head.weight"] == 0.5
