"""The figures of outcomes: votes counted by hand, equal runs, groups, simulated runs whose spread is known, files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from reinvest.core.errors import InvalidValue
from reinvest.studies.outcome_figures import DISPUTED, Figures, Spread, Votes, wilson
from reinvest.studies.outcome_files import read_groups
from reinvest.studies.outcome_runs import LeftOut, Repeat
from reinvest.studies.outcomes import Outcomes, outcomes_of, read_outcomes

# Four runs, five examples of three classes: all agree, three to one, two to two, two to one to one, all agree and err.
TABLE = torch.tensor([[0, 1, 0, 0, 2], [0, 1, 0, 0, 2], [0, 1, 1, 1, 2], [0, 2, 1, 2, 2]])
LABELS = torch.tensor([0, 1, 1, 0, 0])
IDS = torch.tensor([40, 7, 19, 12, 3])


def votes(table: Tensor = TABLE, labels: Tensor = LABELS, ids: Tensor | None = None, classes: int = 3) -> Votes:
    known = IDS if ids is None and table.shape[1] == len(IDS) else torch.arange(table.shape[1])
    return Votes(known if ids is None else ids, labels, table, tuple(f"r{k}" for k in range(len(table))), classes)


def test_votes_by_hand() -> None:
    found = outcomes_of(votes(), below=0.5)
    assert [run.accuracy for run in found.runs] == [0.6, 0.6, 0.6, 0.4]
    # Agreeing pairs of six: 6, 3, 2, 1, 6.
    consistency = [1.0, 3 / 6, 2 / 6, 1 / 6, 1.0]
    whole = found.whole
    assert whole.self_consistency == pytest.approx(sum(consistency) / 5)
    assert whole.churn == pytest.approx(1 - sum(consistency) / 5)
    assert (whole.arbitrary, whole.unanimous) == (0.4, 0.4)
    # The vote: right; right; two to two; right with two of four; wrong.
    assert whole.majority == pytest.approx((1 + 1 + 0.5 + 1 + 0) / 5)
    assert whole.accuracy == pytest.approx(11 / 20)
    assert found.churn[0] == (0.0, 0.0, 0.4, 0.6)
    assert found.churn[2][3] == 0.4
    assert [found.histogram[k] for k in (3, 6, 10, 19)] == [1, 1, 1, 2] and sum(found.histogram) == 5
    assert [(one.id, one.votes) for one in found.disputed] == [
        (12, ((0, 2), (1, 1), (2, 1))),
        (19, ((0, 2), (1, 2))),
        (7, ((1, 3), (2, 1))),
    ]
    assert whole.deciles[0] == pytest.approx(1 / 6) and whole.deciles[-1] == 1.0


def test_equal_runs_agree_on_everything_and_spread_nowhere() -> None:
    found = outcomes_of(votes(TABLE[:1].expand(3, -1)))
    assert found.whole.churn == found.whole.arbitrary == 0.0
    assert found.whole.self_consistency == found.whole.unanimous == 1.0
    spread = found.whole.spread
    assert spread is not None and (spread.observed, spread.sampling, spread.between, spread.sd) == (0.0, 0.0, 0.0, 0.0)
    assert (spread.low, spread.high) == (0.0, 0.0) and spread.floor == pytest.approx((0.6 * 0.4 / 5) ** 0.5)
    assert found.disputed == () and all(value == 0.0 for row in found.churn for value in row)
    assert found.histogram[-1] == 5 and found.whole.deciles == (1.0,) * 11


def test_classes_and_groups_have_the_figures_of_their_examples_alone() -> None:
    found = outcomes_of(votes(), groups={40: "b", 7: "a", 19: "a", 12: "b", 3: "b", 99: "unseen"})
    assert [group.name for group in found.by_class] == ["0", "1"]
    assert [group.examples for group in found.by_class] == [3, 2]
    assert [group.name for group in found.by_group] == ["a", "b"]
    part = outcomes_of(votes(TABLE[:, [1, 2]], LABELS[[1, 2]])).whole
    a = found.by_group[0]
    assert (a.churn, a.accuracy, a.majority, a.spread) == (part.churn, part.accuracy, part.majority, part.spread)
    assert a.churn == pytest.approx(1 - (3 / 6 + 2 / 6) / 2)
    sizes = [group.examples for group in found.by_group]
    mean = sum(g.churn * n for g, n in zip(found.by_group, sizes, strict=True)) / sum(sizes)
    assert mean == pytest.approx(found.whole.churn)
    assert [one.group for one in found.disputed] == ["b", "a", "a"]
    assert found.groups == ["b", "a", "a", "b", "b"]


def test_numbers_of_groups_stand_in_their_order_and_a_lonely_example_has_no_spread() -> None:
    found = outcomes_of(votes(), groups=torch.tensor([10, 9, 9, -1, 10]))
    assert [group.name for group in found.by_group] == ["-1", "9", "10"]
    assert found.by_group[0].spread is None and found.by_group[0].churn == pytest.approx(5 / 6)


def test_three_of_five_votes_lie_below_the_usual_threshold_and_four_do_not() -> None:
    table = torch.tensor([[0, 0], [0, 0], [0, 0], [1, 0], [1, 1]])
    assert outcomes_of(votes(table, torch.tensor([0, 0]))).whole.arbitrary == 0.5


@pytest.mark.parametrize("shift", [0.0, 0.02])
def test_runs_with_a_known_spread_give_it_back(shift: float) -> None:
    generator = torch.Generator().manual_seed(11)
    labels = torch.zeros(400, dtype=torch.int64)
    found, floor = [], []
    for _ in range(600):
        p = 0.3 + 0.6 * torch.rand(400, generator=generator)
        wrong = torch.rand(8, 400, generator=generator) >= p + shift * torch.randn(8, 1, generator=generator)
        spread = Figures(votes(wrong.long(), labels, classes=2), 0.6).everything().spread
        assert spread is not None
        found.append(spread.between)
        floor.append(spread.floor)
    between = torch.tensor(found, dtype=torch.float64)
    error = float(between.std()) / len(between) ** 0.5
    assert abs(float(between.mean()) - shift**2) < 4 * error
    assert error < 3e-5
    # p (1 - p) of the mean accuracy 0.6.
    assert sum(floor) / len(floor) == pytest.approx((0.6 * 0.4 / 400) ** 0.5, rel=0.01)


@pytest.mark.parametrize(("right", "size"), [(0, 10), (7, 10), (10, 10), (880, 1000)])
def test_the_interval_of_an_accuracy_is_wilsons(right: int, size: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(right, size).proportion_ci(0.95, method="wilson")
    assert wilson(right, size) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_only_the_most_disputed_are_listed_and_equal_ones_by_id() -> None:
    size = DISPUTED + 9
    table = torch.stack([torch.zeros(size, dtype=torch.int64), torch.ones(size, dtype=torch.int64)])
    ids = torch.arange(size).flip(0)
    found = outcomes_of(votes(table, table[0], ids, classes=2)).disputed
    assert [one.id for one in found] == list(range(DISPUTED))


def test_plain_values_give_the_same_outcomes_back(tmp_path: Path) -> None:
    more = {"repeat": Repeat(4, 3, 2), "left_out": (LeftOut("x", 7, "diverged"),), "recipe": {"task": {"name": "t"}}}
    logged = [0.6, None, 0.6, 0.45]
    found = outcomes_of(votes(), groups=IDS % 2, task="t", model="m", seeds=[0, 1, 2, 3], logged=logged, **more)
    result = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert Outcomes.from_dict(result) == found
    assert result["kind"] == "outcomes" and result["title"] == "Outcomes: 4 runs of t m"
    assert any("run r3: 0.4500, here 0.4000" in note for note in found.notes)
    assert any("3 of 4 runs give the same logits" in text and "2 answers" in text for text in found.statements)
    found.report(tmp_path / "page.html", reproduce={"command": "x"})
    kept = read_outcomes(tmp_path / "page.json")
    assert kept.pop("reproduce") == {"command": "x"} and kept == result
    with pytest.raises(InvalidValue, match="read from a file"):
        Outcomes.from_dict(result).csv(tmp_path / "votes.csv")


def test_the_standard_deviations_are_roots_and_a_negative_variance_is_none() -> None:
    spread = Spread(4e-4, 9e-4, -5e-4, 0.0, 0.03, 0.01)
    values = spread.to_dict()
    assert (values["observed_sd"], values["sampling_sd"], values["sd"]) == pytest.approx((0.02, 0.03, 0.0))
    assert Spread.from_dict(values) == spread


def test_every_vote_is_written_with_its_example(tmp_path: Path) -> None:
    outcomes_of(votes(), groups=IDS % 2).csv(tmp_path / "votes.csv")
    rows = list(csv.DictReader((tmp_path / "votes.csv").read_text().splitlines()))
    assert list(rows[0]) == ["id", "label", "r0", "r1", "r2", "r3", "self_consistency", "group"]
    assert [int(row["id"]) for row in rows] == IDS.tolist()
    assert [[int(row[f"r{k}"]) for row in rows] for k in range(4)] == TABLE.tolist()
    assert float(rows[1]["self_consistency"]) == 0.5 and rows[1]["group"] == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["votes.csv"]


def test_groups_are_read_from_a_file_with_other_columns_and_examples(tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_text(
        "\ufeffname,id,group\nx,40,dark\ny,7, light \nz,19,light\n,12,dark\n,3,dark\n,1000,dark\n,40,dark\n"
    )
    assert [g.examples for g in outcomes_of(votes(), groups=file).by_group] == [3, 2]
    assert read_groups(file)[7] == "light"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("id,colour\n1,a\n", "got id, colour"),
        ("", "got nothing"),
        ("id,group\n1.5,a\n", "got '1.5' and 'a' in line 2"),
        ("id,group\n1,\n", "got '1' and ''"),
        ("id,group\n1,a\n1,b\n", "got 'a' and 'b' for id 1"),
        ("id,group\n40,a\n7,a\n", r"none for 3 of 5 \(ids 19, 12, 3\)"),
    ],
)
def test_files_of_groups_that_say_too_little_are_refused(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(InvalidValue, match=part):
        outcomes_of(votes(), groups=tmp_path / "groups.csv")
    (tmp_path / "groups.csv").write_bytes("id,group\n7,caf\xe9\n".encode("latin1"))
    with pytest.raises(
        InvalidValue, match=r"CSV file of UTF-8 text, got groups\.csv, which is not .*; save it as CSV UTF-8"
    ):
        outcomes_of(votes(), groups=tmp_path / "groups.csv")
    (tmp_path / "groups.csv").write_text("id,group\n7," + "x" * 200_000 + "\n")
    with pytest.raises(InvalidValue, match="field larger than field limit"):
        outcomes_of(votes(), groups=tmp_path / "groups.csv")
    with pytest.raises(InvalidValue, match="does not exist"):
        outcomes_of(votes(), groups=tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("table", "labels", "part"),
    [
        (TABLE[:1], LABELS, "2 runs or more on 2 examples or more, got 1 and 5"),
        (TABLE[:, :1], LABELS[:1], "got 4 and 1"),
        (TABLE, LABELS[:4], r"got \[4, 5\] and \[4\]"),
        (TABLE + 1, LABELS, "predictions are int64 numbers of classes from 0 to 2, got torch.int64 from 1 to 3"),
        (TABLE, LABELS - 1, "labels are int64"),
        (TABLE.int(), LABELS, "got torch.int32"),
    ],
)
def test_votes_that_fit_nothing_are_refused(table: Tensor, labels: Tensor, part: str) -> None:
    with pytest.raises(InvalidValue, match=part):
        votes(table, labels)


@pytest.mark.parametrize("below", [0, 1.1, True, "0.6"])
def test_a_threshold_out_of_range_is_refused(below: object) -> None:
    with pytest.raises(InvalidValue, match=r"in \(0, 1\], got"):
        outcomes_of(votes(), below=below)  # type: ignore[arg-type]


def test_groups_of_another_shape_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"one an example of the split \[5\], got torch.int64 \[3\]"):
        outcomes_of(votes(), groups=torch.tensor([1, 2, 3]))
