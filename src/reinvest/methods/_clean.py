"""The probability that an example's label is right: given, read from an earlier run, or found in the run's own losses."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core import names
from ..core.chain import NoEffectWarning
from ..core.errors import InvalidValue
from ..core.labels import check_noise, clean_mixture, levels_of
from ..core.method import Context, Method, plain_argument
from ..core.wrappers import ranks
from ._check import earlier_runs, number
from ._scores import look_up

MOST_BYTES = 1 << 32
"""Largest table of averaged answers."""
TABLES = ("total", "seen", "shown", "now", "labels")
UNSEEN = -1.0
"""Level of an example that was not seen in this epoch; a number, so that equal states compare as equal."""


class History:
    """What this run has seen of its examples, joined over all processes once an epoch.

    Tables have a row for each id and one more for ids of data that have grown since, which nobody reads. The first epoch
    leaves no level: its losses tell more of when an example was shown. decay: of averaged answers, from 0 (the latest).
    """

    def __init__(self, examples: int, device: torch.device, decay: float = 0.0) -> None:
        self.decay = decay
        self.total, self.seen, self.shown = (torch.zeros(examples + 1, device=device) for _ in range(3))
        self.now = torch.full_like(self.total, UNSEEN)
        self.labels = torch.full_like(self.total, -1, dtype=torch.int64)
        self.answers: Tensor | None = None

    def record(self, ids: Tensor, losses: Tensor, labels: Tensor | None, output: Tensor | None = None) -> None:
        """Losses [B] against labels [B] (None: no single ones), and perhaps logits [B, C], of examples `ids` [B].

        NaN is no sighting. The first sighting of an epoch counts, so that a batch that is evaluated twice is seen once.
        """
        rows = ids.to(self.now.device).clamp(max=len(self.now) - 1)
        before = self.now[rows]
        fresh = before == UNSEEN
        self.now[rows] = torch.where(fresh, levels_of(losses).nan_to_num(UNSEEN), before)
        if labels is not None:
            self.labels[rows] = labels.to(self.labels)
        if output is not None:
            said = output.detach().float().softmax(1)
            if self.answers is None:
                self._allocate(said.shape[1])
            assert self.answers is not None
            old = self.answers[rows]
            mixed = torch.where((self.shown[rows] > 0).unsqueeze(1), torch.lerp(said, old, self.decay), said)
            self.answers[rows] = torch.where((fresh & losses.isfinite()).unsqueeze(1), mixed, old)

    def _allocate(self, classes: int) -> None:
        count = len(self.now)
        if 4 * count * classes > MOST_BYTES:
            raise InvalidValue(
                f"averaged answers take at most {MOST_BYTES >> 30} GiB, got {count - 1:,} examples of {classes:,} classes; "
                "take the classes from an earlier run (run=...)"
            )
        self.answers = torch.zeros(count, classes, device=self.now.device)

    def close_epoch(self, first: bool) -> None:
        """What was seen since the last call becomes history; first: it was the first epoch."""
        good = self.now != UNSEEN
        level, count = torch.where(good, self.now, 0.0), good.float()
        if ranks()[1] > 1:
            if self.answers is not None:
                # A row is changed where its example was seen, by whichever process.
                mine = self.answers * count.unsqueeze(1)
                torch.distributed.all_reduce(mine)
            both = torch.stack([level, count])
            torch.distributed.all_reduce(both)
            level, count = both.unbind(0)
            torch.distributed.all_reduce(self.labels, torch.distributed.ReduceOp.MAX)
            if self.answers is not None:
                self.answers = torch.where(
                    (count > 0).unsqueeze(1), mine / count.clamp(min=1).unsqueeze(1), self.answers
                )
        known = (count > 0).float()
        self.shown += known
        if not first:
            self.total += level / count.clamp(min=1)
            self.seen += known
        self.now.fill_(UNSEEN)

    def p_clean(self, noise: float | None) -> Tensor:
        """Probability that each label is right, float32 [N], by the mean of log(1 + loss) after the first epoch."""
        levels, labels = (self.total / self.seen)[:-1].cpu(), self.labels[:-1].cpu()
        return clean_mixture(levels, noise, labels=labels)

    def said(self) -> Tensor:
        """The class with the highest averaged answer [N + 1], -1 where nothing was said."""
        if self.answers is None:
            return torch.full_like(self.shown, -1, dtype=torch.int64)
        found = self.answers.argmax(1).masked_fill(self.shown == 0, -1)
        found[-1] = -1
        return found

    def state_dict(self) -> dict[str, Any]:
        """The tables, copied."""
        answers = None if self.answers is None else self.answers.clone()
        return {name: getattr(self, name).clone() for name in TABLES} | {"answers": answers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on."""
        device = self.now.device
        for name in TABLES:
            setattr(self, name, state[name].to(device, copy=True))
        self.answers = None if state["answers"] is None else state["answers"].to(device, copy=True)


