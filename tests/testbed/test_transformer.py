"""Token models: who sees what, exactly; the same trunk in all; bad values refused."""

from __future__ import annotations

import pytest
import torch

from reinvest.core.errors import InvalidValue
from reinvest.core.names import resolve
from reinvest.testbed.tasks.tokens import BYTES, MASK, PAD, SPECIALS

MODELS = ("gpt", "bert", "bert_classifier")
SMALL = {"width": 16, "layers": 2, "heads": 2}
# gpt: tokens, positions, four layers, last norm; bert: with predictor and bias; classifier: two rows and a bias.
TRUNK = 258 * 128 + 128 * 128 + 4 * (12 * 128**2 + 13 * 128) + 2 * 128
PARAMETERS = {
    "gpt": TRUNK,
    "bert": TRUNK + 128 * 128 + 128 + 2 * 128 + 258,
    "bert_classifier": TRUNK + 2 * 128 + 2,
}


def build(name, *, length=12, **options):
    torch.manual_seed(0)
    classes = 2 if name == "bert_classifier" else BYTES
    return resolve("model", name)(**{"input_shape": (length,), "classes": classes, **SMALL, **options})


def tokens(rows=3, length=12):
    return torch.randint(SPECIALS, BYTES, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
def test_parameter_count(name):
    model = build(name, length=128, width=128, layers=4, heads=4)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert f"{PARAMETERS['gpt']:,}" == "842,752" and f"{PARAMETERS['bert']:,}" == "859,778"


@pytest.mark.parametrize("name", MODELS)
def test_shapes_and_gradients(name):
    model = build(name)
    output = model(tokens())
    assert output.shape == ((3, 2) if name == "bert_classifier" else (3, BYTES, 12))
    output.logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_no_logit_of_gpt_depends_on_a_later_token():
    model, x = build("gpt").eval(), tokens()
    with torch.no_grad():
        before = model(x)
        for place in range(12):
            other = x.clone()
            other[:, place] = SPECIALS + (x[:, place] - SPECIALS + 1) % 256
            after = model(other)
            assert torch.equal(after[:, :, :place], before[:, :, :place])
            assert bool((after[:, :, place:] != before[:, :, place:]).any(1).all())


@pytest.mark.parametrize("name", ["bert", "bert_classifier"])
def test_every_output_of_bert_depends_on_every_token(name):
    model, x = build(name).eval(), tokens()
    with torch.no_grad():
        before = model(x)
        for place in range(12):
            other = x.clone()
            other[:, place] = MASK
            assert bool((model(other) != before).any(1).all())


def sentences():
    x = tokens(4)
    for row, length in enumerate((12, 9, 5, 1)):
        x[row, length:] = PAD
    return x


def test_what_fills_up_changes_no_logit():
    model, x = build("bert_classifier").eval(), sentences()
    with torch.no_grad():
        before = model(x)
        model.trunk.embed.weight[PAD] = 100 * torch.randn(16)
        assert torch.equal(model(x), before)
        model.trunk.embed.weight[int(x[3, 0])] += 1
        assert not torch.equal(model(x)[3], before[3])


def test_what_fills_up_gets_no_gradient():
    model = build("bert_classifier")
    model(sentences()).sum().backward()
    grad = model.trunk.embed.weight.grad
    assert not grad[PAD].any() and bool(grad[sentences()[3, 0]].any())


def test_a_sentence_has_the_same_logits_whatever_its_batch_is_filled_up_to():
    model, x = build("bert_classifier").eval(), sentences()
    with torch.no_grad():
        assert torch.allclose(model(x)[2:3], model(x[2:3, :5]), atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_shorter_inputs_and_more_positions_do(name):
    model, wide = build(name), build(name, positions=20)
    with torch.no_grad():
        state = {**model.state_dict(), "trunk.positions": wide.trunk.positions.clone()}
        state["trunk.positions"][:12] = model.trunk.positions
        wide.load_state_dict(state)
        assert torch.equal(wide(tokens()), model(tokens()))
        assert len(model(tokens(length=7))) == 3 and len(wide(tokens(length=20))) == 3


def test_the_trunk_has_the_same_names_and_shapes_in_all_models():
    states = [{k: v.shape for k, v in build(name).state_dict().items() if k.startswith("trunk.")} for name in MODELS]
    assert states[0] == states[1] == states[2]
    own = [set(build(name).state_dict()) - set(states[0]) for name in MODELS]
    assert own[0] == set() and own[2] == {"classifier.weight", "classifier.bias"} and not own[1] & own[2]


def test_a_classifier_begins_with_the_trunk_of_a_language_model():
    old, new = build("bert"), build("bert_classifier")
    trunk = {k: v for k, v in old.state_dict().items() if k.startswith("trunk.")}
    found = new.load_state_dict(trunk, strict=False)
    assert found.unexpected_keys == [] and found.missing_keys == ["classifier.weight", "classifier.bias"]
    x = tokens()
    with torch.no_grad():
        assert torch.allclose(new.trunk(x, x != PAD), old.trunk(x), atol=1e-6)


def test_input_and_output_of_language_models_are_tied():
    for name in ("gpt", "bert"):
        model = build(name).eval()
        with torch.no_grad():
            before = model(tokens())
            unused = next(i for i in range(SPECIALS, BYTES) if i not in tokens())
            model.trunk.embed.weight[unused] += 1
            changed = (model(tokens()) != before).any(0).any(1)
        assert changed.nonzero().flatten().tolist() == [unused]


def test_dropout_acts_in_training_alone():
    for name in MODELS:
        model, x = build(name, dropout=0.5), tokens()
        with torch.no_grad():
            assert not torch.equal(model(x), model(x))
            model.eval()
            assert torch.equal(model(x), model(x))


def test_a_language_model_on_the_wrong_objective_says_so_in_training():
    x = tokens(100)
    hidden = x.clone()
    hidden[:, 3] = MASK
    with pytest.raises(InvalidValue, match="got tokens that are hidden; use objective='causal', or the model bert"):
        build("gpt")(hidden)
    with pytest.raises(InvalidValue, match="none is hidden; use objective='masked', or the model gpt"):
        build("bert")(x)
    assert build("gpt").eval()(hidden).shape == build("bert").eval()(x).shape
    assert build("gpt")(x).shape == build("bert")(hidden).shape == (100, BYTES, 12)
    # A small batch may happen to hide nothing.
    assert build("bert")(x[:83]).shape == (83, BYTES, 12)


def test_a_vocabulary_that_is_too_small_is_refused_where_its_tokens_come():
    model = build("gpt", classes=100)
    with pytest.raises(InvalidValue, match=r"knows tokens from 0 to 99, got 5\.\.200; give model and task the same"):
        model(torch.tensor([[5, 200]]))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("x", [torch.zeros(2, 12), torch.zeros(2, 13, dtype=torch.int64), torch.zeros(12).long()])
def test_inputs_that_are_no_tokens_are_refused(name, x):
    with pytest.raises(InvalidValue, match=r"tokens, whole numbers of shape \[B, T\] with T up to 12, got"):
        build(name)(x)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (3, 8, 8)}, r"takes tokens of shape \(length,\), got \(3, 8, 8\)"),
        ({"width": 0}, "width is a whole number of at least 1, got 0"),
        ({"layers": 0}, "layers is a whole number"),
        ({"heads": 1.5}, "heads is a whole number"),
        ({"heads": 3}, "heads divide its width, got 3 for 16"),
        ({"dropout": 1.0}, r"from 0\.0 \(none\) to below 1\.0, got 1\.0"),
        ({"dropout": "some"}, "got 'some'"),
        ({"positions": 11}, r"position for every token of an example \(12\), got 11"),
        ({"positions": 0}, "positions is a whole number"),
        ({"classes": 0}, "classes is a whole number"),
    ],
)
def test_bad_options_are_refused(name, options, message):
    with pytest.raises(InvalidValue, match=message):
        build(name, **options)


def test_the_classifier_takes_the_tasks_vocabulary():
    assert build("bert_classifier", vocabulary=300).trunk.embed.num_embeddings == 300
    assert build("bert_classifier", vocabulary=256).trunk.embed.num_embeddings == BYTES
    with pytest.raises(InvalidValue, match="vocabulary is 'bytes' or the size"):
        build("bert_classifier", vocabulary="words")
