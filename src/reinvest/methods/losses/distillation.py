"""Distillation: the student also learns what an earlier run thought of each example.

The teacher is chosen in `reuse/teachers`; here it is a loss. Reading an earlier run's records costs a table look-up
where a teacher's forward pass costs a third of a step.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core import names
from ...core.batch import Batch
from ...core.duration import Duration
from ...core.errors import InvalidValue, unknown
from ...core.method import Card, Context, Method, plain_argument
from ...core.protocols import Teacher
from ...core.streams import stream
from .._check import number, switch, whole
from ._answers import Answer, all_know, as_student, average, mean_over_positions, student_in_layout, thinned

SOURCES = ("auto", "records", "views", "clean pass", "forward")
LOSSES = ("kl", "mse")
POOLS = ("random", "average")
TEMPERATURE = "temperature is a finite number above 0"
WEIGHT = "weight is a share from 0 (the labels alone) to 1 (the teacher alone), or two of them (start and end)"


def distillation_losses(
    output: Tensor, teacher: Tensor, *, temperature: float = 1.0, loss: str = "kl", centred: bool = False
) -> Tensor:
    """How far the student's logits are from the teacher's: [B, ...] for logits [B, C, ...] of both.

    "kl": T^2 x KL(softmax(teacher / T) || softmax(output / T)), so that gradients keep their size for any temperature
    T > 0 (Hinton, Vinyals, Dean 2015, arXiv 1503.02531). "mse": the squared difference of the logits, mean over
    classes. centred: the teacher gives log-probabilities, so it knows its logits up to a constant, and "mse" takes the mean
    over the classes out of both first. The gradient reaches the student only.
    """
    temperature = number(temperature, TEMPERATURE, "1.0 is usual", 0, math.inf, above=True, below=True)
    teacher = teacher.detach().to(output.dtype)
    if teacher.shape != output.shape:
        raise InvalidValue(
            f"teacher and student give logits of one shape, got {list(teacher.shape)} and {list(output.shape)}; "
            "take a teacher with the same classes and positions"
        )
    if loss == "mse":
        difference = output - teacher
        if centred:
            difference = difference - difference.mean(1, keepdim=True)
        return difference.square().mean(1)
    if loss != "kl":
        raise unknown("distillation loss", loss, LOSSES)
    if temperature == 1.0:  # the default, with as few small operations as it can be
        target = teacher if centred else F.log_softmax(teacher, 1)
        return F.kl_div(F.log_softmax(output, 1), target, reduction="none", log_target=True).sum(1)
    target = F.log_softmax(teacher / temperature, 1)
    student = F.log_softmax(output / temperature, 1)
    return F.kl_div(student, target, reduction="none", log_target=True).sum(1) * temperature**2


class Distill(Method):
    """Blends each example's loss with its distance from a teacher: (1 - a) x loss + a x distillation.

    teacher: a run (or its id), "package.module:factory" of a model, a model or callable, a finished `clean_pass`, or a
    list of them. source: "records" (what the run left behind of each example), "clean pass" (one evaluation pass over
    the training set when training begins, kept), "forward" (the teacher sees every batch), or "auto": records where
    there are any, else one clean pass for a run and forward for a model. "views" (of one run that was recorded with
    records={"views": K}): the loader shows in epoch e the very views that the teacher saw in its (e mod K)-th kept epoch,
    until the teacher is left alone, in the student's own order, and each is compared with what the teacher said of that
    view. What other methods do to the views after the loader (Cutout, Mixup, ProgressiveResizing) is not replayed: the
    row is the teacher's of its view with its own changes.
    weight: a at the beginning; one number goes linearly to 0 at `until`, two numbers go from the first to the second,
    equal ones are constant. until: share of the run in (0, 1] or a Duration, after which the teacher is left alone.
    every, probability: only every k-th step ("10ep": all steps of every tenth epoch, the first included), only with this
    probability (in (0, 1]); reweigh multiplies what is left so that its expectation stays that of every step. temperature: T > 0, larger is softer. loss: "kl" or "mse" of
    logits. pool: of several teachers one at "random" each step, or the "average" of their logits.

    An example that the teacher's records do not know keeps its plain loss. Blended examples (Mixup) are compared with
    the teacher's answers blended likewise, or with its answer to the blend if it looks; label smoothing changes the
    label's part alone. Raises InvalidValue for values outside these ranges; what does not fit together is refused when
    training begins.
    """

    card = Card(
        title="Distillation from earlier runs",
        paper="Liu, Leonardi, Yu, Gilmer-Hill, Leavitt, Frankle: Knowledge Distillation for Efficient Sequences of "
        "Training Runs; records in place of teacher passes are this project's own",
        year=2023,
        arxiv="2303.06480",
        phase="losses",
        cost="records: about 1 % of a step; forward: a third of a step for a teacher of the student's size",
        breaks="a constant weight holds a student back that trains as long as its teacher, and a chain of such runs "
        "gets worse from run to run; warm starts are better where the weights fit",
        domains=("vision", "language", "tabular"),
        references=("2211.00683", "1503.02531", "2106.05237"),
    )
    revision = 2
    neutral: ClassVar = {"teacher": "0000000000000000", "weight": 0.0}

    def __init__(
        self,
        teacher: Any,
        *,
        source: str = "auto",
        weight: float | Sequence[float] = 0.9,
        until: float | str = 1.0,
        every: int | str = 1,
        probability: float = 1.0,
        reweigh: bool = False,
        temperature: float = 1.0,
        loss: str = "kl",
        pool: str = "random",
    ) -> None:
        self.references = _references(teacher)
        for what, value, known in (
            ("source", source, SOURCES),
            ("distillation loss", loss, LOSSES),
            ("pool", pool, POOLS),
        ):
            if value not in known:
                raise unknown(what, value, known)
        if source == "views" and len(self.references) > 1:
            raise InvalidValue(
                f"replayed views are those of one run, got {len(self.references)} teachers; pass one, or use "
                "source='records'"
            )
        self.source, self.loss, self.pool = source, loss, pool
        pair = list(weight) if isinstance(weight, (list, tuple)) else [weight, 0.0]
        if len(pair) != 2:
            raise InvalidValue(f"{WEIGHT}, got {weight!r}; 0.9 is usual")
        try:
            self.weight, self.last_weight = (number(w, WEIGHT, "0.9 is usual", 0, 1) for w in pair)
        except InvalidValue:
            raise InvalidValue(f"{WEIGHT}, got {weight!r}; 0.9 is usual") from None
        self.until = _until(until)
        scaled = not self.until.unit if isinstance(self.until, Duration) else self.until < 1.0
        self.horizon = self.weight != self.last_weight or scaled
        self.every, self.whole_epochs = _every(every)
        self.probability = number(
            probability, "probability is above 0, up to 1 (each step)", "1.0 is usual", 0, 1, above=True
        )
        self.reweigh = switch(reweigh, "reweigh")
        self.temperature = number(temperature, TEMPERATURE, "1.0 is usual", 0, math.inf, above=True, below=True)
        self._teachers: list[Teacher] = []
        self._seconds = 0.0

    # ---- when, and how much ------------------------------------------------------------------------------------

    def _last(self, context: Context) -> float:
        """The step, perhaps between two steps, from which on the teacher is left alone."""
        if isinstance(self.until, Duration):
            return float(self.until.steps(context.steps_per_epoch, context.total_steps))
        return self.until * context.total_steps

    def share(self, context: Context) -> float:
        """The weight a at this point of the run, on duty or not: 0 once the teacher is left alone."""
        last = self._last(context)
        if context.step >= last - 1e-9:
            return 0.0
        return self.weight + (self.last_weight - self.weight) * context.step / last

    def on_duty(self, context: Context) -> bool:
        """Whether the next step asks the teacher."""
        turn = context.step // context.steps_per_epoch if self.whole_epochs else context.step
        if turn % self.every or context.step >= self._last(context) - 1e-9:
            return False
        if self.probability == 1.0:
            return True
        return stream(context.seed, "Distill.duty", 0, context.step).number() < self.probability

    def kind(self, context: Context) -> Hashable:
        """ "teacher" for steps that cost a teacher's forward pass, "plain" for others; None where none does."""
        if not any(t.looks for t in self._teachers):
            return None
        return "teacher" if self.on_duty(context) and self.share(context) else "plain"

    # ---- phases ------------------------------------------------------------------------------------------------

    def start(self, context: Context) -> None:
        """Open the teachers; each one refuses what it does not fit."""
        if self.weight == self.last_weight == 0.0:
            return
        if self._last(context) > context.total_steps:
            raise InvalidValue(
                f"until lies within the run, got {str(self.until)!r} for a run of {context.total_steps} steps; "
                "write a share such as 0.5"
            )
        open_teacher = names.resolve("teacher", self.source)
        constant = self.last_weight >= self.weight and self._last(context) >= context.total_steps
        self._teachers = []
        try:
            for reference in self.references:
                self._teachers.append(open_teacher(reference, context, constant=constant))
        except BaseException:
            self.finish(context)
            raise
        self._seconds = math.fsum(t.seconds for t in self._teachers)
        if len({t.stride for t in self._teachers}) > 1:
            strides = sorted({t.stride for t in self._teachers})
            self.finish(context)
            raise InvalidValue(
                f"teachers of one pool know the same pixels, got strides {strides}; take runs that were recorded alike"
            )

    def views(self, context: Context, epoch: int) -> tuple[int, int] | None:
        """The draws behind the teacher's views, epoch by epoch in turn, until it is left alone."""
        if self.source != "views" or not self._teachers or epoch * context.steps_per_epoch >= self._last(context):
            return None
        draws = self._teachers[0].draws
        return draws[epoch % len(draws)]

    def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        """The blended losses [B]."""
        share = self.share(context) if self._teachers else 0.0
        if share == 0.0:
            return losses
        if not self.on_duty(context):
            return self._unasked(losses, batch, context, share) if self.reweigh else losses
        student = student_in_layout(output, batch.targets)
        stride = self._teachers[0].stride
        turned = student is not output
        student = thinned(student, stride)
        answer = self._ask(student, batch, context, turned)
        taught = distillation_losses(
            student, answer.logits, temperature=self.temperature, loss=self.loss, centred=answer.centred
        ).to(losses.dtype)
        known = answer.known
        if taught.ndim > 1:
            taught, known = mean_over_positions(taught, known, batch.targets, stride)
        blended = torch.lerp(losses, taught, share)
        if self.reweigh:
            blended = (1.0 - share) * losses + (share * self.every / self.probability) * taught
        return blended if known is None else torch.where(known.to(losses.device), blended, losses)

    def _ask(self, student: Tensor, batch: Batch, context: Context, turned: bool) -> Answer:
        """The answer of the teacher whose turn it is, or the average of all, shaped as the student's logits."""
        with torch.no_grad():
            answers = []
            for teacher in self._turns(context):
                logits, known = teacher(batch, context)
                fitted = as_student(logits, student, batch.targets, looks=teacher.looks, turned=turned)
                answers.append(Answer(fitted, known, teacher.centred))
            return answers[0] if len(answers) == 1 else average(answers)

    def _turns(self, context: Context) -> list[Teacher]:
        """The teachers that answer at this step."""
        return [self._teachers[self.turn(context)]] if self.pool == "random" else self._teachers

    def turn(self, context: Context) -> int:
        """Which teacher answers at this step."""
        if len(self.references) == 1:
            return 0
        return int(stream(context.seed, "Distill.teacher", 0, context.step).integers(len(self.references), 1))

    def _unasked(self, losses: Tensor, batch: Batch, context: Context, share: float) -> Tensor:
        """The label's part alone, so that rare distillation keeps the expectation of distilling at every step."""
        if any(t.looks for t in self._teachers):
            return (1.0 - share) * losses
        known = all_know([teacher(batch, context)[1] for teacher in self._turns(context)])
        if known is not None and known.ndim > 1:
            known = known.flatten(1).any(1)
        lighter = (1.0 - share) * losses
        return lighter if known is None else torch.where(known.to(losses.device), lighter, losses)

    def finish(self, context: Context) -> None:
        """Close the teachers."""
        for teacher in self._teachers:
            teacher.close()
        self._teachers, self._seconds = [], 0.0

    # ---- lineage -----------------------------------------------------------------------------------------------

    def reuses(self) -> list[tuple[str, str]]:
        """The teachers that are runs, and how they are used: as opened, before that as asked for."""
        if self._teachers:
            return [(t.run, t.how) for t in self._teachers if t.run]
        how = "distillation" if self.source == "auto" else self.source
        ids = [plain_argument(r) for r in self.references]
        return [(i, how) for i in ids if isinstance(i, str) and ":" not in i and not i.startswith("<")]

    def factories(self) -> list[str]:
        """Teachers given as "package.module:factory", whose code is part of a recipe's identity."""
        return [r for r in self.references if isinstance(r, str) and ":" in r]

    def one_off(self) -> float:
        """Seconds for opening the teachers: reading records, a clean pass, building a model."""
        return self._seconds