class Cleaned(Method):
    """Base of methods that go by the probability that an example's label is right."""

    needs_ids = True
    without_doubts: ClassVar[str] = "changes nothing"
    """What it comes to where no label is doubted, for a warning."""

    def _from(self, run: Any, p_clean: Sequence[float | None] | None, noise: float | None) -> None:
        """Keep where the probabilities come from; raises InvalidValue for two sources at once."""
        listed = earlier_runs(run)
        if run is not None and (p_clean is not None or not listed):
            raise InvalidValue(
                f"{self.name} takes probabilities from a run (its id, or a list of runs), from p_clean=[...] or from its own "
                f"losses, got run={run!r} and p_clean={'a list' if p_clean is not None else None}; pass at most one"
            )
        check_noise(noise)
        if noise is not None and p_clean is not None:
            raise InvalidValue(
                f"noise is how many labels are wrong where that is to be found out, got noise={noise!r} with p_clean=[...]; "
                "leave it out"
            )
        self.runs, self.noise = listed, noise
        self.given = None if p_clean is None else _probabilities(p_clean)
        self._seconds, self._epoch = 0.0, -1
        self._history: History | None = None
        self._p: Tensor | None = None
        self._said: Tensor | None = None
        self._doubts = False

    @property
    def own(self) -> bool:
        """Whether the probabilities come from this run's own losses."""
        return not self.runs and self.given is None

    def _open(self, context: Context, *, history: bool, decay: float = 0.0) -> None:
        """Read the probabilities, and begin a history if there is to be one; charged as one-off seconds."""
        begun = time.perf_counter()
        self._history = self._p = self._said = None
        self._epoch, self._doubts = -1, False
        size = context.task.examples or 0
        if self.runs:
            p, said = names.resolve("clean", "records")(self.runs, context, noise=self.noise)
            self._keep(p, said, size, context)
            if not self._doubts:
                warnings.warn(
                    f"what the earlier run saw shows no group of wrong labels, so {self.name} {self.without_doubts}; where the "
                    "share of wrong labels is known pass noise=0.2 (for a fifth), or plant probes in the earlier run",
                    NoEffectWarning,
                )
        elif self.given is not None:
            p = torch.tensor([math.nan if v is None else v for v in self.given])
            self._keep(p, None, size, context)
        elif not size:
            raise InvalidValue(
                f"{self.name} keeps the losses of every example, got a loader that does not tell how many there are; wrap "
                "the data set: DataLoader(ri.Indexed(dataset), ...)"
            )
        if history:
            self._history = History(max(size, 0 if self._p is None else len(self._p) - 1), context.device, decay)
        self._seconds = time.perf_counter() - begun

    def _keep(self, p: Tensor, said: Tensor | None, size: int, context: Context) -> None:
        """Look-up tables for ids 0 .. N; an example without a probability is trusted."""
        count = max(len(p), size) + 1
        table = torch.ones(count)
        table[: len(p)] = p.float().nan_to_num(1.0)
        if said is not None:
            classes = torch.full((count,), -1)
            classes[: len(said)] = said.cpu()
            self._said = classes.to(context.device)
        self._p = table.to(context.device)
        self._doubts = bool((table < 1.0).any())

    def _refresh(self, context: Context) -> bool:
        """At the first call of an epoch, make history of the one before; whether that is so."""
        if self._history is None or context.epoch == self._epoch:
            return False
        self._history.close_epoch(first=self._epoch <= 0)
        self._epoch = context.epoch
        if self.own:
            p = self._history.p_clean(self.noise)
            # What was found stays where a later look finds nothing: by then the corrected labels have changed the losses.
            if not self._doubts or bool((p < 1.0).any()):
                self._keep(p, None, 0, context)
        return True

    def probabilities(self, ids: Tensor, like: Tensor) -> Tensor:
        """p_clean of examples [B], float32 where `like` is: 1 for those that nothing is known of."""
        if self._p is None:
            return torch.ones(len(ids), device=like.device)
        return look_up(self._p, ids).to(like.device)

    def reuses(self) -> list[tuple[str, str]]:
        """The runs whose histories it uses, as "data"."""
        ids = dict.fromkeys(plain_argument(r) for r in self.runs)
        return [(i, "data") for i in ids if isinstance(i, str) and not i.startswith("<")]

    def findings(self) -> dict[str, Any]:
        """How many labels were doubted in the end (p_clean below one half), and the mean of 1 - p_clean."""
        if self._p is None:
            return {}
        p = self._p[:-1]
        return {"examples": len(p), "doubted": int((p < 0.5).sum()), "wrong_share": float((1.0 - p).mean())}

    def one_off(self) -> float:
        """Seconds for reading what an earlier run saw."""
        return self._seconds

    def _forget(self) -> None:
        self._history = self._p = self._said = None
        self._seconds, self._epoch, self._doubts = 0.0, -1, False

    def _state(self) -> dict[str, Any]:
        """What a resumed run needs beside the arguments."""
        if self._history is None:
            return {}
        return {
            "history": self._history.state_dict(),
            "history_epoch": self._epoch,
            "p_clean": self._p.cpu().clone() if self.own and self._p is not None else None,
        }

    def _load_state(self, state: dict[str, Any]) -> None:
        if self._history is None or "history" not in state:
            return
        self._history.load_state_dict(state["history"])
        self._epoch = state["history_epoch"]
        if state["p_clean"] is not None:
            self._p = state["p_clean"].to(self._history.now.device, copy=True)
            self._doubts = bool((self._p < 1.0).any())


def _probabilities(p_clean: Any) -> tuple[float | None, ...]:
    if not isinstance(p_clean, (list, tuple)) or not p_clean:
        got = type(p_clean).__name__ if p_clean != [] and p_clean != () else repr(p_clean)
        raise InvalidValue(
            f"p_clean is a list of probabilities, one an id (None: unknown), got {got}; write p_clean=tensor.tolist()"
        )
    rule = "p_clean are probabilities from 0 (surely wrong) to 1 (surely right), one an id (None: unknown)"
    return tuple(None if v is None else number(v, rule, "write None where it is unknown", 0, 1) for v in p_clean)
