"""Suspects: columns by hand, ranks, kinds, what is refused, and how true the stated precision is."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from suspect_runs import drawn, run_of

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.core.probes import Probes
from reinvest.dynamics._histories import epochs_of, histories, together
from reinvest.dynamics.suspects import KINDS, find_suspects
from reinvest.dynamics.suspects_text import statements

NAN = math.nan


def columns(run):
    return histories(run, epochs_of(run))


def of_three(**more):
    """Three examples in four epochs: one easy, one learned by heart after two epochs, one never seen."""
    return run_of(
        [[1.0, 0.5, 0.1, 0.1], [2.0, 3.0, 1.0, 0.2], [NAN, NAN, NAN, NAN]],
        [[0, 0, 0, 0], [2, 2, 1, 1], [-1, -1, -1, -1]],
        [0, 1, 2],
        **more,
    )


# ---- ranks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_wrong_labels_come_first_with_the_true_class_as_suggestion(seed):
    run, bad, true = drawn(seed=seed)
    found = find_suspects(run)
    errors = found.of("label error")
    assert len(errors) == 100
    assert float(bad[errors[:50]].float().mean()) == 1.0
    assert float(bad[errors].float().mean()) > 0.85
    own = bad[errors]
    assert float((found.suggested[: len(errors)][own] == true[errors][own]).float().mean()) > 0.95


def test_a_rank_is_the_share_of_all_examples_that_are_less_suspect():
    run, _, _ = drawn(count=200)
    found = find_suspects(run, most=200)
    errors = found.score[found.kinds == list(KINDS).index("label error")]
    assert errors[0] == pytest.approx(1 - 0.5 / 200)
    assert (errors.diff() <= 0).all()
    assert (found.score >= 0).all() and (found.score <= 1).all()
    assert found.percentile.max() < 1


def test_a_class_that_is_hard_altogether_is_not_under_suspicion_for_that():
    run, bad, _ = drawn(count=2000, wrong=0.05)
    harder = run.loss.clone()
    harder[run.labels == 3] = harder[run.labels == 3] * 2 + 1
    found = find_suspects(dataclasses.replace(run, loss=harder), kinds=["label error"], most=100)
    share = float((found.label == 3).float().mean())
    assert share == pytest.approx(float((run.labels[bad] == 3).float().mean()), abs=0.12)


def test_tables_of_the_training_examples_alone_are_read_by_place():
    run, _, _ = drawn(count=100)
    places = torch.full((150,), -1, dtype=torch.int32)
    places[50:] = torch.arange(100, dtype=torch.int32)
    labels = torch.cat([torch.full((50,), -1), run.labels])
    found = find_suspects(dataclasses.replace(run, places=places, labels=labels))
    assert found.known == 100 and len(found.quality) == 150
    assert (found.ids - 50).tolist() == find_suspects(run).ids.tolist()
    assert found.quality[:50].isnan().all()


# ---- kinds ---------------------------------------------------------------------------------------------------------


def kinds_of(run, **more):
    found = find_suspects(run, most=1000, **more)
    names = list(KINDS)
    return {i: names[k] for i, k in zip(found.ids.tolist(), found.kinds.tolist(), strict=True)}, found


def test_one_other_class_all_along_is_a_label_error():
    rows = [[k % 2] * 12 for k in range(30)]
    run = run_of([[2.0] * 12, *[[0.1] * 12] * 30], [[2] * 9 + [0] * 3, *rows], [0, *[k % 2 for k in range(30)]])
    kinds, found = kinds_of(run)
    assert kinds == {0: "label error"}
    assert (int(found.suggested), float(found.share), float(found.learned)) == (2, 0.75, 10)
    assert found.answers is not None and found.answers[0].tolist() == [2] * 9 + [1] * 3


def test_wrong_to_the_end_without_a_settled_answer_is_never_learned():
    rows = [[k % 2] * 12 for k in range(30)]
    run = run_of(
        [[2.0] * 12, *[[1.0] + [0.1] * 11] * 30],
        [[1, 2, 3, 4] * 3, *rows],
        [0, *[k % 2 for k in range(30)]],
        classes=5,
        class_names=None,
    )
    kinds, found = kinds_of(run)
    assert kinds[0] == "never learned"
    assert math.isinf(found.learned[found.ids == 0])


def test_right_and_wrong_again_is_forgotten_often():
    # Wrong with another class each time, so that no answer is settled.
    said = [1, 0, 2, 0, 1, 0, 2, 0, 1, 0, 2, 0]
    rows = [[k % 2] * 12 for k in range(30)]
    run = run_of([[1.0] * 12, *[[0.1] * 12] * 30], [said, *rows], [0, *[k % 2 for k in range(30)]])
    kinds, found = kinds_of(run)
    assert kinds[0] == "forgotten often"
    assert float(found.forgotten[found.ids == 0]) == 5


def test_learned_last_is_atypical():
    said = [1, 2, 1, 2, 1, 2, 0, 0, 0, 0, 0, 0]
    rows = [[1 - k % 2, *[k % 2] * 11] for k in range(30)]
    # Half of what was said before is each of two classes, and the loss lies at the median: not a label error.
    run = run_of([[0.1] * 12] * 31, [said, *rows], [0, *[k % 2 for k in range(30)]])
    kinds, found = kinds_of(run)
    assert kinds == {0: "atypical"}
    assert float(found.learned) == 7


def test_equal_content_is_found_in_all_splits():
    run, _, _ = drawn(count=100, wrong=0)
    hashes = torch.arange(100)
    hashes[7] = hashes[93]
    loss, said = run.loss.clone(), run.predicted.clone()
    loss[93], said[93] = NAN, 255  # not trained on: of the test split, say
    labels = run.labels.clone()
    labels[93] = -1
    kinds, found = kinds_of(dataclasses.replace(run, loss=loss, predicted=said, labels=labels, hashes=hashes))
    assert kinds[7] != "label conflict" and 93 not in kinds
    assert found.twins[found.ids.tolist().index(7)] == (93,)
    assert found.leaks == 1
    assert "outside the training split too: 1" in " ".join(statements(found))


def test_doubles_of_an_example_without_other_faults_are_a_kind():
    rows = [[k % 2] * 6 for k in range(40)]
    hashes = torch.arange(40)
    hashes[12] = hashes[30]
    kinds, found = kinds_of(run_of([[0.1] * 6] * 40, rows, [k % 2 for k in range(40)], hashes=hashes))
    assert kinds == {12: "duplicate", 30: "duplicate"}
    assert found.twins == ((30,), (12,)) and found.leaks == 0
    assert found.probability.tolist() == [1.0, 1.0]


def test_equal_content_with_another_label_is_a_conflict_and_needs_the_data():
    run, _, _ = drawn(count=100, wrong=0)
    labels = run.labels.clone()
    labels[3], labels[4] = 1, 2
    run = dataclasses.replace(run, labels=labels, hashes=torch.arange(100))
    contents = torch.arange(100)
    contents[3] = contents[4]
    kinds, found = kinds_of(run, contents=contents)
    assert kinds[3] == kinds[4] == "label conflict"
    assert found.of("label conflict").tolist() in ([3, 4], [4, 3])
    without, _ = kinds_of(run)
    assert "label conflict" not in without.values()


def test_without_answers_a_high_loss_is_all_that_can_be_said():
    run, bad, _ = drawn()
    correct = (run.predicted == run.labels.unsqueeze(1)).float()
    run = dataclasses.replace(run, predicted=None, correct=correct)
    found = find_suspects(run)
    assert found.answers is None
    assert found.found["label error"] == 0
    high = found.of("high loss")
    assert float(bad[high[:50]].float().mean()) == 1.0
    assert (found.suggested == -1).all()


def test_data_without_labels_have_one_group():
    run, _, _ = drawn()
    correct = (run.predicted == run.labels.unsqueeze(1)).float()
    found = find_suspects(dataclasses.replace(run, predicted=None, correct=correct, labels=None))
    assert (found.label == -1).all() and len(found.of("high loss")) == 100


# ---- what is listed ------------------------------------------------------------------------------------------------


def test_most_kinds_and_label():
    run, _, _ = drawn()
    assert len(find_suspects(run, most=7).of("label error")) == 7
    only = find_suspects(run, kinds=["label error"])
    assert set(only.kinds.tolist()) == {list(KINDS).index("label error")}
    one = find_suspects(run, label=2, most=1000)
    assert set(one.label.tolist()) == {2}
    whole = find_suspects(run, most=1000)
    scores = dict(zip(whole.ids.tolist(), whole.score.tolist(), strict=True))
    assert all(scores[i] == s for i, s in zip(one.ids.tolist(), one.score.tolist(), strict=True))


def test_a_list_is_no_longer_than_a_tenth_unless_asked():
    run, _, _ = drawn(count=500, wrong=0.3)
    assert len(find_suspects(run).of("label error")) == 50
    assert len(find_suspects(run, most=120).of("label error")) == 120


def test_probes_are_never_listed():
    run, _, _ = drawn(probes=40)
    found = find_suspects(run, most=1000)
    assert not (found.ids < 80).any()


# ---- how true the precision is -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0.02, 0.1, 0.4])
def test_the_stated_precision_is_near_the_true_one(wrong):
    errors, inside = [], 0
    for seed in range(10):
        run, bad, _ = drawn(count=2200, wrong=wrong, seed=seed, probes=100)
        found = find_suspects(run, most=200)
        listed = found.of("label error")
        true = float(bad[listed].float().mean())
        assert found.precision is not None
        errors.append(found.precision.precision - true)
        inside += found.precision.low - 0.02 <= true <= found.precision.high + 0.02
    assert abs(sum(errors) / 10) < 0.06
    assert inside >= 8  # of ten; the exact 1 % quantile of a binomial of 0.95


def test_a_list_of_one_label_is_judged_by_probes_of_that_label():
    run, bad, _ = drawn(count=4000, wrong=0.1, probes=200)
    for label in range(5):
        found = find_suspects(run, label=label, most=60)
        assert found.precision is not None and found.precision.probes == int((run.labels[:400] == label).sum())
        true = float(bad[found.of("label error")].float().mean())
        assert found.precision.low - 0.1 <= true <= found.precision.high + 0.1
    few, _, _ = drawn(probes=8)
    assert find_suspects(few, label=1).precision is None


def test_a_list_from_faultless_data_is_said_to_hold_hardly_any():
    for seed in range(5):
        run, _, _ = drawn(count=2200, wrong=0.0, seed=seed, probes=100)
        found = find_suspects(run, most=100)
        if len(found.of("label error")):
            assert found.precision is not None and found.precision.precision < 0.15


def test_without_probes_no_precision_is_claimed():
    found = find_suspects(drawn()[0])
    assert found.precision is None and found.assessment is None
    assert "not known" in statements(found)[0]
    assert found.probability.isnan().all() or float(found.probability.nan_to_num(0).max()) <= 1


def test_probabilities_from_probes_agree_with_the_truth():
    run, bad, _ = drawn(count=3000, wrong=0.1, probes=100)
    found = find_suspects(run, most=3000)
    own = found.kinds == list(KINDS).index("label error")
    p, ids = found.probability[own], found.ids[own]
    assert float(bad[ids[p > 0.9]].float().mean()) > 0.9
    assert float(bad[ids[p < 0.1]].float().mean()) < 0.1
    assert found.issues().sum() == int((p >= 0.5).sum())


# ---- several runs --------------------------------------------------------------------------------------------------


def test_the_same_run_twice_is_the_run():
    run, _, _ = drawn()
    one, two = find_suspects(run), find_suspects([run, run])
    assert one.ids.tolist() == two.ids.tolist()
    assert torch.allclose(one.mean_loss, two.mean_loss)
    assert two.agreement is not None and torch.allclose(two.agreement, torch.ones(2, 2, dtype=torch.float64))
    assert one.agreement is None


def test_several_runs_suggest_what_has_most_support_in_all():
    labels = [1, 0, 0]
    loss = [[1.0] * 4, [0.1] * 4, [0.1] * 4]
    first = run_of(loss, [[2, 2, 2, 2], [0] * 4, [0] * 4], labels)
    second = run_of(loss, [[0, 0, 2, 2], [0] * 4, [0] * 4], labels)
    merged = together([columns(first), columns(second)])
    assert merged.suggested[0] == 2
    assert merged.first[0] == math.inf and merged.first[1] == 0


def test_runs_on_different_data_are_not_put_together():
    run, _, _ = drawn()
    with pytest.raises(InvalidValue, match="same data"):
        find_suspects([run, dataclasses.replace(run, fingerprint="g")])


# ---- refusals ------------------------------------------------------------------------------------------------------


def test_refusals():
    run, _, _ = drawn()
    with pytest.raises(InvalidValue, match="at least 3 epochs, got 2"):
        find_suspects(run_of([[1.0, 1.0]] * 4, [[0, 0]] * 4, [0, 1, 0, 1]))
    with pytest.raises(InvalidValue, match="one label, 'bee'"):
        find_suspects(run_of([[1.0] * 4] * 4, [[0] * 4] * 4, [1, 1, 1, 1]))
    with pytest.raises(InvalidValue, match="without one that is finite"):
        find_suspects(run_of([[NAN] * 4] * 4, [[-1] * 4] * 4, [0, 1, 0, 1]))
    with pytest.raises(InvalidValue, match="from 1 up, got 0"):
        find_suspects(run, most=0)
    with pytest.raises(UnknownName, match="kind of suspect 'lable error'"):
        find_suspects(run, kinds=["lable error"])
    with pytest.raises(InvalidValue, match="at least one run"):
        find_suspects([])


def test_probes_outside_the_training_split_are_refused():
    run, _, _ = drawn(probes=20)
    loss = run.loss.clone()
    loss[:3] = NAN
    with pytest.raises(InvalidValue, match="got 3 of 40 that this run never trained on"):
        find_suspects(dataclasses.replace(run, loss=loss))


def test_few_probes_tell_nothing_apart_but_still_give_a_precision():
    run, _, _ = drawn()
    ids = torch.arange(6)
    few = Probes(("random label",), ids, torch.zeros(6, dtype=torch.int64), ids % 2 == 0, run.labels[:6])
    found = find_suspects(dataclasses.replace(run, probes=few))
    assert found.assessment is None
