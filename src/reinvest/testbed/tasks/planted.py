"""Task "planted": another task with wrong labels, spoiled pictures and probes planted in its training split.

Who wants to know whether wrong labels are found, or what they cost, needs data in which they are known. Everything is
drawn from `planted_seed` and the example's id; validation and test splits stay as they are.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...core import names
from ...core.errors import DataError, InvalidValue, unknown
from ...core.probes import KINDS, SPOILED, USUAL, Probes, choose_probes, other_labels, ranked, spoiled
from . import content
from .corrections import check_ids, mark, read_ids, read_labels
from .sources import Labelled, Source, TensorSource, check_labels
from .task import Task

NOISES = ("symmetric", "class dependent")
PROBES = {"kinds": USUAL, "count": 250, "scores": None}
"""What `probes` may say, and what it says where it is silent."""


@dataclass(frozen=True, eq=False)
class Planted:
    """The truth about a planted task; what it is trained with is `labels`.

    clean_labels int64 [N]: as published. labels int64 [N]: after planting, probes and correction. relabelled, corrupted
    bool [N]: examples whose label was changed, or whose picture was spoiled, by the shares asked for; probes among them,
    whose own kind comes on top. probes: those that were asked for, drawn as a user would, who does not know the truth.
    """

    clean_labels: Tensor
    labels: Tensor
    relabelled: Tensor
    corrupted: Tensor
    probes: Probes | None


def planted(
    *,
    base: Any = None,
    label_noise: float = 0.0,
    noise: str = "symmetric",
    pairs: Sequence[int] | None = None,
    corrupted: float = 0.0,
    noise_std: float = 0.1,
    probes: Mapping[str, Any] | None = None,
    planted_seed: int = 0,
    correction: str | None = None,
    drop: str | None = None,
) -> Task:
    """Another task with one label an example, with changes in its training split that are known: `task.planted`.

    base: that task, a name or {"name": ..., argument: value, ...}; with nothing planted every batch is as it gives it.
    label_noise: share of the training examples, from 0 (none) to below 1, that get another label. noise: "symmetric"
    (uniform over the other classes) or "class dependent" (class c becomes pairs[c]). pairs: a class for each class, by
    default the next one, and of the last the first; a class that is its own pair is spared.
    corrupted: share of the training examples, others than those, whose picture gets normal noise before scaling and
    augmentation, the same at every sighting. noise_std: its standard deviation, above 0, in units of 0..1 for bytes, to
    which the result is clipped (the pixels of `digits` end at 16 / 255: there 0.006 is a tenth of their range).
    probes: {"kinds": [...], "count": n, "scores": [...]}: n reference and n validation probes of each kind out of
    `core.probes.KINDS`, drawn from the training split with what is planted in it; scores (one an id) are for "typical"
    and "atypical".
    correction: a CSV or .npy file of ids and labels, which training examples get in place of those after planting.
    drop: such a file of ids that are left out of the training split; shares are of the split with them.

    Each id has a number of its own, and of the training split those with the lowest are changed, as many as the share
    rounds to. So a portion of the base changes the same ids in the same way, but for some near the end of the share.
    Name and fingerprint say what was planted, so that records of one do not serve another; `drop` changes the latter.
    Raises InvalidValue for values outside these ranges or a base that cannot be changed so, UnknownName for another
    noise or kind, DataError for files of another form.
    """
    settings = Settings(label_noise, noise, pairs, corrupted, noise_std, probes, planted_seed)
    task = _base(base)
    source, labels = _labelled(task)
    truth = settings.plant(labels, task.splits["train"], task.classes)
    changed = _spoiled(source, _spoils(truth), settings, task.name)
    marks: dict[str, str] = {}
    if correction is not None:
        truth, marks["correction"] = _corrected(truth, correction, task), mark(correction)
    train = task.splits["train"]
    if drop is not None:
        train, marks["drop"] = _left(truth, drop, task), mark(drop)
    return _wrapped(task, changed, train, truth, settings.told(), marks)


planted.reads = ("correction", "drop")  # type: ignore[attr-defined]  # for caches: the content of these files decides
planted.wraps = "base"  # type: ignore[attr-defined]  # for identities: this argument names another factory


@dataclass(frozen=True)
class Settings:
    """What is planted, as the arguments of `planted` say it; checked as far as that can be done without the task."""

    label_noise: float
    noise: str
    pairs: Sequence[int] | None
    corrupted: float
    noise_std: float
    probes: Mapping[str, Any] | None
    seed: int

    def __post_init__(self) -> None:
        for name in ("label_noise", "corrupted"):
            _check_share(name, getattr(self, name))
        if self.noise not in NOISES:
            raise unknown("kind of label noise", self.noise, NOISES)
        if self.pairs is not None and self.noise != "class dependent":
            raise InvalidValue(
                f"pairs belong to class dependent noise, got {self.noise} noise with pairs; leave them out"
            )
        if not _number(self.noise_std) or not 0 < self.noise_std < math.inf:
            raise InvalidValue(
                f"noise_std is a standard deviation above 0, got {self.noise_std!r}; 0.1 is usual, corrupted=0 spoils none"
            )
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise InvalidValue(f"planted_seed is a whole number, got {self.seed!r}; pass an int")
        if self.probes is not None:
            if not isinstance(self.probes, Mapping):
                raise InvalidValue(
                    f"probes are {{'kinds': [...], 'count': n}}, got {self.probes!r}; pass such a mapping"
                )
            for name in self.probes:
                if name not in PROBES:
                    raise unknown("setting of probes", name, PROBES)
            kinds = self.probes.get("kinds", ())
            if not isinstance(kinds, list | tuple) or not all(isinstance(kind, str) for kind in kinds):
                raise InvalidValue(
                    f"kinds of probes are a list of names, got {kinds!r}; choose from {', '.join(KINDS)}"
                )

    def told(self) -> dict[str, Any]:
        """All that decides what is planted, as plain values; empty if nothing is."""
        told: dict[str, Any] = {}
        if self.label_noise:
            told["labels"] = [self.label_noise, self.noise, None if self.pairs is None else list(self.pairs)]
        if self.corrupted:
            told["corrupted"] = [self.corrupted, float(self.noise_std)]
        if self.probes is not None:
            wanted = {**PROBES, **self.probes}
            told["probes"] = [list(wanted["kinds"]), wanted["count"], wanted["scores"]]
            told["probe_noise"] = float(self.noise_std) if "noise" in wanted["kinds"] else None
        return {**told, "seed": self.seed} if told else {}

    def plant(self, labels: Tensor, train: Tensor, classes: int) -> Planted:
        """Plant among the ids `train` [n] of examples with `labels` int64 [N]. Raises InvalidValue for too few of them."""
        given, able, partners = labels.clone(), train, None
        if self.noise == "class dependent" and self.label_noise:
            partners = _partners(self.pairs, classes)
            able = train[partners[labels[train]] != labels[train]]
        wrong = self._share_of("label_noise", len(train), able)
        if partners is not None:
            given[wrong] = partners[labels[wrong]]
        elif len(wrong):
            given[wrong] = other_labels(wrong, labels[wrong], classes, self.seed, "planted label")
        right = train[~torch.isin(train, wrong)]
        noisy = self._share_of("corrupted", len(train), right)
        probes = None
        if self.probes is not None:
            wanted = {**PROBES, **self.probes}
            probes = choose_probes(
                given,
                wanted["kinds"],
                wanted["count"],
                classes=classes,
                scores=_scores(wanted["scores"], len(labels)),
                among=train,
                seed=self.seed,
            )
            given[probes.ids] = probes.labels
        return Planted(labels, given, _mask(wrong, len(labels)), _mask(noisy, len(labels)), probes)

    def _share_of(self, name: str, total: int, able: Tensor) -> Tensor:
        """The ids out of `able` that have the lowest numbers, as many as the share of `total` rounds to."""
        share = getattr(self, name)
        count = round(share * total)
        if share and not 0 < count <= len(able):
            raise InvalidValue(
                f"{name} is a share of the {total} training examples that makes 1 to {len(able)} of them (those that can "
                f"be chosen), got {share!r}, which makes {count}; choose another share, or 0"
            )
        return ranked(able, self.seed, f"planted {name}")[:count]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_share(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise InvalidValue(
            f"{name} is a share of the training examples from 0 to below 1, got {value!r}; 0.2 is a fifth, 0 is none"
        )


def _partners(pairs: Sequence[int] | None, classes: int) -> Tensor:
    """The class that each class becomes: int64 [classes]."""
    if pairs is None:
        return torch.arange(1, classes + 1) % classes
    whole = isinstance(pairs, list | tuple) and all(isinstance(c, int) and not isinstance(c, bool) for c in pairs)
    if not whole or len(pairs) != classes or not all(0 <= c < classes for c in pairs):
        raise InvalidValue(
            f"pairs are one class for each of {classes}, from 0 to {classes - 1}, got {pairs!r}; "
            "a class that is its own pair keeps its labels"
        )
    return torch.tensor(pairs)


def _scores(scores: Any, rows: int) -> Tensor | None:
    if scores is None:
        return None
    listed = isinstance(scores, list | tuple) and all(s is None or _number(s) for s in scores)
    if not listed or len(scores) != rows:
        got = f"{len(scores)} values" if isinstance(scores, list | tuple) else type(scores).__name__
        raise InvalidValue(
            f"scores are a list of one number for each of the {rows} ids (None where there is none), got {got}; "
            "pass those of an earlier run on this task"
        )
    return torch.tensor([math.nan if s is None else float(s) for s in scores])


def _mask(ids: Tensor, rows: int) -> Tensor:
    found = torch.zeros(rows, dtype=torch.bool)
    found[ids] = True
    return found


# ---- the task around it ----------------------------------------------------------------------------------------------


def _base(base: Any) -> Task:
    spec = {"name": base} if isinstance(base, str) else base
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise InvalidValue(
            f"planted is made from another task, got base {base!r}; name it, for example base: {{name: cifar10, size: 16}}"
        )
    made, given = names.resolve("task", spec["name"]), {k: v for k, v in spec.items() if k != "name"}
    known = inspect.signature(made).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        for name in given:
            if name not in known:
                raise unknown(f"argument of task {spec['name']!r}", name, known)
    task = made(**given)
    if not isinstance(task, Task):
        raise InvalidValue(
            f"planted changes tasks made by ri.Task.from_tensors or ri.Task.from_datasets, got {type(task).__name__} from "
            f"{spec['name']!r}; build it with one of these"
        )
    if task.planted is not None:
        raise InvalidValue(
            f"planted is made from a task as it is published, got another planted one, {task.name!r}; put all into one"
        )
    return task


def _labelled(task: Task) -> tuple[Source, Tensor]:
    """The task's source and its labels, int64 [N]. Raises InvalidValue unless an example has one."""
    source = task._source
    if isinstance(source, Labelled):
        labels = source.labels()
        if labels.ndim == 1:
            check_labels(labels[task.splits["train"]], task.classes)
            return source, labels
    _, _, y = next(iter(task.clean(1, task.splits["train"][:1])))
    raise InvalidValue(
        f"planted changes the one label that an example of a classification task has, got {task.name!r} with targets of "
        f"shape {list(y.shape[1:])} an example; take another base"
    )


