"""Wrong labels out of earlier runs: probabilities and suggestions, lists to relabel or drop, and a run that uses them."""

from __future__ import annotations

import types

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nan

from reinvest.core import names
from reinvest.core.chain import Methods
from reinvest.core.errors import DataError, InvalidValue, StoreError
from reinvest.core.recipe import Recipe
from reinvest.core.view import TaskView
from reinvest.dynamics.clean import clean_probability, suggested_labels
from reinvest.dynamics.trajectories import Trajectories
from reinvest.loop.session import build_task
from reinvest.loop.train import train
from reinvest.methods.targets.label_correction import LabelCorrection
from reinvest.reuse.labels import clean_of, drop_list, read_clean, relabel_list, write_list
from reinvest.store import Store
from reinvest.testbed.tasks.corrections import read_ids, read_labels
from teaching import QUIET, epoch, still

P = torch.tensor([0.9, 0.4, nan, 0.0, 0.49, 0.5])
SUGGESTED = torch.tensor([1, 2, 0, 1, -1, 0])
LABELS = torch.tensor([0, 1, 1, 1, 0, 1])


# ---- lists -----------------------------------------------------------------------------------------------------------


def test_lists_hold_what_is_probably_wrong():
    ids, labels = relabel_list(P, SUGGESTED, LABELS)
    assert ids.tolist() == [1] and labels.tolist() == [2], "3 is suggested its own label, 4 none"
    assert drop_list(P).tolist() == [1, 3, 4]
    assert drop_list(P, below=0.45).tolist() == [1, 3]
    assert drop_list(P, below=1.0).tolist() == [0, 1, 3, 4, 5]
    among = torch.tensor([True, False, True, True, False, True])
    assert drop_list(P, among=among).tolist() == [3]
    assert relabel_list(P, SUGGESTED, LABELS, below=1.0, among=among)[0].tolist() == [0, 5]


def test_lists_are_read_by_the_task_that_corrects(tmp_path):
    ids, labels = torch.tensor([3, 7]), torch.tensor([1, 0])
    write_list(tmp_path / "relabel.csv", ids, labels)
    assert (tmp_path / "relabel.csv").read_text() == "id,label\n3,1\n7,0\n"
    assert [t.tolist() for t in read_labels(tmp_path / "relabel.csv")] == [[3, 7], [1, 0]]
    write_list(tmp_path / "drop.csv", ids)
    assert read_ids(tmp_path / "drop.csv").tolist() == [3, 7]
    write_list(tmp_path / "none.csv", ids[:0])
    assert read_ids(tmp_path / "none.csv").tolist() == []


def test_what_makes_no_list_is_refused(tmp_path):
    for bad in (
        lambda: drop_list(P, below=0.0),
        lambda: drop_list(P, below=1.5),
        lambda: drop_list(P.long()),
        lambda: drop_list(P.tolist()),
        lambda: drop_list(P, among=torch.tensor([0])),
        lambda: relabel_list(P, SUGGESTED.float(), LABELS),
        lambda: relabel_list(P, SUGGESTED, LABELS[:3]),
        lambda: relabel_list(P, SUGGESTED, LABELS.tolist()),
        lambda: write_list(tmp_path / "x.csv", torch.tensor([0.5])),
        lambda: write_list(tmp_path / "x.csv", torch.tensor([1, 2]), torch.tensor([1])),
        lambda: clean_of([]),
        lambda: clean_of("0123456789abcdef"),
    ):
        with pytest.raises(InvalidValue, match=r", got "):
            bad()


# ---- real runs -------------------------------------------------------------------------------------------------------


def recipe(duration="10ep", methods=(), **planted):
    base = {"name": "digits", "train_examples": 1000}
    return Recipe(
        task={"name": "planted", "base": base, "label_noise": 0.2, **planted},
        model={"name": "mlp", "hidden": [64]},
        duration=duration,
        batch_size=50,
        methods=tuple(methods),
    )


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """(store, a run on digits with 20 % wrong labels, its task)."""
    store = Store(tmp_path_factory.mktemp("labels") / "runs")
    yield store, train(recipe(), 0, store, **QUIET), build_task(recipe())
    store.close()


