"""Earlier runs as teachers through their records: in own loops, in recipes, on grown data, after an interruption."""

from __future__ import annotations

import itertools
import json
import shutil

import pytest
import torch
from torch.nn import functional as F

from reinvest.core.chain import Methods
from reinvest.core.recipe import Recipe
from reinvest.loop.session import run_identity
from reinvest.loop.train import train
from reinvest.methods.losses.distillation import Distill
from reinvest.methods.targets.label_smoothing import LabelSmoothing
from reinvest.store import Store
from reinvest.testbed.tasks.digits import digits
from teaching import FACTS, QUIET, STEP, Rows, columns, epoch, implied, other, recorded, small, still, table
from toy_loops import net, same_bits, state

# ---- records -----------------------------------------------------------------------------------------------------


def test_a_trained_runs_records_teach_the_next_run(shelf):
    _, run, _ = shelf
    task = digits(train_examples=200)
    found = implied(Distill(run, weight=[1.0, 1.0]), loader=epoch(task), classes=10)
    ids = task.splits["train"]
    rows, known = run.records().rows(ids)
    assert len(found) == 200 and bool(known.all())
    assert torch.allclose(table(found, ids), rows.softmax(1), atol=2e-5)


def test_examples_that_the_records_miss_keep_the_plain_loss_exactly(shelf):
    """Grown data: the student has 400 examples, the teacher saw 200 of them."""
    _, run, _ = shelf
    task = digits(train_examples=400)
    found = implied(Distill(run, weight=[1.0, 1.0]), loader=epoch(task), classes=10)
    old = set(digits(train_examples=200).splits["train"].tolist())
    assert len(found) == 400 and old < set(found)
    rows, known = run.records().rows(torch.tensor(sorted(found)))
    labels = {int(i): int(y) for ids, _, ys in epoch(task) for i, y in zip(ids, ys, strict=True)}
    for i, row, here in zip(sorted(found), rows, known.tolist(), strict=True):
        assert here is (i in old)
        wanted = row.softmax(0) if here else F.one_hot(torch.tensor(labels[i]), 10).float()
        assert torch.allclose(found[i], wanted, atol=2e-5)


def test_a_batch_of_missing_examples_takes_the_plain_step_bit_for_bit(tmp_path):
    x, y = columns()
    run = recorded(Store(tmp_path / "runs"), Rows(x, y, range(18)), epochs=12)
    results = []
    for members in ([Distill(run, weight=[0.9, 0.9])], []):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        data, chain, states = Rows(x, y, [*range(18, 36), *range(9)]), Methods(*members), []
        with chain.attach(model, optimizer, duration="1ep", data=data, seed=0):
            for a, b in chain.batches(data):
                output = model(a)
                loss = chain.loss(output, b)
                plain = F.cross_entropy(output, b, reduction="none").mean()
                loss.backward()
                chain.step()
                states.append((state(model), torch.equal(loss, plain)))
        results.append(states)
    taught, plain = results
    for step in range(2):
        assert taught[step][1] and same_bits(taught[step][0], plain[step][0])
    assert not taught[2][1] and not same_bits(taught[2][0], plain[2][0])


def test_missing_examples_beside_known_ones_cost_their_label_exactly(tmp_path):
    x, y = columns(9)
    run = recorded(Store(tmp_path / "runs"), Rows(x, y, range(4)))
    data, model = Rows(x, y), net()
    method = Distill(run, weight=[0.9, 0.9])
    chain = Methods(method)
    with chain.attach(model, still(model), duration="1ep", data=data, seed=0):
        for a, b in chain.batches(data):
            output = model(a)
            plain = F.cross_entropy(output, b, reduction="none")
            found = method.losses(plain, output, chain._now.batch, chain.context)
            chain.loss(output, b)
            chain.step()
    assert torch.equal(found[4:], plain[4:]) and not bool((found[:4] == plain[:4]).any())


def test_averaged_records_are_the_mean_of_logits_and_a_random_pool_draws_one_a_step(shelf):
    _, a, b = shelf
    task = digits(train_examples=200)
    ids = task.splits["train"]
    first, second = (run.records().rows(ids)[0] for run in (a, b))
    mean = implied(Distill([a, b], weight=[1.0, 1.0], pool="average"), loader=epoch(task), classes=10)
    assert torch.allclose(table(mean, ids), ((first + second) / 2).softmax(1), atol=2e-5)
    drawn = table(implied(Distill([a, b], weight=[1.0, 1.0]), loader=epoch(task, 25), classes=10), ids)
    of_first, of_second = (torch.isclose(drawn, rows.softmax(1), atol=2e-5).all(1) for rows in (first, second))
    assert bool((of_first ^ of_second).all()) and 0 < int(of_first.sum()) < 200
    for batch, _, _ in epoch(task, 25):
        places = torch.isin(ids, batch)
        assert len(of_first[places].unique()) == 1, "one teacher a step"


def test_own_loops_take_runs_and_ids(shelf, store):
    _, run, _ = shelf
    task = digits(train_examples=200)
    found = []
    for reference in (run, run.id):
        with store.record("mine", task="digits", facts=FACTS, seed=len(found)) as writer:
            found.append(implied(Distill(reference, weight=[1.0, 1.0]), loader=epoch(task), classes=10))
        described = json.loads((writer.run.path / "run.json").read_text())
        assert described["reuse"] == [{"run": run.id, "how": "records"}]
        assert described["training"]["methods"][0]["teacher"] == run.id
    with store.lending():
        found.append(implied(Distill(run.id, weight=[1.0, 1.0]), loader=epoch(task), classes=10))
    assert same_bits(found[0], found[1]) and same_bits(found[0], found[2])


