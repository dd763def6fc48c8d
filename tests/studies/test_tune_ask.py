"""Proposals: the same ones again from the same seed and answers, inside the space, spread evenly, Optuna only on demand."""

from __future__ import annotations

import math
import sys
import warnings

import pytest

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.studies.tune_space import Choices, Range

optuna = pytest.importorskip("optuna", reason="tuning needs optuna: pip install 'reinvest[tune]'")

from reinvest.studies.tune_ask import Asker  # noqa: E402

SPACE = {
    "optimizer.lr": Range(0.05, 1.0, log=True),
    "schedule.warmup": Range(0.0, 0.5),
    "batch_size": Range(16, 64, whole=True),
    "model.hidden": Choices(([8], [16, 16], None)),
}


def score(values):
    """A smooth answer with its best at a rate of 0.2."""
    return -abs(math.log(values["optimizer.lr"] / 0.2))


def proposed(sampler, seed, count, answers=score):
    asker = Asker(SPACE, sampler, seed)
    out = []
    for _ in range(count):
        out.append(asker.ask())
        asker.tell(answers(out[-1]))
    return out


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_the_same_seed_and_answers_give_the_same_proposals(sampler):
    first = proposed(sampler, 3, 12)
    assert proposed(sampler, 3, 12) == first
    assert proposed(sampler, 3, 8) == first[:8]
    assert proposed(sampler, 4, 12) != first


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_proposals_lie_in_the_space(sampler):
    for values in proposed(sampler, 0, 24):
        assert list(values) == list(SPACE)
        assert 0.05 <= values["optimizer.lr"] <= 1.0
        assert 0.0 <= values["schedule.warmup"] <= 0.5
        assert isinstance(values["batch_size"], int) and 16 <= values["batch_size"] <= 64
        assert values["model.hidden"] in ([8], [16, 16], None)


def test_quasi_random_proposals_do_not_heed_the_answers():
    assert proposed("qmc", 5, 8) == proposed("qmc", 5, 8, answers=lambda values: 0.0)


def test_the_first_of_a_power_of_two_quasi_random_proposals_fall_one_into_each_part():
    # A scrambled Sobol sequence: of the first 16 points one lies in each sixteenth of every axis, on a log scale too.
    drawn = proposed("qmc", 7, 16)
    lr = sorted(int(16 * math.log(v["optimizer.lr"] / 0.05) / math.log(20)) for v in drawn)
    assert lr == list(range(16))
    assert sorted(int(16 * v["schedule.warmup"] / 0.5) for v in drawn) == list(range(16))
    counts = [sum(v["model.hidden"] == choice for v in drawn) for choice in ([8], [16, 16], None)]
    assert max(counts) - min(counts) <= 1


def test_tpe_goes_to_where_it_was_good():
    drawn = proposed("tpe", 1, 40)
    early, late = ([abs(math.log(v["optimizer.lr"] / 0.2)) for v in part] for part in (drawn[:10], drawn[-10:]))
    assert sum(late) < 0.5 * sum(early)


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_a_trial_that_diverged_is_the_worst_and_stops_nothing(sampler):
    drawn = proposed(sampler, 2, 30, answers=lambda v: -math.inf if v["optimizer.lr"] > 0.4 else score(v))
    assert len(drawn) == 30
    assert len(proposed(sampler, 2, 14, answers=lambda v: -math.inf)) == 14


def test_nothing_is_printed_or_warned_of(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proposed("qmc", 0, 2)
        proposed("tpe", 0, 2)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_sampler_is_refused():
    with pytest.raises(UnknownName, match="qmc, tpe"):
        Asker(SPACE, "grid", 0)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InvalidValue, match=r"needs Optuna.*pip install 'reinvest\[tune\]'"):
        Asker(SPACE, "qmc", 0)