def _references(teacher: Any) -> list[Any]:
    listed = list(teacher) if isinstance(teacher, (list, tuple)) else [teacher]
    if not listed or any(t is None or t == "" for t in listed):
        raise InvalidValue(
            f"a teacher is a run (or its id), a model, or a non-empty list of them, got {teacher!r}; "
            "pass for example store.best(task=..., metric=...)"
        )
    for one in listed:
        if not isinstance(one, str) and not callable(one) and not hasattr(one, "records") and not hasattr(one, "table"):
            raise InvalidValue(f"a teacher is a run (or its id), a model or a callable, got {one!r}; pass one of those")
    return listed


def _every(every: int | str) -> tuple[int, bool]:
    """(k, whether whole epochs are meant)."""
    rule, remedy = 'every is a whole number of steps from 1 (each step) up, or of epochs such as "10ep"', "1 is usual"
    if not isinstance(every, str):
        return whole(every, rule, remedy, 1), False
    try:
        length = Duration.parse(every)
    except InvalidValue:
        raise InvalidValue(f"{rule}, got {every!r}; {remedy}") from None
    if length.unit not in ("ep", "st") or length.amount < 1 or length.amount != int(length.amount):
        raise InvalidValue(f"{rule}, got {every!r}; {remedy}")
    return int(length.amount), length.unit == "ep"


def _until(until: float | str) -> float | Duration:
    """A share of the run as a number, anything with a unit as a Duration."""
    rule, remedy = "until is a share of the run above 0, up to 1 (its end), or a Duration", "0.2 and '2ep' are examples"
    if not isinstance(until, (str, Duration)):
        return number(until, rule, remedy, 0, 1, above=True)
    length = Duration.parse(until)
    if length.unit == "min" or not length.amount:
        raise InvalidValue(f"{rule}, got {until!r}; {remedy}")
    return length if length.unit else length.amount
