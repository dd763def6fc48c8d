"""WarmStart and its functions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from warm_nets import Loader, data, mlp, started, state_of

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop, EpochLoader, Setup
from reinvest.core.batch import unpack
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue, LoopError
from reinvest.methods.surgery._states import is_norm, layer_weights
from reinvest.methods.surgery._statistics import refresh_statistics
from reinvest.methods.surgery.warm_start import WarmStart, partial_state, shrink_perturb
from reinvest.methods.weights.ema import EMA

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


def test_16_bit_weights_are_mixed_in_32():
    old, fresh = {"a.weight": torch.full((2, 2), 1.0)}, {"a.weight": torch.full((2, 2), 2.0**-8)}
    short = [{n: t.bfloat16() for n, t in s.items()} for s in (old, fresh)]
    found = shrink_perturb(*short, keep=0.5, noise=1.0)["a.weight"]
    assert found.dtype == torch.bfloat16 and torch.equal(found, torch.full((2, 2), 0.5 + 2.0**-8).bfloat16())


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


def test_a_chain_begins_with_one_set_of_weights():
    one, two = WarmStart("feed"), WarmStart("beef", keep=0.5)
    with pytest.raises(
        Conflict, match=r"one WarmStart, got WarmStart\(run='feed'\) and WarmStart\(run='beef', keep=0.5\)"
    ):
        Methods(one, EMA(), two)
    assert Methods(one, EMA()).members[0] is one and len(Methods(EMA(decay=0.9), EMA(decay=0.5)).members) == 2


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
