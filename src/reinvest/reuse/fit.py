"""Whether an earlier run may teach this one: same examples, same classes, same inputs, and no sight of the test set."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import CorruptFile, DataError, InvalidValue, StoreError
from ..core.method import Context
from ..core.view import TEST, TRAIN, VALIDATION, TaskView

TAUGHT = ("records", "views", "clean pass", "forward", "distillation")
"""Ways of re-use that make a run a student."""


class ReuseWarning(UserWarning):
    """A re-use that is allowed and known to work badly, or that could not be checked."""


@dataclass(frozen=True)
class Source:
    """What is known of the data behind a teacher; empty where nothing is. `name` is what messages call it."""

    name: str
    namespace: str = ""
    fingerprint: str = ""
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    preprocessing: str = ""
    hashes: Tensor | None = None
    roles: Tensor | None = None
    foreign: bool = False
    """Whether it is a model from outside, of whose training nothing can be known here."""


def source_of(run: Any) -> Source:
    """What a run tells of its data: its description, and its records where there are any."""
    known = run.training.get("data") or {}
    class_names = known.get("class_names")
    hashes = roles = None
    try:
        records = run.records()
        hashes, roles = records.hashes, records.roles
    except CorruptFile:
        raise
    except StoreError:
        pass  # recorded without
    return Source(
        f"run {run.id!r}",
        known.get("namespace") or "",
        known.get("fingerprint") or "",
        known.get("classes"),
        None if class_names is None else tuple(class_names),
        known.get("preprocessing") or "",
        hashes,
        roles,
    )


def class_map(source: Source, view: TaskView, classes: int | None) -> list[int] | None:
    """Where each of the teacher's classes stands among the student's; None if they are the same.

    classes: the width of the student's output, where it is known. Raises InvalidValue for another label space or order.
    """
    theirs, ours = source.class_names, view.class_names
    remedy = "take a teacher that was trained on these classes"
    if theirs is None or ours is None:
        mine = view.classes or classes
        if source.classes is not None and mine is not None and source.classes != mine:
            raise InvalidValue(
                f"teacher and student share their classes, got {source.classes} of {source.name} for {mine} here, without "
                f"class names to match them by; {remedy}"
            )
        return None
    if tuple(theirs) == tuple(ours):
        return None
    unknown = [name for name in theirs if name not in ours]
    if unknown:
        raise InvalidValue(
            f"a teacher's classes are among the student's, got {_some(unknown)} of {source.name}, which this task does "
            f"not have; {remedy}"
        )
    if set(theirs) == set(ours):
        raise InvalidValue(
            f"teacher and student number their classes alike, got another order of the same {len(ours)} names from "
            f"{source.name}; keep the order of class_names"
        )
    return [ours.index(name) for name in theirs]


def check_data(source: Source, view: TaskView, *, by_id: bool) -> None:
    """Refuse a teacher whose data do not fit; by_id: its answers are looked up by example id.

    Raises InvalidValue for another data set, other preprocessing, or a teacher that trained on this task's test
    examples; DataError where shared ids stand for different examples. Warns where the latter two cannot be checked.
    """
    same = not source.namespace or not view.namespace or source.namespace == view.namespace
    if by_id and not same:
        raise InvalidValue(
            f"records belong to the ids of one data set, got those of {source.namespace!r} ({source.name}) for "
            f"{view.namespace!r}; take a run on the same data, or source='forward'"
        )
    if source.preprocessing and view.preprocessing and source.preprocessing != view.preprocessing:
        raise InvalidValue(
            f"teacher and student see the same inputs, got preprocessing {source.preprocessing!r} of {source.name} for "
            f"{view.preprocessing!r}; train the teacher on the same inputs"
        )
    hashes = view.hashes() if view.hashes is not None else None
    if source.hashes is not None and hashes is not None and (same or by_id):
        _check_hashes(source, hashes)
    check_leak(source, view, hashes)


def check_ancestors(run: Any, view: TaskView) -> None:
    """Refuse a run whose own teachers and origins, however far back, trained on this task's test examples."""
    # Scores may come from anything that has records.
    seen, waiting = {run.id}, list(getattr(run, "parents", ()))
    hashes = view.hashes() if waiting and view.hashes is not None else None
    while waiting:
        known = waiting.pop()
        folder = run.path.parent / known
        if known in seen or not folder.exists():
            continue
        seen.add(known)
        ancestor = type(run)(folder)
        check_leak(source_of(ancestor), view, hashes)
        waiting.extend(ancestor.parents)


def _check_hashes(source: Source, hashes: Tensor) -> None:
    assert source.hashes is not None
    differ = _changed(source.hashes, hashes)
    if bool(differ.any()):
        raise DataError(
            f"an id stands for one example, got {int(differ.sum())} ids whose content or label differs between "
            f"{source.name} and this data set, the first {int(differ.nonzero()[0])}; do not re-order or relabel rows, "
            "append new ones"
        )