def test_a_run_tells_which_labels_are_wrong_and_what_they_are(planted):
    store, run, task = planted
    p, suggested = clean_of(run)
    trained, truth = task.splits["train"], task.planted
    outside = torch.ones(len(p), dtype=torch.bool).index_fill_(0, trained, False)
    assert p[outside].isnan().all() and not p[trained].isnan().any() and (suggested[outside] == -1).all()
    wrong = truth.relabelled[trained]
    assert roc_auc_score(~wrong, p[trained]) > 0.97
    assert abs(float(1 - p[trained].mean()) - 0.2) < 0.05
    ids, labels = relabel_list(p, suggested, truth.labels)
    assert float(truth.relabelled[ids].float().mean()) > 0.9
    assert float((labels == truth.clean_labels[ids]).float().mean()) > 0.85
    with store.lending():
        assert torch.equal(clean_of(run.id)[0].nan_to_num(-1), p.nan_to_num(-1))
    t = Trajectories.of(run)
    assert torch.equal(clean_probability(t).nan_to_num(-1), p.nan_to_num(-1))
    assert torch.equal(suggested_labels(t), suggested)


def test_several_runs_are_averaged(planted):
    _, run, _ = planted
    p, suggested = clean_of(run)
    both, said = clean_of([run, run])
    assert torch.equal(both.nan_to_num(-1), p.nan_to_num(-1)) and torch.equal(said, suggested)


def test_it_is_read_by_name_and_refused_where_the_data_do_not_fit(planted):
    _, run, task = planted
    view = task.loader("train", 50).view
    assert names.resolve("clean", "records") is read_clean
    found = read_clean([run], types.SimpleNamespace(task=view))
    assert torch.equal(found[0].nan_to_num(-1), clean_of(run)[0].nan_to_num(-1))
    with pytest.raises(InvalidValue, match="ids of one data set"):
        read_clean([run], types.SimpleNamespace(task=TaskView(namespace="town")))
    changed = view.hashes().clone()
    changed[:5] += 1
    other = TaskView(namespace=view.namespace, hashes=lambda: changed)
    with pytest.raises(DataError, match="got 5 ids"):
        read_clean([run], types.SimpleNamespace(task=other))


def test_a_recipe_corrects_by_an_earlier_run_and_names_it(planted):
    store, run, task = planted
    corrected = recipe("4ep", [LabelCorrection(run.id)])
    assert corrected.parents == (run.id,)
    made = train(corrected, 1, store, **QUIET)
    assert made.status == "finished" and made.reuse == [{"run": run.id, "how": "data"}]
    assert made.findings()["LabelCorrection"]["doubted"] == int((clean_of(run)[0] < 0.5).sum())
    chain, model = Methods(LabelCorrection(run)), torch.nn.Linear(1, 1)
    chain.reports = False
    with chain.attach(model, still(model), duration="1ep", data=epoch(task), seed=0):
        assert chain.clock["one_off_seconds"] > 0, "reading is charged"
    plain = train(recipe("4ep"), 1, store, **QUIET)
    assert made.quality("accuracy") >= plain.quality("accuracy") - 0.01


def test_probes_in_the_run_are_gone_by_unless_told_otherwise(tmp_path):
    probes = {"kinds": ["as it is", "random label"], "count": 40}
    with Store(tmp_path / "runs") as store:
        run = train(recipe("8ep", probes=probes), 0, store, **QUIET)
        task = build_task(recipe(probes=probes))
        found = Trajectories.of(run).probes
        assert found is not None
        p, plain = clean_of(run)[0], clean_of(run, probes=False)[0]
        assert bool((p[found.of("random label")] == 0).all()) and not torch.equal(
            p.nan_to_num(-1), plain.nan_to_num(-1)
        )
        rest = task.splits["train"][~torch.isin(task.splits["train"], found.ids)]
        assert roc_auc_score(~task.planted.relabelled[rest], p[rest]) > 0.95


def test_a_run_without_records_says_so(planted):
    store, _, _ = planted
    with store.record("mute", task="digits", facts={}, records=False, seed=0) as writer:
        pass
    with pytest.raises(StoreError):
        clean_of(writer.run)
