"""A stored run's model, built again: with the surgery of its recipe, it answers as the trained one did."""

from __future__ import annotations

import warnings

import pytest
import torch

import reinvest as ri
from reinvest.core.chain import NoEffectWarning
from reinvest.loop.evaluate import evaluate
from reinvest.loop.session import Session, build_task
from reinvest.reuse.models import model_of, operate

BASE = ri.Recipe(
    task={"name": "digits", "train_examples": 200},
    model={"name": "resnet8", "width": 4},
    duration="12st",
    batch_size=50,
)
SURGERY = [
    {"name": "BlurPool"},
    {"name": "SqueezeExcite", "min_channels": 4},
    {"name": "WeightStandardization"},
    {"name": "GhostBatchNorm", "size": 16},
    {"name": "FactorizedLayers", "smallest": 4},
    {"name": "StochasticDepth", "survival": 0.5},
]


def student():
    """The context of a student on the same task."""
    session = Session(BASE, 0)
    with warnings.catch_warnings(), session.attached() as methods:
        warnings.simplefilter("ignore", NoEffectWarning)
        return methods.context


@pytest.mark.parametrize("spec", SURGERY, ids=lambda s: s["name"])
def test_the_model_of_a_run_has_its_surgery_and_answers_as_it_did(tmp_path, spec):
    run = ri.train(BASE.with_(spec), 3, ri.Store(tmp_path / "runs"), progress=False)
    context = student()
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoEffectWarning)
        model = model_of(run, context)
    assert evaluate(model, build_task(BASE), "test")["accuracy"] == run.quality("accuracy")


def test_a_clean_pass_of_an_operated_run_teaches(tmp_path):
    store = ri.Store(tmp_path / "runs")
    past = ri.train(BASE.with_({"name": "SqueezeExcite", "min_channels": 4}), 3, store, progress=False)
    taught = ri.train(BASE.with_(ri.Distill(past, source="clean pass")), 4, store, progress=False)
    assert taught.status == "finished"


def test_building_a_model_is_no_part_of_the_run_that_is_recorded(tmp_path):
    store = ri.Store(tmp_path / "runs")
    past = ri.train(BASE.with_({"name": "BlurPool"}), 3, store, progress=False)
    taught = ri.train(BASE.with_(ri.Distill(past, source="forward")), 4, store, progress=False)
    assert taught.steps == 12
    assert taught.training["methods"] != past.training["methods"]


def test_a_run_without_surgery_is_left_alone(tmp_path):
    past = ri.train(BASE, 3, ri.Store(tmp_path / "runs"), progress=False)
    model = torch.nn.Conv2d(3, 4, 3, stride=2)
    operate(model, past)
    assert type(model) is torch.nn.Conv2d


FACTORY = """
from torch import nn


def build(*, input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
"""


def test_the_model_of_a_branch_is_as_trained(tmp_path, monkeypatch):
    (tmp_path / "branching_model.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    own = BASE.with_(model="branching_model:build", schedule={"name": "cooldown"}, duration="10st")
    store = ri.Store(tmp_path / "runs")
    trunk = ri.train(own.with_(duration="20st", schedule={"name": "cooldown", "forks": [0.4]}), 3, store)
    branch = ri.train(own, 3, store, trunk=trunk)
    assert evaluate(model_of(branch, student()), build_task(own), "test")["accuracy"] == branch.quality("accuracy")