def _changed(theirs: Tensor, ours: Tensor) -> Tensor:
    """Which of the shared ids have another hash, bool [n]."""
    shared = min(len(ours), len(theirs))
    # 0 stands for a row that was not hashed (data sets beyond a million rows are sampled).
    return (theirs[:shared] != ours[:shared]) & (theirs[:shared] != 0) & (ours[:shared] != 0)


def check_leak(source: Source, view: TaskView, hashes: Tensor | None) -> None:
    """Refuse a teacher whose training or validation examples are among the student's test examples.

    By id where ids mean the same examples, else by content; warns where neither can be done.
    """
    if source.fingerprint and source.fingerprint == view.fingerprint:
        return
    if view.roles is None:
        return
    test = view.roles() == TEST
    if source.roles is None:
        if source.namespace and not source.foreign:
            warnings.warn(
                f"{source.name} kept no list of its training examples, so it cannot be checked whether it saw this "
                "task's test set; train teachers with records=True",
                ReuseWarning,
                stacklevel=2,
            )
        return
    seen = (source.roles == TRAIN) | (source.roles == VALIDATION)
    same = source.namespace == view.namespace
    if source.hashes is not None and hashes is not None:
        # Whoever lists training, then validation, then test rows gives all of them new ids when one is added.
        if not same or bool(_changed(source.hashes, hashes).any()):
            wanted = hashes[test]
            leaked = int((torch.isin(wanted, source.hashes[seen]) & (wanted != 0)).sum())
        else:
            leaked = _in_both(seen, test)
    elif same:
        leaked = _in_both(seen, test)
    else:
        warnings.warn(
            f"examples of two data sets are told apart by their content, got {source.namespace!r} of {source.name} and "
            f"{view.namespace!r} without hashes of both, so it cannot be checked whether it saw this task's test set; "
            "give both data sets hashes",
            ReuseWarning,
            stacklevel=2,
        )
        return
    if leaked:
        raise InvalidValue(
            f"a teacher has not seen the student's test examples, got {leaked} of them among the training or validation "
            f"examples of {source.name}; take a run with the same test split"
        )


def _in_both(seen: Tensor, test: Tensor) -> int:
    shared = min(len(seen), len(test))
    return int((seen[:shared] & test[:shared]).sum())


def warn_about_weight(source: Source, run: Any, context: Context) -> None:
    """Warn of a constant weight where it is known to hold students back (records card, sections 4 and 5)."""
    epochs = run.training.get("epochs") if run is not None else None
    own = context.total_steps / context.steps_per_epoch
    if epochs is not None and own > epochs / 4:
        warnings.warn(
            f"a constant weight helps students of at most a quarter of the teacher's length, got {own:g} epochs for "
            f"{epochs} of {source.name}: near the teacher's length it ends below plain training; leave weight at 0.9, "
            "which is annealed to 0",
            ReuseWarning,
            stacklevel=2,
        )
    if run is not None and any(r["how"] in TAUGHT for r in run.reuse):
        warnings.warn(
            f"a constant weight under a teacher that was distilled itself gets worse from run to run, got {source.name}; "
            "leave weight at 0.9, which is annealed to 0",
            ReuseWarning,
            stacklevel=2,
        )


def _some(values: Sequence[object], most: int = 5) -> str:
    shown = ", ".join(map(repr, values[:most]))
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"


def check_weights(run: Any, context: Context) -> None:
    """Refuse to begin with the weights of a run that trained on this task's test examples, or that has not finished.

    Its inputs and classes may be others: what does not fit shows in the shapes of the weights.
    """
    if run.status != "finished":
        raise InvalidValue(
            f"a run begins with the weights of a finished one, got run {run.id!r} ({run.status}); take another one"
        )
    view = context.task
    check_leak(source_of(run), view, view.hashes() if view.hashes is not None else None)
    check_ancestors(run, view)
    warn_about_probes(run)


def warn_about_probes(run: Any) -> None:
    """Warn of weights that learned planted labels and spoiled inputs, in the run or in those that its weights come from.

    Such a model is for looking at the data.
    """
    seen, waiting = {run.id}, [run]
    while waiting:
        one = waiting.pop()
        if (one.training.get("data") or {}).get("probes"):
            through = "" if one is run else f", whose weights come from run {one.id!r},"
            warnings.warn(
                f"a model that was trained with planted probes is for looking at the data, got run {run.id!r}{through} to "
                "begin with; take one that was trained without",
                ReuseWarning,
                stacklevel=2,
            )
            return
        for known in (r["run"] for r in one.reuse if r["how"] not in (*TAUGHT, "data")):
            if known not in seen and (one.path.parent / known).exists():
                seen.add(known)
                waiting.append(type(one)(one.path.parent / known))


catalog = {"weights": check_weights}
"""What is re-used -> the check that the method makes when training begins: (run, context) -> None."""
