"""Advice: what is offered, in which order, what is refused and why; and that nothing but validation decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from advising import NO_STUDY, described, reasons, rows, run_of, ways

from advised import arm, changed, kept, recipe, scored, study, trained
from reinvest.methods.augment.mixup import Mixup
from reinvest.methods.losses.distillation import Distill
from reinvest.store import Store
from reinvest.studies.advise import advise
from reinvest.studies.candidates import TOO_SHORT, constant_weight
from reinvest.studies.options import OFFERED
from reinvest.studies.policies import apply

# ---- what is offered -------------------------------------------------------------------------------------------------


def test_without_evidence_everything_that_fits_is_offered_in_the_stated_order(store: Store) -> None:
    best = run_of(store, 0)
    advice = advise(recipe(), store, evidence=NO_STUDY)
    assert ways(advice) == ["warm start", "records", "records average", "high-loss"]
    assert ways(advice) == [how for how in OFFERED if how != "clean pass"]
    assert advice.choice is advice.options[0] and advice.choice.runs == (best,)
    assert advice.options[2].runs == (best, run_of(store, 1))
    assert advice.refused == () and advice.looked == 2
    for option in advice.options:
        assert option.recipe == apply(option.policy, recipe(), [store.get(r) for r in option.runs[::-1]])
        assert option.saving is None and option.length is None
    assert advice.recipe.optimizer["lr"] == pytest.approx(0.1 / 3)
    assert advice.recipe.methods == ({"name": "WarmStart", "run": best},)
    text = str(advice)
    assert "no study stored yet" in text and "validation accuracy 0.8" in text


def test_another_architecture_is_taught_by_records(store: Store) -> None:
    advice = advise(recipe(hidden=(24,)), store, evidence=NO_STUDY)
    assert ways(advice) == ["records", "records average"]
    assert advice.recipe.methods[0] == {"name": "Distill", "teacher": run_of(store, 0), "source": "records"}
    for seed in (0, 1):
        (reason,) = reasons(advice, run_of(store, seed), "warm start")
        assert "mlp (hidden [16]) for mlp (hidden [24])" in reason
    assert str(advice).count("weights start the model") == 1  # both runs in one line


def test_arguments_that_are_defaults_do_not_make_another_model(store: Store) -> None:
    changed(store, run_of(store, 0), lambda v: v["config"]["model"].pop("hidden"))
    written_out = advise(recipe(hidden=(128,)), store, evidence=NO_STUDY)
    left_out = advise(recipe(hidden=(128,)).with_(model="mlp"), store, evidence=NO_STUDY)
    for advice in (written_out, left_out):
        assert advice.options[0].how == "warm start" and advice.options[0].runs == (run_of(store, 0),)


def test_grown_data_and_grown_classes_are_seen(store: Store) -> None:
    small = trained(store, recipe(train_examples=300), 7)
    few = trained(store, recipe(first_classes=5), 8)
    grown = {r.id: advise(recipe(), store, evidence=NO_STUDY, runs=[r]).choice for r in (small, few)}
    assert [(c.how, c.setting) for c in grown.values() if c] == [
        ("warm start", "new data"),
        ("warm start", "new classes"),
    ]
    less = advise(recipe(train_examples=300), store, evidence=NO_STUDY, runs=[run_of(store, 0)]).choice
    assert less is not None and less.setting == "no new data" and "among others" in less.why
    # A run that knows fewer classes has an easier validation split: it does not come first for that.
    changed(store, few.id, scored(0.99, 0.99))
    assert advise(recipe(), store, evidence=NO_STUDY).options[0].runs == (run_of(store, 0),)


def test_a_run_without_records_teaches_by_a_clean_pass(store: Store) -> None:
    bare = trained(store, recipe(), 9, records=False)
    advice = advise(recipe(hidden=(24,)), store, evidence=NO_STUDY, runs=[bare])
    assert ways(advice) == ["clean pass"]
    assert "no records" in reasons(advice, bare.id, "records")[0]
    assert advice.recipe.methods[0]["source"] == "clean pass"
    both = advise(recipe(hidden=(24,)), store, evidence=NO_STUDY)
    changed(store, bare.id, scored(0.95, 0.5))
    first = advise(recipe(hidden=(24,)), store, evidence=NO_STUDY)
    assert "clean pass" not in ways(both)  # the best run has records: a pass would tell nothing more
    assert ways(first) == ["records", "records average", "clean pass"]
    assert first.options[-1].runs == (bare.id,)


def test_a_run_whose_examples_were_all_blended_helps_grown_data_by_its_weights(store: Store) -> None:
    blended = trained(store, recipe(train_examples=300).with_(Mixup(1.0)), 11)
    assert blended.records().roles is not None and not blended.records().has_rows
    advice = advise(recipe(), store, evidence=NO_STUDY, runs=[blended])
    assert ways(advice) == ["warm start", "clean pass"]
    assert "all examples were blended" in reasons(advice, blended.id, "records")[0]


def test_a_run_whose_origin_saw_the_test_examples_is_not_offered(store: Store) -> None:
    """Seed 0 itself is clean and on the same data; it was made from seed 1, which trained on what is tested here."""
    from safetensors.torch import load_file, safe_open, save_file

    child, origin = run_of(store, 0), run_of(store, 1)
    path = store.get(origin).path / "records.safetensors"
    tables = load_file(path)
    with safe_open(path, "pt") as file:
        about = file.metadata()
    leaked = int((tables["roles"] == 3).sum())
    tables["roles"] = tables["roles"].masked_fill(tables["roles"] == 3, 1)
    save_file(tables, path, about)
    changed(store, origin, described(fingerprint="another split"))
    changed(store, child, lambda values: values.update(parents=[origin]))
    advice = advise(recipe(), store, evidence=NO_STUDY, runs=[child])
    assert advice.options == ()
    assert f"got {leaked} of them" in reasons(advice, child)[0] and origin in reasons(advice, child)[0]


def test_a_clean_pass_is_offered_for_what_it_is(store: Store) -> None:
    """Beside records it is offered where a study supports it, and for runs without: each is said of its own."""
    bare = trained(store, recipe(), 9, records=False)
    blended = trained(store, recipe().with_(Mixup(1.0)), 12)
    known = rows(arm("clean pass", 1.5, 1.3, 1.7))
    said = {}
    for run in (store.get(run_of(store, 0)), bare, blended):
        options = advise(recipe(), store, evidence=known, runs=[run]).options
        (said[run.id],) = (o.why for o in options if o.how == "clean pass")
    first, second, third = said.values()
    assert "left weights: one pass of its model over the examples tells what it learned of each" in first
    assert "records" not in first
    for why in (second, third):
        assert (
            "left weights, but no records of single examples: one pass of its model over them makes up for that" in why
        )


def test_runs_are_ranked_by_validation_never_by_test(store: Store) -> None:
    changed(store, run_of(store, 1), scored(0.3, 1.0))
    changed(store, run_of(store, 0), scored(0.6, 0.2))
    advice = advise(recipe(), store, evidence=NO_STUDY)
    assert all(option.runs[0] == run_of(store, 0) for option in advice.options)
    changed(store, run_of(store, 1), scored(0.7, 0.0))
    assert advise(recipe(), store, evidence=NO_STUDY).options[0].runs == (run_of(store, 1),)


# ---- evidence --------------------------------------------------------------------------------------------------------


def test_what_is_shown_to_help_comes_first_by_speed_up(store: Store) -> None:
    known = rows(
        arm("records", 1.4, 1.1, 1.8), arm("high-loss", 2.0, 1.5, 2.5), arm("warm start", 3.0, 0.9, 6.0, "inconclusive")
    )
    advice = advise(recipe(), store, evidence=known)
    assert ways(advice) == ["high-loss", "records", "warm start", "records average"]
    saving = advice.options[0].saving
    assert saving is not None and (saving.speedup, saving.low, saving.high) == (2.0, 1.5, 2.5)
    assert "2 (1.5 to 2.5) times as fast" in str(advice) and "planted.json" in str(advice)
    assert "no stored study has judged it" in str(advice)  # of the average


def test_what_is_shown_to_save_nothing_is_refused(store: Store) -> None:
    known = rows(arm("warm start", 0.8, 0.7, 0.9, "worse"), arm("records", 1.01, 0.99, 1.03, "equivalent"))
    advice = advise(recipe(), store, evidence=known)
    assert ways(advice) == ["records average", "high-loss"]
    for how in ("warm start", "records"):
        (reason,) = reasons(advice, run_of(store, 0), how)
        assert reason.startswith("stored studies show no saving by it") and "planted.json" in reason


def test_settings_shown_to_help_are_taken_with_their_options_and_length(store: Store) -> None:
    options = {"weight": 0.5, "length": 0.5}
    advice = advise(recipe(), store, evidence=rows(arm("records", 1.5, 1.2, 2.0, options=options)))
    choice = advice.choice
    assert choice is not None and choice.policy == {"reuse": "records", "weight": 0.5} and choice.length == 0.5
    assert choice.recipe.methods[0]["weight"] == 0.5
    assert choice.recipe.duration == "2ep" and "set the duration to 1ep" in str(advice)
    unsure = advise(recipe(), store, evidence=rows(arm("records", 1.5, 0.9, 2.0, "inconclusive", options=options)))
    records = next(o for o in unsure.options if o.how == "records")
    assert records.policy == {"reuse": "records"} and records.length is None


def test_other_policies_need_a_study_that_shows_a_saving(store: Store) -> None:
    assert "shrink-perturb" in ways(advise(recipe(), store, evidence=rows(arm("shrink-perturb", 1.5, 1.2, 2.0))))
    unsure = rows(arm("shrink-perturb", 1.5, 0.9, 2.0, "inconclusive"))
    assert "shrink-perturb" not in ways(advise(recipe(), store, evidence=unsure))
    both = rows(arm("clean pass", 1.5, 1.2, 2.0))
    assert ways(advise(recipe(), store, evidence=both))[0] == "clean pass"


def test_an_option_of_evidence_that_cannot_be_applied_is_a_refusal(store: Store) -> None:
    advice = advise(recipe(), store, evidence=rows(arm("records", 1.5, 1.2, 2.0, options={"choose": "worst"})))
    assert "records" not in ways(advice)
    assert "unknown choice of teachers 'worst'" in reasons(advice, run_of(store, 0), "records")[0]


def test_evidence_lies_in_the_store_or_in_a_folder_that_is_named(store: Store, tmp_path: Path) -> None:
    result = study({"x": arm("high-loss", 2.0, 1.5, 2.5)})
    kept(tmp_path / "elsewhere", "a.json", result)
    assert ways(advise(recipe(), store, evidence=tmp_path / "elsewhere"))[0] == "high-loss"
    kept(store.path / "studies", "a.json", result)
    choice = next(o for o in advise(recipe(), store).options if o.how == "high-loss")
    assert choice.saving is not None and "a.json" in choice.saving.studies


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda v: v.update(task="birds"), "got one on 'birds' for 'digits'"),
        (described(namespace="birds"), "got one on 'birds' for 'digits'"),
        (lambda v: v["training"].pop("data"), "got one on no data set it names"),
        (described(preprocessing="inputs 1x8x8, else"), "see the same inputs"),
        (described(class_names=[*"abcdefghij"]), "a teacher's classes are among the student's"),
        (described(class_names=[str(9 - n) for n in range(10)]), "number their classes alike"),
        (described(class_names=None, classes=7), "7 of that run for 10 here"),
        (scored(0.1, 0.9), "no better than guessing among 10 classes"),
        (lambda v: v.update(status="diverged"), "got one that is diverged"),
        (lambda v: v.update(status="interrupted", ended=None), "got one that is interrupted"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_with_the_reason(store: Store, change: Any, expected: str) -> None:
    bad = run_of(store, 0)
    changed(store, bad, change)
    advice = advise(recipe(), store, evidence=NO_STUDY)
    (reason,) = reasons(advice, bad)
    assert expected in reason and reason.count(";") == 1
    assert ways(advice) == ["warm start", "records", "high-loss"]
    assert all(option.runs == (run_of(store, 1),) for option in advice.options)
    assert bad in str(advice)


def test_a_run_that_saw_the_test_examples_is_refused(store: Store) -> None:
    advice = advise(recipe(test_on="validation"), store, evidence=NO_STUDY)
    assert advice.options == () and advice.choice is None and advice.recipe == recipe(test_on="validation")
    assert "has not seen the student's test examples" in reasons(advice, run_of(store, 0))[0]
    assert "train it from scratch" in str(advice)
    # The other way round nothing is wrong: what was explored on validation data never saw the test set.
    explored = trained(store, recipe(test_on="validation"), 3)
    assert advise(recipe(), store, evidence=NO_STUDY, runs=[explored]).options


def test_where_it_cannot_be_checked_a_run_is_refused_too(store: Store) -> None:
    bare = trained(store, recipe(), 9, records=False)
    advice = advise(recipe(train_examples=300), store, evidence=NO_STUDY, runs=[bare])
    assert advice.options == ()
    assert "it cannot be checked" in reasons(advice, bare.id)[0]


def test_a_run_that_is_much_shorter_is_refused(store: Store) -> None:
    assert TOO_SHORT == 0.25
    assert ways(advise(recipe("8ep"), store, evidence=NO_STUDY))
    advice = advise(recipe("8.1ep"), store, evidence=NO_STUDY)
    assert advice.options == ()
    assert "got 2 epochs for 8.1" in reasons(advice, run_of(store, 0))[0]
    assert ways(advise(recipe("30min"), store, evidence=NO_STUDY))  # minutes are no number of epochs yet


def test_a_chain_of_constant_weights_ends(store: Store) -> None:
    first = run_of(store, 0)
    constant = [0.9, 0.9]
    with pytest.warns(UserWarning, match="constant weight"):
        second = trained(store, recipe().with_(Distill(first, weight=constant)), 5)
    with pytest.warns(UserWarning, match="constant weight"):
        third = trained(store, recipe().with_(Distill(second.id, weight=constant)), 6)
    annealed = trained(store, recipe().with_(Distill(second.id)), 7)
    for run in (second, third, annealed):
        changed(store, run.id, scored(0.75, 0.5))
    advice = advise(recipe(), store, evidence=NO_STUDY)
    assert "quality falls from hand-over to hand-over" in reasons(advice, third.id)[0]
    assert reasons(advice, second.id) == reasons(advice, annealed.id) == []
    assert advise(recipe(), store, evidence=NO_STUDY, runs=[third]).options == ()
    # And a constant weight is not put on a teacher that was distilled itself, whatever a study found.
    known = rows(arm("records", 1.5, 1.2, 2.0, options={"weight": constant}))
    from_second = advise(recipe(), store, evidence=known, runs=[second])
    assert "records" not in ways(from_second)
    assert "not distilled themselves" in reasons(from_second, second.id, "records")[0]
    assert "records" in ways(advise(recipe(), store, evidence=known, runs=[first]))
    assert constant_weight({"weight": [0.5, 0.5]}) and not constant_weight({"weight": [0.9, 0.0]})
    assert not constant_weight({"weight": 0.9}) and not constant_weight({"weight": [0.0, 0.0]})


def test_records_without_common_examples_teach_nothing(store: Store) -> None:
    early = trained(store, recipe(train_examples=200), 3)
    advice = advise(recipe(train_start=200, train_examples=400), store, evidence=NO_STUDY, runs=[early])
    assert "trained on none of these" in reasons(advice, early.id, "records")[0]
    assert ways(advice)[0] == "warm start"


def test_a_damaged_run_is_refused_and_the_rest_goes_on(store: Store) -> None:
    bad = run_of(store, 0)
    (store.path / "runs" / bad / "run.json").write_text("{", encoding="utf8")
    advice = advise(recipe(), store, evidence=NO_STUDY)
    assert "is not the description of a run" in reasons(advice, bad)[0]
    assert advice.options[0].runs == (run_of(store, 1),)


def test_an_optimizer_without_a_rate_cannot_be_warm_started(store: Store) -> None:
    bare = recipe().with_(optimizer={"name": "adamw"})
    advice = advise(bare, store, evidence=NO_STUDY)
    assert ways(advice) == ["records", "records average"]
    assert "optimizer without one" in reasons(advice, run_of(store, 0), "warm start")[0]
