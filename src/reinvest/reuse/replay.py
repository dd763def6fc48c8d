"""Teachers that speak of single views: what a run said of each example in each of its last epochs, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..core.batch import Batch
from ..core.errors import InvalidValue
from ..core.method import Context
from ..core.protocols import Teacher
from ..core.view import TaskView


def check_augmentation(run: Any, view: TaskView) -> None:
    """Refuse to replay the views of a run whose training views were made in another way than this loader's."""
    theirs = (run.training.get("data") or {}).get("augmentation") or ""
    if theirs != view.augmentation:
        raise InvalidValue(
            f"replayed views are drawn as the teacher's were, got augmentation {theirs!r} of run {run.id!r} for "
            f"{view.augmentation!r}; train with the teacher's augmentation, or use source='records'"
        )


class EpochRows:
    """The rows of one kept epoch of a run's records, by example id."""

    def __init__(self, records: Any, k: int) -> None:
        self._records, self._k = records, k
        self.examples: int | None = records.examples
        self.classes: int | None = records.classes
        self.labels: Tensor | None = records.labels

    def known(self, ids: Tensor) -> Tensor:
        """Which have a row: bool [B]."""
        return self.rows(ids)[1]

    def rows(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(log-probabilities [B, C], known [B])."""
        found: tuple[Tensor, Tensor] = self._records.view_rows(self._k, ids)
        return found


class ViewTeacher:
    """Answers in the student's epoch e with the e-th of the `teachers` in turn, whose views `draws` recreate."""

    looks, centred, stride, how = False, True, 1, "views"

    def __init__(self, teachers: Sequence[Teacher], draws: Sequence[tuple[int, int]]) -> None:
        self._teachers = list(teachers)
        self.draws: Sequence[tuple[int, int]] = tuple(draws)
        self.run = teachers[0].run
        self.seconds = teachers[-1].seconds
        """All were opened one after the other, on one clock."""

    def __call__(self, batch: Batch, context: Context) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities [B, C] of the batch's examples as the teacher saw them in the replayed epoch."""
        return self._teachers[context.epoch % len(self._teachers)](batch, context)

    def close(self) -> None:
        """Let the tables go."""
        for teacher in self._teachers:
            teacher.close()
