"""Means of checkpoints and runs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reinvest._testing.compare import differences
from reinvest.core.errors import InvalidValue
from reinvest.methods.surgery.warm_start import WarmStart
from reinvest.reuse.average import ancestors, average_checkpoints, average_runs, recompute_norms
from reinvest.store import Store

FACTS = {"hardware": {"device": "none", "threads": 1}, "software": {"torch": "2.13.0"}}


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3))


def state(seed, steps=0):
    found = {n: t.detach().clone() for n, t in net(seed).state_dict().items()}
    found["1.num_batches_tracked"].fill_(steps)
    return found


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "runs") as opened:
        yield opened


def keep(store, name, weights, parents=(), **config):
    with store.record(name, task="digits", config=config, parents=parents, facts=FACTS, records=False) as writer:
        writer.save_weights(weights)
    return writer.run


def tuned(store, name, parent, seed=0):
    """A run that started from `parent`, as a chain says it."""
    model = net(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    from reinvest.core.chain import Methods

    with store.record(name, task="digits", facts=FACTS, records=False) as writer:
        with Methods(WarmStart(parent)).attach(model, optimizer, duration="1st", data=[0], seed=0) as methods:
            for x in methods.batches([(torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, seed % 3]))]):
                methods.loss(model(x[0]), x[1]).backward()
                methods.step()
        writer.save_weights(model.state_dict())
    return writer.run


def test_the_mean_of_equal_checkpoints_is_itself_bit_for_bit():
    one = state(1)
    for k in (1, 2, 3, 7):
        assert differences(average_checkpoints([one] * k), one) == []


def test_floating_entries_are_averaged_and_counts_are_the_last():
    states = [state(k, steps=k) for k in (1, 2, 5)]
    found = average_checkpoints(states)
    for name in ("0.weight", "1.running_var", "4.bias"):
        assert torch.allclose(found[name].double(), sum(s[name].double() for s in states) / 3, atol=1e-7)
        assert found[name].dtype == torch.float32
    assert int(found["1.num_batches_tracked"]) == 5
    found["0.weight"].zero_()
    assert float(states[0]["0.weight"].abs().max()) > 0


def test_unlike_states_and_no_states_are_refused():
    other = state(2)
    del other["4.bias"]
    other["0.weight"] = torch.zeros(5, 3)
    with pytest.raises(InvalidValue, match=r"state 1 unlike state 0 in 0.weight, 4.bias"):
        average_checkpoints([state(1), other])
    with pytest.raises(InvalidValue, match="got none"):
        average_checkpoints([])
    with pytest.raises(InvalidValue, match="a single state"):
        average_checkpoints(state(1))


def test_runs_of_one_ancestor_make_a_soup(store):
    base = keep(store, "base", state(1))
    runs = [tuned(store, f"tuned {k}", base, k) for k in range(3)]
    assert [r.reuse for r in runs] == [[{"run": base.id, "how": "warm start"}]] * 3
    found = average_runs(runs)
    wanted = average_checkpoints([r.weights() for r in runs])
    assert differences(found, wanted) == []
    grandchild = tuned(store, "once more", runs[0], 4)
    assert ancestors(grandchild) == [grandchild.id, runs[0].id, base.id]
    average_runs([grandchild, runs[2]])
    average_runs([base, runs[1]])
    average_runs([base, base])
    with store.lending():
        assert differences(average_runs([r.id for r in runs]), wanted) == []


def test_runs_without_a_common_ancestor_are_refused(store):
    one, two = keep(store, "one", state(1)), keep(store, "two", state(2))
    with pytest.raises(InvalidValue, match=f"{one.id}.*{two.id}.*common ancestor"):
        average_runs([one, two])
    with pytest.raises(InvalidValue, match="got none"):
        average_runs([])


def test_pupils_of_one_teacher_do_not_descend_from_it(store):
    teacher = keep(store, "teacher", state(1))
    with_records = []
    for k in (2, 3):
        with store.record(f"pupil {k}", task="digits", facts=FACTS, records=False) as writer:
            writer.begin({"total_steps": 1, "reuse": [{"run": teacher.id, "how": "records"}]})
            writer.save_weights(state(k))
        with_records.append(writer.run)
    assert with_records[0].parents == [teacher.id]
    with pytest.raises(InvalidValue, match="common ancestor"):
        average_runs(with_records)
    own = [keep(store, f"own {k}", state(k), parents=[teacher]) for k in (4, 5)]
    average_runs(own)


def test_a_parent_that_is_gone_still_counts(store):
    import shutil

    base = keep(store, "base", state(1))
    runs = [keep(store, f"own {k}", state(k), parents=[base]) for k in (2, 3)]
    shutil.rmtree(base.path)
    assert ancestors(runs[0]) == [runs[0].id, base.id]
    average_runs(runs)


def test_norm_statistics_are_those_of_the_present_weights():
    model = net()
    torch.manual_seed(3)
    x = torch.randn(40, 4) * 3 + 1
    batches = [(part, torch.zeros(len(part))) for part in x.split(20)]
    generator = torch.get_rng_state()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    assert recompute_norms(model, batches) == 2
    hidden = model[0](x).detach()
    assert torch.allclose(model[1].running_mean, hidden.mean(0), atol=1e-5)
    wanted = sum(part.var(0) for part in hidden.split(20)) / 2
    assert torch.allclose(model[1].running_var, wanted, atol=1e-5)
    assert model[1].momentum == 0.1 and model.training and int(model[1].num_batches_tracked) == 2
    assert torch.equal(torch.get_rng_state(), generator), "dropout drew nothing"
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    with pytest.raises(InvalidValue, match="empty list"):
        recompute_norms(model, [])
    assert int(model[1].num_batches_tracked) == 2, "nothing to read leaves the statistics"
    assert recompute_norms(nn.Linear(2, 2), []) == 0


def test_a_mean_of_weights_needs_new_statistics():
    """The pitfall itself: averaged statistics are not those of averaged weights."""
    torch.manual_seed(0)
    x = torch.randn(200, 4)
    states = []
    for seed in (1, 2):
        model = net(seed)
        recompute_norms(model, [(x, None)])
        states.append(model.state_dict())
    model = net()
    model.load_state_dict(average_checkpoints(states))
    stale = model[1].running_var.clone()
    recompute_norms(model, [(x, None)])
    assert torch.allclose(model[1].running_var, model[0](x).var(0), rtol=1e-4)
    assert float((stale / model[1].running_var).min()) > 1.05, "the mean of two layers varies less than they do"