def _spoils(truth: Planted) -> list[tuple[str, Tensor]]:
    """(kind of `SPOILED`, ids) of the inputs that are changed."""
    corrupted, found = truth.corrupted.clone(), []
    if truth.probes is not None:
        found = [(kind, truth.probes.of(kind)) for kind in truth.probes.names if kind in SPOILED]
        for _, ids in found:
            corrupted[ids] = False  # spoiled as probes, once
    found.append(("noise", corrupted.nonzero()[:, 0]))
    return [(kind, ids) for kind, ids in found if len(ids)]


def _spoiled(source: Source, spoils: list[tuple[str, Tensor]], settings: Settings, name: str) -> Source:
    """The source with those inputs changed."""
    if not spoils:
        return source
    if not isinstance(source, TensorSource) or len(source.input_shape) != 3:
        raise InvalidValue(
            f"inputs are spoiled in tasks of pictures in memory [C, H, W], got {name!r} with inputs "
            f"{list(source.input_shape)}{'' if source.in_memory else ' read one by one'}; plant wrong labels alone, or "
            "make the task with ri.Task.from_tensors"
        )
    pieces = []
    for kind, ids in spoils:
        for part in torch.split(ids, 256):
            raw = source.stored(part)
            unit = raw.double() / 255 if raw.dtype == torch.uint8 else raw.double()
            if float(unit.min()) < 0 or float(unit.max()) > 1:
                raise InvalidValue(
                    f"pictures of floats are spoiled in units of 0..1, got {float(unit.min()):.3g}..{float(unit.max()):.3g} "
                    f"in {name!r}; leave scaling to Task.from_tensors(mean=..., std=...)"
                )
            new = spoiled(unit, kind, part, noise=settings.noise_std, seed=settings.seed)
            pieces.append((new * 255).round().to(torch.uint8) if raw.dtype == torch.uint8 else new.to(raw.dtype))
    return source.replaced(torch.cat([ids for _, ids in spoils]), torch.cat(pieces))


