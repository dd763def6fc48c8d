"""Votes on positions: closed forms, what does not count, and the figures of single labels as a special case."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from reinvest.core.errors import InvalidValue
from reinvest.studies.outcome_figures import Figures, Votes
from reinvest.studies.outcome_positions import PositionFigures
from reinvest.studies.outcomes import Outcomes, outcomes_of_positions

Example = tuple[int, Tensor, Tensor]


def drawn(runs: int = 4, examples: int = 12, classes: int = 3, seed: int = 0) -> list[Example]:
    """Examples of unlike sizes, a quarter of their positions without a label."""
    g = torch.Generator().manual_seed(seed)
    found = []
    for k in range(examples):
        labels = torch.randint(classes, (20 + k,), generator=g)
        said = torch.where(torch.rand(runs, 20 + k, generator=g) < 0.7, labels, (labels + 1) % classes)
        labels[torch.rand(20 + k, generator=g) < 0.25] = -100
        found.append((100 + k, labels, said))
    return found


def figures(examples: list[Example], runs: int, classes: int = 3, **more: object) -> PositionFigures:
    found = PositionFigures(tuple(f"r{k}" for k in range(runs)), classes, **more)  # type: ignore[arg-type]
    for number, labels, said in examples:
        found.add(number, labels, said)
    return found


def test_equal_runs_differ_nowhere() -> None:
    same = [(i, y, said[:1].expand(3, -1)) for i, y, said in drawn()]
    found = outcomes_of_positions(figures(same, 3))
    assert found.whole.churn == 0.0 and found.whole.unanimous == 1.0 and found.whole.arbitrary == 0.0
    assert found.churn == ((0.0,) * 3,) * 3 and found.disputed == ()
    assert found.whole.spread is not None and found.whole.spread.observed == 0.0 and found.whole.spread.sampling == 0.0
    assert found.histogram[-1] == found.positions == sum(int((y >= 0).sum()) for _, y, _ in same)


def test_two_runs_that_differ_on_known_positions() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, -100, -100])
    one = labels.clamp(min=0)
    other = one.clone()
    other[[0, 4, 6]] = 2  # the third one has no label
    last = torch.tensor([1, 1, 2, -100])
    found = outcomes_of_positions(
        figures([(7, labels, torch.stack([one, other])), (3, last, torch.stack([last, last]).clamp(min=0))], 2)
    )
    assert found.positions == 9 and found.examples == 2
    assert found.whole.churn == pytest.approx(2 / 9) and found.churn[0][1] == pytest.approx(2 / 9)
    by_class = {g.name: g for g in found.by_class}
    assert [by_class[k].churn for k in "012"] == pytest.approx([1 / 4, 1 / 4, 0.0])
    assert [(by_class[k].examples, by_class[k].positions) for k in "012"] == [(1, 4), (2, 4), (1, 1)]
    assert [run.accuracy for run in found.runs] == pytest.approx([1.0, 7 / 9])
    # With two runs a tie counts a half for the vote.
    assert found.whole.majority == pytest.approx(8 / 9)
    (disputed,) = found.disputed
    assert disputed.id == 7 and disputed.positions == 6 and disputed.self_consistency == pytest.approx(4 / 6)


@pytest.mark.parametrize("runs", [2, 3, 5])
def test_shares_are_those_of_the_positions_put_into_one_row(runs: int) -> None:
    examples = drawn(runs)
    found = outcomes_of_positions(figures(examples, runs), below=0.7)
    labels = torch.cat([y for _, y, _ in examples])
    said = torch.cat([s for _, _, s in examples], 1)[:, labels >= 0]
    labels = labels[labels >= 0]
    flat = Figures(Votes(torch.arange(len(labels)), labels, said, tuple(map(str, range(runs))), 3), 0.7)
    for mine, theirs in zip((found.whole, *found.by_class), (flat.everything(), *flat.by_class()), strict=True):
        for name in ("name", "accuracy", "majority", "churn", "arbitrary", "unanimous", "deciles"):
            assert getattr(mine, name) == pytest.approx(getattr(theirs, name)), name
        assert mine.positions == theirs.examples
    assert found.histogram == flat.histogram()


def test_with_one_position_each_the_spread_is_that_of_single_labels() -> None:
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (40,), generator=g)
    said = torch.where(torch.rand(5, 40, generator=g) < 0.6, labels, (labels + 1) % 3)
    alone = figures([(k, labels[k : k + 1], said[:, k : k + 1]) for k in range(40)], 5)
    found = outcomes_of_positions(alone)
    flat = Figures(Votes(torch.arange(40), labels, said, tuple("abcde"), 3), 0.6)
    for mine, theirs in zip((found.whole, *found.by_class), (flat.everything(), *flat.by_class()), strict=True):
        assert mine.spread is not None and theirs.spread is not None
        for name in ("observed", "sampling", "between", "low", "high"):
            assert getattr(mine.spread, name) == pytest.approx(getattr(theirs.spread, name), abs=1e-12), name
    p = [run.accuracy for run in found.runs]
    floor = math.sqrt(sum(a * (1 - a) for a in p) / 5 / 40)
    assert found.whole.spread is not None and found.whole.spread.floor == pytest.approx(floor)
    half = (found.runs[0].high - found.runs[0].low) / 2
    assert half == pytest.approx(1.959963984540054 * math.sqrt(p[0] * (1 - p[0]) / 39))


def test_pixels_of_one_picture_are_no_independent_evidence() -> None:
    g = torch.Generator().manual_seed(2)
    right = torch.rand(3, 30, generator=g) < 0.8
    small = [(k, torch.zeros(1, dtype=torch.int64), (~right[:, k : k + 1]).long()) for k in range(30)]
    large = [(k, y.expand(50), said.expand(3, 50)) for k, y, said in small]
    one, other = (outcomes_of_positions(figures(examples, 3)) for examples in (small, large))
    assert one.whole.spread is not None and other.whole.spread is not None
    for name in ("observed", "sampling", "between", "low", "high", "floor"):
        assert getattr(one.whole.spread, name) == pytest.approx(getattr(other.whole.spread, name))
    for end in ("low", "high"):
        assert [getattr(r, end) for r in one.runs] == pytest.approx([getattr(r, end) for r in other.runs])


def test_subgroups_are_of_examples() -> None:
    examples = drawn(3)
    found = outcomes_of_positions(figures(examples, 3, groups={i: "odd" if i % 2 else "even" for i, _, _ in examples}))
    for group, rest in zip(found.by_group, (0, 1), strict=True):
        part = [e for e in examples if e[0] % 2 == rest]
        assert group.churn == pytest.approx(outcomes_of_positions(figures(part, 3)).whole.churn)
        assert group.examples == 6
    assert found.disputed[0].group in ("odd", "even")


def test_what_has_no_valid_position_counts_for_nothing() -> None:
    nothing = (9, torch.full((4,), -100), torch.zeros(3, 4, dtype=torch.int64))
    found = outcomes_of_positions(figures([nothing, *drawn(3)], 3))
    plain = outcomes_of_positions(figures(drawn(3), 3))
    assert found.whole == plain.whole and found.examples == 12
    assert "1 example has no labelled position" in " ".join(found.notes)


def test_it_is_read_back_as_it_was_and_says_what_it_counts(tmp_path) -> None:
    found = outcomes_of_positions(figures(drawn(3), 3), split="test", seeds=[0, 1, 2], task="streets", model="unet")
    again = Outcomes.from_dict(found.to_dict())
    assert again == found
    told = " ".join(found.statements)
    assert f"{found.positions:,} labelled positions of the 12 test examples" in told and "of its" in told
    lines = found.csv(tmp_path / "votes.csv").read_text().splitlines()
    assert lines[0] == "id,positions,r0,r1,r2,self_consistency" and len(lines) == 13
    first = lines[1].split(",")
    assert first[0] == "100" and int(first[1]) == int((drawn(3)[0][1] >= 0).sum())


def bad() -> Iterator[tuple[Example, str]]:
    labels, said = torch.tensor([0, 1]), torch.zeros(2, 2, dtype=torch.int64)
    yield (0, labels, said[:1]), r"got \[1, 2\] for 2 runs and labels \[2\]"
    yield (0, torch.tensor([0, 3]), said), "classes from 0 to 2, or -100 for none, got 0 to 3"
    yield (0, torch.tensor([0, -1]), said), "got -1 to 0"
    yield (0, labels, said + 3), "classes from 0 to 2, got 3 to 3"


@pytest.mark.parametrize(("example", "message"), list(bad()))
def test_refusals(example: Example, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        PositionFigures(("a", "b"), 3).add(*example)


def test_too_few_runs_or_examples_are_refused() -> None:
    with pytest.raises(InvalidValue, match="2 runs or more, got 1"):
        PositionFigures(("a",), 3)
    with pytest.raises(InvalidValue, match="on 2 examples or more with a labelled position, got 1"):
        outcomes_of_positions(figures(drawn(2)[:1], 2))
    with pytest.raises(InvalidValue, match="no group"):
        PositionFigures(("a", "b"), 3, groups={1: "x"}).add(*drawn(2)[0])


def test_a_rare_class_is_not_called_the_most_divided() -> None:
    examples = drawn(3, classes=2)
    labels, said = examples[0][1].clone(), examples[0][2].clone()
    at = int((labels >= 0).nonzero()[0])
    labels[at], said[:, at] = 2, torch.tensor([0, 1, 2])
    found = outcomes_of_positions(figures([(100, labels, said), *examples[1:]], 3))
    rare = next(group for group in found.by_class if group.name == "2")
    assert rare.positions == 1 and rare.churn == 1.0
    assert any("the most divided class is" in one and "class is 2" not in one for one in found.statements)
