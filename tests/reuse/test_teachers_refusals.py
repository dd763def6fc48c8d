"""What no student should be taught by or with: each refused with the rule, what was received and what to do."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn

from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue, MissingIds, ReinvestError, UnknownName
from reinvest.core.recipe import Recipe
from reinvest.loop.train import train
from reinvest.methods.losses.distillation import Distill, distillation_losses
from reinvest.reuse.clean import clean_pass
from reinvest.store import Store
from teaching import CLASSES, FACTS, QUIET, Rows, columns, implied, other, recorded, small, still, table
from toy_loops import loader as toy_loader
from toy_loops import net, own_loop, same_bits, state

HASHES = torch.arange(45) * 1_000_003 + 17
NAMES = ("ant", "bee", "cat", "dog")


def roles(*, train=range(20), validation=range(20, 25), test=range(40, 45)):
    found = torch.zeros(45, dtype=torch.uint8)
    for value, ids in enumerate((train, validation, test), start=1):
        found[list(ids)] = value
    return lambda: found


VIEW = {
    "fingerprint": "first",
    "class_names": NAMES,
    "preprocessing": "6 numbers as they are",
    "hashes": lambda: HASHES,
    "roles": roles(),
}


def rows(ids=range(20), *, x=None, y=None, **changes):
    x0, y0 = columns()
    return Rows(x0 if x is None else x, y0 if y is None else y, ids, **(VIEW | changes))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A store, and a teacher recorded on ids 0 ... 19 with everything known of its data."""
    with Store(tmp_path_factory.mktemp("teachers") / "runs") as store:
        yield store, recorded(store, rows())


def attempt(method, loader, classes=CLASSES, epochs=1):
    """An own loop with a student of so many classes."""
    model = net(classes=classes)
    own_loop(Methods(method), model, loader, epochs=epochs)
    return model


def refused(error, words, call, *args, **more):
    """The message of a refusal: one that states the rule, the value received and what to do."""
    with pytest.raises(error, match=f"(?i){words}") as caught:
        call(*args, **more)
    text = str(caught.value)
    assert ", got " in text and ";" in text.partition(", got ")[2], text
    return text


# ---- values ------------------------------------------------------------------------------------------------------

BAD = {
    "weight": [-0.1, 1.1, math.nan, "heavy", None, [], [0.5], [0.5, 1.2], [-0.1, 0.0], [0.9, 0.5, 0.1], [0.9, "0"]],
    "temperature": [0, 0.0, -1.0, math.nan, math.inf, "hot", None],
    "every": [0, -1, 2.5, "2", True, None],
    "until": [0, 0.0, -0.1, 1.5, math.nan, "2xy", None],
    "probability": [0, 0.0, -0.5, 1.1, math.nan, "half", None],
    "reweigh": ["yes", 1, None],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values], ids=str)
def test_values_out_of_range_are_refused_when_the_method_is_made(name, value):
    words = "until|duration" if name == "until" else name
    refused(InvalidValue, words, Distill, other(), source="forward", **{name: value})


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("loss", ("kl", "mse")),
        ("source", ("auto", "records", "clean pass", "forward")),
        ("pool", ("random", "average")),
    ],
)
def test_unknown_words_are_refused_with_the_known_ones(name, known):
    with pytest.raises(UnknownName, match=name) as caught:
        Distill(other(), **({"source": "forward"} | {name: "nonsense"}))
    assert "nonsense" in str(caught.value) and all(word in str(caught.value) for word in known)


def test_the_function_refuses_what_the_method_refuses():
    s, t = torch.zeros(2, 3), torch.ones(2, 3)
    refused(InvalidValue, "temperature", distillation_losses, s, t, temperature=0.0, loss="kl")
    with pytest.raises(UnknownName, match=r"(?s)kl.*mse"):
        distillation_losses(s, t, temperature=1.0, loss="l1")
    refused(InvalidValue, r"classes|shape", distillation_losses, s, torch.ones(2, 4), temperature=1.0, loss="kl")


def test_an_empty_pool_is_refused():
    for pool in ([], ()):
        refused(InvalidValue, "teacher", Distill, pool)


@pytest.mark.parametrize("teacher", [None, 3, 1.5, [None], [other(), 7]], ids=str)
def test_what_cannot_teach_is_refused(teacher):
    refused(InvalidValue, "teacher", Distill, teacher)


# ---- another label space or input --------------------------------------------------------------------------------


def test_a_teacher_of_the_same_data_is_taken(runs):
    """Without this the refusals below would say little."""
    _, run = runs
    for change in ({}, {"fingerprint": "grown", "roles": roles(train=range(40))}):
        taught = attempt(Distill(run), rows(range(20), **change))
        assert not same_bits(state(taught), state(attempt(Distill(run, weight=0.0), rows())))


