"""Suspects for people: what has to be said with a list of them, and everything as plain values for a page."""

from __future__ import annotations

import base64
import math
from typing import Any

import torch
from torch import Tensor

from ._ranking import HIGH_LOSS, KINDS, LABEL_ERROR
from ._sightings import GIVEN, NOT_SEEN, OTHER, SUGGESTED
from .series import piecewise
from .suspects import Suspects

__all__ = ["plain", "statements"]

POINTS = 120
"""Most points of a drawn course of losses; longer ones are averaged in equal stretches of time."""
LEVELS = 254
GAP = 255
LETTERS = {NOT_SEEN: "-", GIVEN: "g", SUGGESTED: "s", OTHER: "o"}
REACH = 0.999
LEARNED = 0.1
"""Share of the way from guessing to certainty that a run goes, over all epochs, from which on its doubts mean something."""
TIED = "\N{NO-BREAK SPACE}"


def statements(suspects: Suspects) -> list[str]:
    """What a reader must know of a list, a sentence each without its end; the first about how much of it is wrong."""
    errors, blindly = len(suspects.of(LABEL_ERROR)), len(suspects.of(LABEL_ERROR)) / max(suspects.known, 1)
    found = [_rate(suspects, errors), *_unlearned(suspects)]
    if errors:
        found += [
            f"a list of {errors:,} is as long for faultless data, as ranking alone fills it; so many drawn blindly would hold "
            f"{_percent(blindly)} of all wrong labels",
            _marked(suspects),
        ]
    if suspects.assessment is not None:
        found.append(f"kinds are told apart by probes, of which half were kept for this check: {suspects.assessment}")
    if suspects.agreement is not None:
        runs = len(suspects.agreement)
        pairs = suspects.agreement[~torch.eye(runs, dtype=torch.bool)]
        found.append(
            f"evidence is the average of {runs} runs, whose orders of doubt agree with a rank correlation of "
            f"{float(pairs.min()):.2f} to {float(pairs.max()):.2f}; the courses drawn are those of the first"
        )
    found.append(_doubles(suspects))
    found.append(
        "losses are those of the training pass itself: of the views that it drew, at the weights of that moment"
        if suspects.source == "training pass"
        else "losses are those of a clean pass after each epoch: plain views, in evaluation mode"
    )
    return found


def _rate(suspects: Suspects, errors: int) -> str:
    rate = suspects.precision
    if not suspects.labelled:
        return (
            "an example of these data has no single label, but one a pixel or token, say, and records keep the mean of its losses: "
            f"the {len(suspects.of(HIGH_LOSS)):,} listed with a high loss fit the others least, as their labels are wrong or as they "
            "are hard; look at the first of them"
        )
    if not errors:
        return "no example has a high loss for its label and one other class that the model kept saying"
    if rate is None:
        return (
            f"how many of the {errors:,} label errors listed are wrong is not known: no probes were trained along, and a "
            "ranking always has a top; look at the first hundred"
        )
    return (
        f"of the {errors:,} label errors listed at most about {_percent(rate.precision)} are wrong "
        f"({_percent(rate.low)} to {_percent(rate.high)}), {_percent(rate.found)} of all wrong ones, which would be "
        f"{_percent(rate.proportion)} of the examples; this comes from {rate.probes} probes, and is too much where hard "
        "examples have losses like those of their random labels"
    )


def _unlearned(suspects: Suspects) -> list[str]:
    """That the run learned next to nothing, if so: then everything looks suspect."""
    seen = suspects.quality[suspects.quality.isfinite()]
    named = max([int(column.max()) + 1 for column in (suspects.label, suspects.suggested) if len(column)], default=0)
    classes = max(named, len(suspects.class_names or ()))
    if not suspects.labelled or classes < 2 or not len(seen):
        return []
    mean, chance = float(seen.mean()), 1 / classes
    if mean - chance > LEARNED * (1 - chance):
        return []
    return [
        f"this run learned next to nothing: it gave the labels a probability of {mean:.2f} on average, where guessing among "
        f"{classes} gives {chance:.2f}; its list tells little of the labels, and a longer run's would tell more"
    ]


def _marked(suspects: Suspects) -> str:
    own, issues = suspects.of(LABEL_ERROR), suspects.issues()
    marked = int(issues[own].sum())
    conflicts = int(issues.sum()) - marked
    if not bool(suspects.probability[suspects.kinds == list(KINDS).index(LABEL_ERROR)].isfinite().any()):
        line = (
            f"files of issues and changed labels hold the {marked:,} listed, as that line was drawn by hand"
            if suspects.cut
            else "files of issues and changed labels hold none until a line is drawn by a number (most)"
        )
        return (
            "no probability is given, as losses do not fall into two groups, which is no sign that all labels are right; "
            + line
        )
    how = "probes" if suspects.assessment is not None else "the two groups into which losses fall"
    more = f", and {conflicts:,} label conflicts" if conflicts else ""
    return f"{marked:,} of them are wrong with a probability of 1/2 or more by {how}: these{more} are marked in files of issues"


def _doubles(suspects: Suspects) -> str:
    by_label, by_content = suspects.hashed
    leaks = (
        f"; training examples that are there outside the training split too: {suspects.leaks:,}"
        if suspects.leaks
        else ""
    )
    if by_content:
        return (
            "equal inputs are found, with equal labels and with different ones; nearly equal ones (another crop, "
            f"another compression) are not{leaks}"
        )
    if by_label:
        return (
            "doubles are found by hashes of label and content together, so equal inputs with equal labels only, in all splits; "
            f"with different labels, or nearly equal, they are not{leaks}"
        )
    return "doubles are not looked for: the records keep no hashes of the data, and the data were not opened"