def _corrected(truth: Planted, path: str, task: Task) -> Planted:
    """The truth with the labels of a file."""
    ids, labels = read_labels(path)
    if len(ids):
        check_labels(labels, task.classes)
    here = _training(truth, "correction", ids, task)
    given = truth.labels.clone()
    given[ids[here]] = labels[here]
    return replace(truth, labels=given)


def _left(truth: Planted, path: str, task: Task) -> Tensor:
    """The training ids that are not in a file, in their order."""
    ids = read_ids(path, len(truth.labels))
    _training(truth, "drop", ids, task)
    train = task.splits["train"]
    left = train[~torch.isin(train, ids)]
    if not len(left):
        raise DataError(f"a training split keeps at least one example, got all {len(train)} in drop; drop fewer")
    return left


def _training(truth: Planted, what: str, ids: Tensor, task: Task) -> Tensor:
    """Which of the ids [n] are in the training split, bool [n]; those in no split belong to other portions."""
    check_ids(what, ids, len(truth.labels), torch.cat([task.splits["validation"], task.splits["test"]]))
    touched = torch.isin(ids, truth.probes.ids).sum() if truth.probes is not None else 0
    if int(touched):
        raise DataError(
            f"{what} leaves probes as they are, got {int(touched)} of their ids; leave out probes, which were for looking"
        )
    return torch.isin(ids, task.splits["train"])


def _wrapped(
    task: Task, source: Source, train: Tensor, truth: Planted, told: dict[str, Any], marks: dict[str, str]
) -> Task:
    """A copy of the task with the truth in it; the same name, fingerprint and rows if nothing was planted."""
    made = copy.copy(task)
    made.planted, made._view = truth, None
    if not told and not marks:
        return made
    assert isinstance(source, Labelled)  # as `_labelled` found it
    made._source, made.splits = source.relabelled(truth.labels), {**task.splits, "train": train}
    text = json.dumps([told, marks.get("correction")], sort_keys=True)
    if told or "correction" in marks:
        made.name = f"{task.name}-planted-{_digest(text.encode())[:8]}"
    word = f"{task.fingerprint} {text} {marks.get('drop')} {_digest(truth.labels.numpy().astype('<i8').tobytes())}"
    made.fingerprint = content.fingerprint(len(truth.labels), task.classes, word, made.splits)
    if task._hashes is not None:
        spoils = [ids for _, ids in _spoils(truth)]
        changed = torch.cat([(truth.labels != truth.clean_labels).nonzero()[:, 0], *spoils])
        made._hashes = task._hashes.clone()
        if len(changed):
            made._hashes[changed] = made._source.hashes(changed)
    return made


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
