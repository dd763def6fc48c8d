"""What kind of example is it? Classifiers over loss trajectories that learn from probes, and say how far they can be trusted.

A probe is an example whose kind is known because it was made so (a random label, added noise) or chosen so. Half of the
probes are the reference that a classifier learns from, the other half tells how often it is right: where that is no
better than guessing it abstains. Trajectories are losses float [N, E], an example a row, of one run: those of other runs
or schedules are not comparable. Siddiqui, Rajkumar, Maharaj, Krueger, Hooker, 2209.10015.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InvalidValue, unknown
from .neighbours import nearest

__all__ = ["Assessment", "Classifier", "assess", "fit"]

KINDS = ("linear", "knn", "dtw", "mean loss")
BLOCK = 1 << 16
"""Trajectories that are classified together: at 90 epochs 47 MB in double precision."""
LEAST = 5
"""Fewest probes of a kind, in the reference and in validation."""


@dataclass(frozen=True)
class Assessment:
    """How well validation probes were told apart.

    names: the K kinds. confusion: int64 [K, K], rows the true kind, columns the answer. recall: share of each kind that
    was recognised, with (low, high) of its exact 95 % interval. balanced: the mean recall, 1 / K by guessing, 1 at best.
    poor: kinds whose recall may be that of guessing; answers of these kinds are withheld.
    """

    names: tuple[str, ...]
    confusion: Tensor
    recall: tuple[float, ...]
    interval: tuple[tuple[float, float], ...]
    balanced: float
    poor: tuple[str, ...]

    def __str__(self) -> str:
        per_kind = ", ".join(
            f"{name} {share:.0%} ({low:.0%} to {high:.0%})"
            for name, share, (low, high) in zip(self.names, self.recall, self.interval, strict=True)
        )
        abstains = f"; abstains from {', '.join(self.poor)}" if self.poor else ""
        return f"balanced accuracy {self.balanced:.0%} on validation probes: {per_kind}{abstains}"


@dataclass(frozen=True)
class Classifier:
    """Learned from reference probes; `assessment` is None until `assess` was called with validation probes."""

    kind: str
    names: tuple[str, ...]
    epochs: int
    _answer: Any = field(repr=False)
    assessment: Assessment | None = None

    def probabilities(self, losses: Tensor) -> Tensor:
        """Probability of each kind, float32 [N, K]; NaN in the rows of examples that were not seen in every epoch.

        losses: float [N, E], read block by block. Raises InvalidValue for another number of epochs.
        """
        losses = _table(losses, self.epochs)
        found = torch.full((len(losses), len(self.names)), math.nan)
        for start in range(0, len(losses), BLOCK):
            block = losses[start : start + BLOCK]
            whole = block.isfinite().all(1)
            if bool(whole.any()):
                found[start : start + BLOCK][whole] = self._answer(block[whole].float()).float()
        return found

    def predict(self, losses: Tensor) -> Tensor:
        """The most probable kind's number, int64 [N]; -1 where it abstains: gaps, a tie, or a kind told apart poorly."""
        p = self.probabilities(losses)
        top = p.nan_to_num(-1.0).topk(min(2, len(self.names)), dim=1)
        found = top.indices[:, 0].clone()
        found[p.isnan().any(1) | (top.values[:, 0] == top.values[:, -1])] = -1
        for name in self.assessment.poor if self.assessment is not None else ():
            found[found == self.names.index(name)] = -1
        return found


def fit(
    losses: Tensor,
    kinds: Tensor,
    names: Sequence[str],
    *,
    kind: str = "linear",
    k: int = 20,
    band: int | None = None,
    among: int | None = None,
) -> Classifier:
    """A classifier from reference probes.

    losses: float [N, E] without gaps; kinds: int64 [N], numbers into `names`. kind: "linear" (logistic regression on
    log(1 + loss) of every epoch, which did best in our desk runs), "knn" (the paper's: k nearest by Euclidean distance,
    votes count alike, so probabilities come in steps of 1 / k), "dtw" (the same within a warping band) or "mean loss"
    (logistic regression on one number). k: neighbours, from 1 to N. band: epochs, from 0 (Euclidean) up; None is 5 % of
    them. among: of "dtw", see `neighbours.nearest`: five to ten times k, for very many examples. Reference probes of all kinds should be equally many: k-NN and the regression's prior follow their numbers.
    Raises InvalidValue for fewer than 2 kinds or 3 epochs, fewer than 5 probes of a kind, gaps, losses below 0, and
    values outside these ranges; UnknownName for another kind of classifier.
    """
    if kind not in KINDS:
        raise unknown("kind of trajectory classifier", kind, KINDS)
    named = _checked(losses, kinds, names)
    if kind in ("knn", "dtw"):
        width = math.ceil(0.05 * losses.shape[1]) if band is None else band
        answer = _votes(losses.float(), kinds, len(named), k, "euclidean" if kind == "knn" else "dtw", width, among)
    else:
        answer = _regression(losses.float(), kinds, len(named), mean=kind == "mean loss")
    return Classifier(kind, named, losses.shape[1], answer)