def test_another_number_of_classes_is_refused(runs):
    _, run = runs
    refused(ReinvestError, "class", attempt, Distill(run), rows(classes=5, class_names=None), classes=5)
    refused(ReinvestError, "class", attempt, Distill(run), rows(classes=3, class_names=NAMES[:3]), classes=3)
    # Where the loader says nothing of classes, the outputs do.
    silent = rows(classes=None, class_names=None)
    refused(ReinvestError, "class", attempt, Distill(run), silent, classes=5)
    refused(ReinvestError, "class", attempt, Distill(other(classes=5), source="forward"), toy_loader())
    wide = clean_pass(other(classes=5), rows(roles=None))
    refused(ReinvestError, "class", attempt, Distill(wide), rows(roles=None))


def test_classes_of_another_name_are_refused(runs):
    _, run = runs
    text = refused(ReinvestError, "class", attempt, Distill(run), rows(class_names=("ant", "bee", "cat", "eel")))
    assert "dog" in text


def test_classes_that_are_new_map_by_name(runs):
    _, run = runs
    grown = rows(classes=5, class_names=("ant", "eel", "bee", "cat", "dog"), hashes=None, y=torch.zeros(45).long())
    run_without_hashes = recorded(runs[0], rows(hashes=None, y=torch.zeros(45).long()), name="no hashes")
    found = implied(Distill(run_without_hashes, weight=[1.0, 1.0]), loader=grown, classes=5)
    wanted = run.records().rows(torch.arange(20))[0].softmax(1)
    assert torch.allclose(table(found, range(20))[:, [0, 2, 3, 4]], wanted, atol=1e-4)
    assert table(found, range(20))[:, 1].abs().max() < 1e-4, "the teacher says nothing for a class that it never knew"


def test_other_positions_are_refused_and_never_reshaped():
    """Logits [2, 8, 3] hold as many numbers as [2, 4, 6]."""
    student, target = torch.zeros(2, 4, 6, requires_grad=True), torch.zeros(2, 6, dtype=torch.int64)
    for shape in ((2, 4, 5), (2, 3, 6), (2, 8, 3)):
        model, data = nn.Linear(1, 1), [(torch.zeros(2, 1), target)]
        chain = Methods(Distill(lambda _, shape=shape: torch.zeros(shape), source="forward"))
        with chain.attach(model, still(model), duration="1st", data=data, seed=0):
            for _, y in chain.batches(data):
                refused(InvalidValue, "teacher", chain.loss, student, y)


def test_another_order_of_classes_is_refused(runs):
    _, run = runs
    refused(ReinvestError, "class", attempt, Distill(run), rows(class_names=("bee", "ant", "cat", "dog")))


def test_other_preprocessing_is_refused(runs):
    _, run = runs
    text = refused(ReinvestError, "preprocess", attempt, Distill(run), rows(preprocessing="6 numbers, halved"))
    assert "6 numbers as they are" in text and "6 numbers, halved" in text


# ---- other examples ----------------------------------------------------------------------------------------------


def test_ids_of_another_data_set_are_refused(runs):
    _, run = runs
    text = refused(ReinvestError, "toy", attempt, Distill(run), rows(namespace="other"))
    assert "other" in text


def test_content_that_has_changed_under_an_id_is_refused(runs):
    _, run = runs
    changed = HASHES.clone()
    changed[13] += 1
    text = refused(ReinvestError, "content|label|hash", attempt, Distill(run), rows(hashes=lambda: changed))
    assert "13" in text, "says which example"


def test_rows_that_were_appended_do_no_harm(tmp_path):
    x, y = columns()
    at_first = roles()()[:30]
    small_set = rows(x=x[:30], y=y[:30], hashes=lambda: HASHES[:30], roles=lambda: at_first)
    run = recorded(Store(tmp_path / "runs"), small_set)
    attempt(Distill(run), rows([*range(20), *range(30, 40)], fingerprint="grown", roles=roles(train=range(25))))


def test_labels_that_disagree_are_refused_where_there_are_no_hashes(tmp_path):
    store = Store(tmp_path / "runs")
    run = recorded(store, rows(hashes=None))
    attempt(Distill(run), rows(hashes=None))
    _, y = columns()
    refused(ReinvestError, "label", attempt, Distill(run), rows(hashes=None, y=(y + 1) % CLASSES))


def test_no_id_in_common_is_refused(runs):
    _, run = runs
    others = rows(range(25, 40), roles=roles(train=range(25, 40), validation=[]), fingerprint="another split")
    refused(ReinvestError, r"\bids?\b|example", attempt, Distill(run), others)


@pytest.mark.parametrize("seen", [3, 22], ids=["in training", "for validation"])
def test_a_teacher_that_saw_the_students_test_examples_is_refused(runs, seen):
    _, run = runs
    test = [*range(40, 45), seen]
    own = [i for i in range(20) if i != seen]
    held = roles(train=own, validation=[i for i in range(20, 25) if i != seen], test=test)
    refused(ReinvestError, "test", attempt, Distill(run), rows(own, roles=held, fingerprint="another split"))