def _percent(share: float) -> str:
    digits = ".2g" if 0 < share < 0.01 else ".0f"
    return f"{100 * share:{digits}}{TIED}%"


def plain(suspects: Suspects) -> dict[str, Any]:
    """Everything that a page shows, as values that JSON holds; what is not known is None.

    "losses": base64 of one byte a point, S x "points" of them: 0 ... 254 for log(1 + loss) from "bottom" to "top", 255
    where not seen; "bands" on the same scale, which begins at 0 unless all of it would lie in the upper half. "answers": a letter an epoch: g the given label, s the suggestion, o another, - not
    seen.
    """
    courses = _shortened(suspects.losses)
    bands = [[_shortened(row.unsqueeze(0))[0] for row in (b.low, b.middle, b.high)] for b in suspects.bands]
    scale = _scale(courses, bands)
    levels = [[_levels(row, scale).tolist() for row in band] for band in bands]
    listed = {kind: len(suspects.of(kind)) for kind in suspects.found}
    return {
        "kind": "suspects",
        "known": suspects.known,
        "listed": len(suspects),
        "epochs": suspects.epochs,
        "source": suspects.source,
        "class_names": None if suspects.class_names is None else list(suspects.class_names),
        "kinds": {
            kind: {"found": count, "listed": listed[kind], "about": KINDS[kind]}
            for kind, count in suspects.found.items()
        },
        "statements": statements(suspects),
        "precision": None if suspects.precision is None else dict(vars(suspects.precision)),
        "agreement": None if suspects.agreement is None else suspects.agreement.tolist(),
        "points": courses.shape[1],
        "bottom": scale[0],
        "top": scale[1],
        "labelled": suspects.labelled,
        "bands": [
            {"name": band.name, **dict(zip(("low", "middle", "high"), _nulls(rows), strict=True))}
            for band, rows in zip(suspects.bands, levels, strict=True)
        ],
        "suspects": _columns(suspects, list(suspects.found)),
        "losses": base64.b64encode(bytes(_levels(courses, scale).flatten().tolist())).decode("ascii"),
        "answers": None if suspects.answers is None else _letters(suspects.answers),
    }


def _columns(suspects: Suspects, kinds: list[str]) -> dict[str, list[Any]]:
    learned = [None if math.isinf(v) or math.isnan(v) else int(v) for v in suspects.learned.tolist()]
    forgotten = [None if math.isinf(v) or math.isnan(v) else round(v, 1) for v in suspects.forgotten.tolist()]
    names = list(KINDS)
    return {
        "id": suspects.ids.tolist(),
        "kind": [kinds.index(names[kind]) for kind in suspects.kinds.tolist()],
        "score": _known(suspects.score, 5),
        "label": suspects.label.tolist(),
        "suggested": suspects.suggested.tolist(),
        "share": _known(suspects.share, 3),
        "learned": learned,
        "forgotten": forgotten,
        "mean_loss": [float(f"{v:.4g}") for v in suspects.mean_loss.tolist()],
        "percentile": _known(suspects.percentile, 4),
        "probability": _known(suspects.probability, 3),
        "twins": [list(twins) for twins in suspects.twins],
    }


def _known(values: Tensor, digits: int) -> list[float | None]:
    return [None if math.isnan(v) else round(v, digits) for v in values.tolist()]


def _shortened(losses: Tensor) -> Tensor:
    """log(1 + loss), [S, E] or its means over [S, POINTS] stretches; NaN where half of a stretch or more is a gap."""
    logs = losses.clamp(min=0).log1p()
    logs = logs.masked_fill(~logs.isfinite(), math.nan)
    if logs.shape[1] <= POINTS or not len(logs):
        return logs
    gaps = piecewise(logs.isnan().float(), POINTS)
    means = piecewise(logs.nan_to_num(0.0), POINTS) / (1 - gaps)
    return means.masked_fill(gaps >= 0.5, math.nan)


def _scale(courses: Tensor, bands: list[list[Tensor]]) -> tuple[float, float]:
    """Ends of the scale: nearly every loss fits, and every band."""
    finite = courses[courses.isfinite()].sort().values
    high = [float(finite[int(REACH * (len(finite) - 1))])] if len(finite) else []
    high += [float(band[2].nan_to_num(0.0).max()) for band in bands]
    top = max([*high, 1e-3])
    low = [
        float(rows[rows.isfinite()].min()) for rows in (finite, *(band[0] for band in bands)) if rows.isfinite().any()
    ]
    bottom = min(low, default=0.0)
    return (bottom if top / 2 < bottom < top else 0.0), top


def _levels(logs: Tensor, scale: tuple[float, float]) -> Tensor:
    return ((logs - scale[0]) / (scale[1] - scale[0]) * LEVELS).round().clamp(0, LEVELS).nan_to_num(GAP).to(torch.uint8)


def _nulls(rows: list[list[int]]) -> list[list[int | None]]:
    return [[None if level == GAP else level for level in row] for row in rows]


def _letters(answers: Tensor) -> list[str]:
    table = bytes.maketrans(bytes(LETTERS), "".join(LETTERS.values()).encode())
    return [bytes(row).translate(table).decode("ascii") for row in answers.tolist()]
