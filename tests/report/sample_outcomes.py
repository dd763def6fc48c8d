"""Outcomes of simulated votes, with names that a page must not take for markup."""

from __future__ import annotations

from typing import Any

import torch

from reinvest.studies.outcome_figures import Votes
from reinvest.studies.outcome_runs import LeftOut, Repeat
from reinvest.studies.outcomes import PositionFigures, outcomes_of, outcomes_of_positions


def outcomes_result(runs: int = 4, size: int = 90, classes: int = 3, groups: bool = True) -> dict[str, Any]:
    """As `reinvest outcomes` keeps it."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(size) % classes
    wrong = torch.rand(runs, size, generator=generator) < 0.5 * torch.rand(size, generator=generator)
    shift = torch.randint(1, classes, (runs, size), generator=generator)
    names = ("<b>cat", "dog", *(f"class {k}" for k in range(2, classes)))
    votes = Votes(
        torch.arange(1000, 1000 + size),
        labels,
        (labels + shift * wrong) % classes,
        tuple(f"{k:x}" * 16 for k in range(1, runs + 1)),
        classes,
        names,
    )
    found = outcomes_of(
        votes,
        groups={k: "<i>dark" if k % 3 else "light" for k in range(1000, 1000 + size)} if groups else None,
        task="pets",
        model="net",
        seeds=range(runs),
        logged=[None] * runs,
        recipe={"task": {"name": "pets"}, "model": {"name": "net"}},
        repeat=Repeat(runs, runs, 0),
        left_out=(LeftOut("beef", 9, "diverged"),),
        notes=("too <few> runs",),
    )
    return {**found.to_dict(), "reproduce": {"command": "reinvest outcomes 1111 --same-recipe"}}


def positions_result(runs: int = 3) -> dict[str, Any]:
    """The same of label maps, 4 x 5 pixels each, an eighth of them without a label."""
    generator = torch.Generator().manual_seed(6)
    figures = PositionFigures(
        [f"{k:x}" * 16 for k in range(1, runs + 1)],
        3,
        class_names=("<b>sky", "road", "tree"),
        groups={k: f"{k % 2}" for k in range(30)},
    )
    for number in range(30):
        labels = torch.randint(3, (4, 5), generator=generator)
        wrong = torch.rand(runs, 4, 5, generator=generator) < 0.05 * (number % 5)
        said = (labels + wrong) % 3
        figures.add(number, labels.masked_fill(torch.rand(4, 5, generator=generator) < 0.125, -100), said)
    found = outcomes_of_positions(figures, task="streets", model="net", seeds=range(runs))
    return found.to_dict()