def test_a_loader_without_ids_is_refused_for_records_and_not_for_a_network(runs):
    _, run = runs
    with pytest.raises(MissingIds, match="Indexed"):
        attempt(Distill(run), toy_loader())
    with pytest.raises(MissingIds, match="Indexed"):
        clean_pass(other(), toy_loader())
    attempt(Distill(other(), source="forward"), toy_loader())


# ---- runs that cannot teach --------------------------------------------------------------------------------------


def test_a_run_with_neither_records_nor_weights_is_refused(runs):
    store, _ = runs
    run = recorded(store, rows(), records=False, name="silent")
    text = refused(ReinvestError, "record", attempt, Distill(run), rows())
    assert run.id in text and "weights" in text
    with pytest.raises(ReinvestError, match="record"):
        attempt(Distill(run, source="records"), rows())


def test_weights_of_an_own_loop_cannot_be_run_because_nobody_knows_the_model(runs):
    # open: a run's model is rebuilt from its recipe; an own loop left none
    store, _ = runs
    with store.record("weights only", task="toy", records=False, facts=FACTS) as writer:
        own_loop(Methods(), other(), rows(), epochs=1)
        writer.save_weights(other().state_dict())
    for source in ("auto", "clean pass", "forward"):
        refused(ReinvestError, "model|recipe", attempt, Distill(writer.run, source=source), rows())


def test_truncated_records_are_refused(tmp_path):
    store = Store(tmp_path / "runs")
    run = recorded(store, rows())
    path = run.path / "records.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for source in ("records", "auto"):
        with pytest.raises(ReinvestError, match=r"records\.safetensors"):
            attempt(Distill(run, source=source), rows())


def test_a_run_that_the_store_does_not_hold_is_refused(runs, tmp_path):
    store, run = runs
    unknown = "feedfacefeedface"
    with store.record("s", task="toy", facts=FACTS), pytest.raises(UnknownName, match=unknown):
        attempt(Distill(unknown), rows())
    with store.lending(), pytest.raises(UnknownName, match=unknown):
        attempt(Distill(unknown), rows())
    refused(InvalidValue, "store", attempt, Distill(run.id), rows())
    elsewhere = Store(tmp_path / "runs")
    with pytest.raises(UnknownName, match=unknown):
        train(small(duration="1ep").with_(Distill(unknown)), 0, elsewhere, **QUIET)
    assert elsewhere.runs(status="finished") == []


def test_a_refusal_leaves_chain_and_model_usable(runs):
    _, run = runs
    model, method = net(), Distill(run)
    before, chain = state(model), Methods(method)
    with (
        pytest.raises(ReinvestError),
        chain.attach(model, still(model), duration="1ep", data=rows(preprocessing="unlike"), seed=0),
    ):
        pass
    assert same_bits(state(model), before)
    own_loop(chain, model, rows(), epochs=1)


# ---- recipes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["a module", "a function", "a clean pass"])
def test_a_recipe_takes_no_live_teacher(source):
    if source == "a clean pass":
        method = Distill(clean_pass(other(), rows()))
    else:
        method = Distill(nn.Linear(64, 10) if source == "a module" else torch.relu, source="forward")
    refused(InvalidValue, "plain values|run", Recipe, task="digits", model="mlp", methods=[method])
    refused(InvalidValue, "plain values|run", small().with_, method)


# ---- warnings ----------------------------------------------------------------------------------------------------


def silent(call, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(*args)


def test_a_constant_weight_in_a_long_student_is_warned_of(runs):
    """The teacher had 8 epochs; from a quarter of that on, a constant weight holds the student back."""
    _, run = runs
    for epochs in (3, 8):
        with pytest.warns(UserWarning, match=r"(?is)weight.*(quarter|1/4|¼|length|long)") as caught:
            attempt(Distill(run, weight=[0.9, 0.9]), rows(), epochs=epochs)
        assert len(caught) == 1 and "teacher" in str(caught[0].message)
        assert "anneal" in str(caught[0].message) or "0.9, 0" in str(caught[0].message), "says what to do"


def test_no_warning_where_the_weight_falls_or_the_student_is_short(runs):
    _, run = runs
    silent(attempt, Distill(run, weight=[0.9, 0.9]), rows(), CLASSES, 2)
    silent(attempt, Distill(run), rows(), CLASSES, 8)
    silent(attempt, Distill(run, weight=[0.9, 0.0]), rows(), CLASSES, 8)
    silent(attempt, Distill(run, weight=0.0), rows(), CLASSES, 8)


def test_a_constant_weight_under_a_distilled_teacher_is_warned_of(tmp_path):
    """Constant weights make quality drift down from run to run; annealed ones do not."""
    store = Store(tmp_path / "runs")
    first = recorded(store, rows())
    second = recorded(store, rows(), other(), Distill(first), name="second")
    with pytest.warns(UserWarning, match=r"(?is)(distilled|taught)") as caught:
        attempt(Distill(second, weight=[0.9, 0.9]), rows(), epochs=1)
    assert len(caught) == 1 and second.id in str(caught[0].message)
    silent(attempt, Distill(second), rows())
    silent(attempt, Distill(first, weight=[0.9, 0.9]), rows())