def test_duty_and_pool_are_the_same_for_records_as_for_networks(tmp_path):
    """Draws belong to (seed, step), not to the source."""
    x, y = columns(9)
    data = Rows(x, y)
    store = Store(tmp_path / "runs")
    models = [other(k) for k in (1, 3, 8)]
    runs = [recorded(store, data, m, name=f"t{k}", epochs=200) for k, m in enumerate(models)]
    patterns = []
    for pool, source in ((runs, "records"), (models, "forward")):
        losses, chain, model = [], Methods(Distill(pool, source=source, probability=0.5, weight=[1.0, 1.0])), net()
        with chain.attach(model, still(model), duration="40ep", data=data, seed=2):
            for _ in range(40):
                for a, b in chain.batches(data):
                    losses.append(chain.loss(model(a), b).item())
                    chain.step()
        patterns.append(losses)
    kinds = sorted({round(v, 6) for v in patterns[1]})
    assert len(kinds) == 4, "three teachers, and no duty"
    assert min(b - a for a, b in itertools.pairwise(kinds)) > 2 * STEP
    assert patterns[0] == pytest.approx(patterns[1], abs=STEP), "equal but for the quantisation of the records"


# ---- recipes and train -------------------------------------------------------------------------------------------


def test_weight_zero_trains_the_same_weights_as_a_recipe_without_it(shelf, store):
    _, past, _ = shelf
    plain = dict(train(small(duration="2ep"), 5, store, **QUIET).weights())
    for more in ({"weight": 0.0}, {"weight": [0.0, 1.0], "until": "1st"}, {"probability": 1e-12}):
        run = train(small(duration="2ep").with_(Distill(past, **more)), 5, store, **QUIET)
        assert same_bits(plain, dict(run.weights())), more
    taught = train(small(duration="2ep").with_(Distill(past)), 5, store, **QUIET)
    assert not same_bits(plain, dict(taught.weights()))


def test_a_recipe_holds_ids_and_plain_values_and_reads_back_as_itself(shelf):
    _, a, b = shelf
    one = small().with_(Distill(a, weight=0.5))
    assert one.methods[0] == {"name": "Distill", "teacher": a.id, "weight": 0.5}
    assert one == small().with_(Distill(a.id, weight=0.5)), "a run is its id"
    assert one.parents == (a.id,)
    both = small().with_(Distill([a, b]), LabelSmoothing(0.1))
    assert sorted(both.parents) == sorted([a.id, b.id]) and small().parents == ()
    for taught in (one, both):
        read = Recipe.from_dict(json.loads(json.dumps(taught.to_dict())))
        assert read == taught and read.canonical() == taught.canonical() and read.parents == taught.parents
    # open: defaults that are written out are left out of the canonical text, as for every method
    assert small().with_(Distill(a)).canonical() == small().with_(Distill(a, temperature=1.0)).canonical()


def test_another_teacher_makes_another_run(shelf, store):
    _, a, b = shelf
    recipes = [small(duration="1ep").with_(Distill(t)) for t in (a, b, [a, b])]
    assert len({run_identity(r, 0, r.parents) for r in [*recipes, small(duration="1ep")]}) == 4
    first, second = (train(r, 0, store, **QUIET) for r in recipes[:2])
    assert first.id != second.id and not same_bits(dict(first.weights()), dict(second.weights()))
    assert train(recipes[0], 0, store, **QUIET).id == first.id, "finished work is not done twice"


def test_a_taught_run_knows_its_parents_and_how_it_used_them(shelf, store):
    _, a, b = shelf
    run = train(small(duration="2ep").with_(Distill([a, b])), 0, store, **QUIET)
    assert sorted(run.parents) == sorted([a.id, b.id])
    reuse = json.loads((run.path / "run.json").read_text())["reuse"]
    assert sorted((entry["run"], entry["how"]) for entry in reuse) == sorted((t.id, "records") for t in (a, b))
    assert json.loads((a.path / "run.json").read_text()).get("reuse", []) == []
    assert store.verify() == [], "the teachers' files are what they were"


def test_an_interrupted_taught_run_resumes_bit_for_bit(shelf, store, users, tmp_path, monkeypatch):
    _, a, b = shelf
    taught = small(duration="4ep").with_(Distill([a, b], probability=0.7, until=0.9), "halting:Halt")
    with Store(tmp_path / "other") as elsewhere:
        shutil.copytree(store.path / "runs", elsewhere.path / "runs")
        elsewhere.rebuild()
        whole = train(taught, 1, elsewhere, **QUIET)
    for step in ("5", "10"):
        monkeypatch.setenv("HALT", step)
        with pytest.raises(KeyboardInterrupt):
            train(taught, 1, store, checkpoint_seconds=0.0, **QUIET)
    monkeypatch.delenv("HALT")
    resumed = train(taught, 1, store, **QUIET)
    assert resumed.id == whole.id and same_bits(dict(resumed.weights()), dict(whole.weights()))
    ids = digits(train_examples=200).splits["train"]
    assert same_bits(resumed.records().rows(ids), whole.records().rows(ids))
    assert sorted(resumed.parents) == sorted([a.id, b.id])