def assess(classifier: Classifier, losses: Tensor, kinds: Tensor) -> Classifier:
    """The classifier with its assessment on validation probes, which it must not have seen.

    A kind is poor if the exact 95 % interval of its recall reaches down to 1 / K, what guessing would find. Raises
    InvalidValue as `fit` does.
    """
    _checked(losses, kinds, classifier.names)
    plain = Classifier(classifier.kind, classifier.names, classifier.epochs, classifier._answer)
    answers, count = plain.predict(losses), len(plain.names)
    confusion = torch.zeros(count, count, dtype=torch.int64)
    given = answers >= 0
    confusion.index_put_(
        (kinds[given], answers[given]), torch.ones(int(given.sum()), dtype=torch.int64), accumulate=True
    )
    right = [int(v) for v in confusion.diagonal()]
    total = [int((kinds == i).sum()) for i in range(count)]
    recall = tuple(r / n for r, n in zip(right, total, strict=True))
    interval = tuple(_exact(r, n) for r, n in zip(right, total, strict=True))
    poor = tuple(name for name, (low, _) in zip(plain.names, interval, strict=True) if low <= 1 / count)
    balanced = sum(recall) / count
    found = Assessment(plain.names, confusion, recall, interval, balanced, poor)
    return Classifier(plain.kind, plain.names, plain.epochs, plain._answer, found)


# ---- the two families --------------------------------------------------------------------------------------------------


def _votes(references: Tensor, kinds: Tensor, count: int, k: int, metric: str, band: int, among: int | None) -> Any:
    # Refuses numbers that do not fit before any use.
    nearest(references[:1], references, k, metric, band=band, among=among)
    onehot = torch.nn.functional.one_hot(kinds, count).float()

    def answer(losses: Tensor) -> Tensor:
        return onehot[nearest(losses, references, k, metric, band=band, among=among).index].mean(1)

    return answer


def _regression(losses: Tensor, kinds: Tensor, count: int, mean: bool) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def features(table: Tensor) -> Any:
        logs = table.clamp(min=0).double().log1p()
        return (logs.mean(1, keepdim=True) if mean else logs).numpy()

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features(losses), kinds.numpy())

    def answer(table: Tensor) -> Tensor:
        found: Tensor = torch.from_numpy(model.predict_proba(features(table)))
        return found

    return answer


# ---- checks ------------------------------------------------------------------------------------------------------------


def _table(losses: Tensor, epochs: int | None = None) -> Tensor:
    if not isinstance(losses, Tensor) or losses.ndim != 2:
        got = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise InvalidValue(f"trajectories are a table [N, E], an example a row, got {got}; pass records.loss.T")
    if epochs is not None and losses.shape[1] != epochs:
        raise InvalidValue(
            f"trajectories have the {epochs} epochs that the classifier learned from, got {losses.shape[1]}; use probes "
            "and examples of the same run"
        )
    return losses


def _checked(losses: Tensor, kinds: Tensor, names: Sequence[str]) -> tuple[str, ...]:
    _table(losses)
    named = tuple(names)
    if len(named) < 2 or len(set(named)) < len(named):
        raise InvalidValue(
            f"at least two kinds with different names are told apart, got {list(named)}; add a kind of probe"
        )
    if losses.shape[1] < 3:
        raise InvalidValue(
            f"a trajectory has at least 3 epochs, got {losses.shape[1]}; train longer, or rank by the mean loss instead"
        )
    if (
        kinds.shape != losses.shape[:1]
        or kinds.dtype != torch.int64
        or not bool(((kinds >= 0) & (kinds < len(named))).all())
    ):
        raise InvalidValue(
            f"kinds are int64 [{len(losses)}] from 0 to {len(named) - 1}, got {kinds.dtype} {list(kinds.shape)}; pass one "
            "number a probe"
        )
    if not bool(losses.isfinite().all()) or bool((losses < 0).any()):
        bad = int((~losses.isfinite() | (losses < 0)).any(1).sum())
        raise InvalidValue(
            f"probes have a loss of 0 or more in every epoch, got {bad} of {len(losses)} with gaps or other values; leave "
            "those out"
        )
    few = {name: int((kinds == i).sum()) for i, name in enumerate(named) if int((kinds == i).sum()) < LEAST}
    if few:
        raise InvalidValue(f"each kind has at least {LEAST} probes, got {few}; make more of them")
    return named


def _exact(right: int, total: int) -> tuple[float, float]:
    """Exact 95 % interval of a share (Clopper and Pearson)."""
    from scipy.stats import binomtest

    found = binomtest(right, total).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)
