"""Runs of one recipe: found in a store, checked to be comparable, and asked what they say of a split."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import DataError, InvalidValue, ReinvestError, unknown
from ..core.method import Context
from ..core.recipe import Recipe
from ..core.view import view_of
from ..loop.evaluate import BATCH
from ..loop.session import DTYPES, build_task, run_identity
from ..loop.train import device_named
from ..reuse.models import model_of
from ..store.forks import parts_of, without_trunk
from ..store.run import WEIGHTS
from .outcome_figures import Votes

ADVISED = 5
"""Runs from which on a spread says much: of fewer its interval is very wide."""
SPLITS = ("test", "validation")

Progress = Callable[[float, int, str], None]
"""Called with how many runs have been asked, of how many, and the one that is being asked."""


@dataclass(frozen=True)
class LeftOut:
    """A run of the recipe that has no say, and why."""

    run: str
    seed: int
    why: str


@dataclass(frozen=True)
class Repeat:
    """What asking every run twice showed: how many of the `runs` gave the same logits bit for bit, and how many answers,
    of all runs together, became another class."""

    runs: int
    same_bits: int
    changed: int

    def to_dict(self) -> dict[str, int]:
        """Plain values."""
        return asdict(self)


# ---- which runs ----------------------------------------------------------------------------------------------------


def runs_of_recipe(run: Any, store: Any) -> tuple[list[Any], list[LeftOut]]:
    """The finished runs of a run's recipe in a store, by seed, and those of it that did not finish.

    Of one recipe: the same canonical recipe, data and earlier runs that it builds on; only the seed differs. Raises
    InvalidValue for a run of an own loop.
    """
    wanted, data = decided(run), fingerprint_of(run)
    found, left = [], []
    for other in store.runs(task=run.task):
        try:
            if decided(other) != wanted or (data and fingerprint_of(other) not in ("", data)):
                continue
        except ReinvestError:
            continue  # an own loop, or a factory that is gone
        if other.status == "finished" and (other.path / WEIGHTS).exists():
            found.append(other)
        else:
            left.append(
                LeftOut(other.id, other.seed, other.status if other.status != "finished" else "kept no weights")
            )
    return sorted(found, key=lambda r: (r.seed, r.id)), left


def decided(run: Any) -> tuple[str, tuple[str, ...]]:
    """Everything decided before training but the seed: the recipe, and the earlier runs that it builds on."""
    return _canonical(json.dumps(_recipe_dict(run), sort_keys=True)), tuple(sorted(without_trunk(run)))


@functools.lru_cache(maxsize=1024)
def _canonical(text: str) -> str:
    return Recipe.from_dict(json.loads(text)).canonical()


def _recipe_dict(run: Any) -> dict[str, Any]:
    config: dict[str, Any] = run.config
    if not {"task", "model"} <= set(config):
        raise InvalidValue(
            f"a run's model is built again from its recipe, got run {run.id!r} of an own loop; let your own code predict, "
            "and pass the predictions to reinvest.studies.outcomes.outcomes_of"
        )
    return config


def fingerprint_of(run: Any) -> str:
    """Of the data that a run was trained on; "" where it is not known."""
    return str((run.training.get("data") or {}).get("fingerprint") or "")


def check_runs(runs: Sequence[Any], *, any_recipe: bool) -> list[str]:
    """Refuse runs whose votes could not be compared; what else is to be known about them, in sentences.

    Raises InvalidValue for fewer than 2 runs, one run twice, runs that did not finish or kept no weights, of own loops,
    of several recipes (unless any_recipe) or trained by different code, and DataError for different or changed data.
    """
    ids = [run.id for run in runs]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise InvalidValue(f"every run has one vote, got run {twice!r} twice; name it once")
    if len(runs) < 2:
        raise InvalidValue(
            f"outcomes are compared over 2 runs or more ({ADVISED} are advised), got {len(runs)}; train the recipe with more "
            "seeds, and add --same-recipe (same_recipe=True) to take all of it that the store has"
        )
    for run in runs:
        if run.status != "finished":
            raise InvalidValue(
                f"a run votes when it has finished, got run {run.id!r}, which is {run.status}; train it to its end or leave it out"
            )
        _recipe_dict(run)
        if not (run.path / WEIGHTS).exists():
            raise InvalidValue(
                f"a run votes with its weights, got run {run.id!r}, which kept none; train it with another seed, or leave it out"
            )
    if not any_recipe:
        one_recipe(runs, "leave it out, or add --any (any_recipe=True) to mix recipes")
    _one_data(runs)
    return [*([] if any_recipe else _one_code(runs)), *notes_on(runs)]


def one_recipe(runs: Sequence[Any], remedy: str) -> None:
    """Refuse runs of several recipes, or that build on different earlier runs, naming what differs. Raises InvalidValue."""
    first, *others = runs
    text, parents = decided(first)
    for other in others:
        other_text, other_parents = decided(other)
        mine, theirs = json.loads(text), json.loads(other_text)
        unlike = [name.replace("_", " ") for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
        if parents != other_parents and not unlike:
            unlike = ["set of earlier runs"]
        if unlike:
            raise InvalidValue(
                f"these runs are of one recipe, all but the seed, got run {other.id!r} with another {' and '.join(unlike)} "
                f"than run {first.id!r}; {remedy}"
            )


def _one_data(runs: Sequence[Any]) -> None:
    known = {run: fingerprint_of(run) for run in runs}
    first = next((run for run in runs if known[run]), None)
    for run in runs:
        if first is not None and known[run] and known[run] != known[first]:
            raise DataError(
                f"votes are about the same examples, got run {run.id!r} on other data or splits than run {first.id!r} "
                "(another fingerprint); leave it out"
            )
        now = build_task(Recipe.from_dict(run.config)).fingerprint
        if known[run] and known[run] != now:
            raise DataError(
                f"votes are about the data that the runs were trained on, got other data or splits under the name {run.task!r} "
                f"than run {run.id!r} had; restore them"
            )


def by_same_code(run: Any, runs: Sequence[Any]) -> tuple[list[Any], list[LeftOut]]:
    """Those of the runs of a recipe that were trained by the code that this one was, as far as it can be told, and the others."""
    wanted = _is_today(run)
    same = [_is_today(other) == wanted for other in runs]
    kept = [other for other, alike in zip(runs, same, strict=True) if alike]
    why = "trained by other code"
    return kept, [LeftOut(o.id, o.seed, why) for o, alike in zip(runs, same, strict=True) if not alike]


def one_a_seed(runs: Sequence[Any], first: Any = None) -> tuple[list[Any], list[LeftOut]]:
    """The runs of one recipe and code without those that are the same training twice, and these.

    A run that began in the middle of a longer one has, bit for bit, the weights of the whole run of its seed: it counts
    only where there is none. first: a run that stays in any case.
    """
    kept: dict[int, list[Any]] = {}
    left = []
    for run in sorted(runs, key=lambda run: (first is None or run.id != first.id, "branch" in run.facts)):
        mine = kept.setdefault(run.seed, [])
        twin = next((other for other in mine if "branch" in other.facts or "branch" in run.facts), None)
        if twin is None:
            mine.append(run)
        else:
            left.append(LeftOut(run.id, run.seed, f"the same training as run {twin.id}, one of them as a branch"))
    ids = {run.id for mine in kept.values() for run in mine}
    return [run for run in runs if run.id in ids], left


def _is_today(run: Any) -> bool:
    """Whether recipe, data and today's code still make the run's identity."""
    return run_identity(Recipe.from_dict(run.config), run.seed, parts_of(run)) == str(run.identity)


def _one_code(runs: Sequence[Any]) -> list[str]:
    same = [_is_today(run) for run in runs]
    if all(same):
        return []
    if any(same):
        changed, kept = runs[same.index(False)], runs[same.index(True)]
        raise InvalidValue(
            f"these runs are of one recipe and were trained by the same code, got run {changed.id!r} by other code than run "
            f"{kept.id!r}; leave it out, or add --any (any_recipe=True) to mix them"
        )
    return [
        "the code of a model, task or method has changed since these runs were trained, or they were given identities by hand"
    ]


def notes_on(runs: Sequence[Any]) -> list[str]:
    """What is to be known of runs of one recipe: that they are few, that seeds are shared."""
    notes = []
    if len(runs) < ADVISED:
        notes.append(f"{len(runs)} runs: {ADVISED} or more are advised, since of fewer the spread is hardly known")
    seeds = [run.seed for run in runs]
    shared = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if shared:
        which = ", ".join(map(str, shared))
        notes.append(
            f"several runs have the same seed ({which}): if their recipes are the same, only the machine makes them differ"
        )
    return notes


# ---- what they say -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Said:
    """One pass of a run over a split: ids, labels and classes int64 [N], how many classes, and a hash of all logits."""

    ids: Tensor
    labels: Tensor
    said: Tensor
    classes: int
    bits: str


def ask(
    runs: Sequence[Any],
    split: str,
    *,
    store: Any = None,
    device: str | None = None,
    batch_size: int | None = None,
    repeat: bool = False,
    progress: Progress | None = None,
) -> tuple[Votes, Repeat | None]:
    """What finished runs of recipes say of a split, and with `repeat` whether they say the same when asked again.

    Models are built again from their recipes, with the surgery of these, one at a time, in eval mode and the precision
    of the recipe. store: lends runs that methods build on. device: default the first GPU, else the CPU. Raises
    UnknownName for another split, InvalidValue for tasks without one label an example, logits that are not finite, and
    as `model_of` does.
    """
    if split not in SPLITS:
        raise unknown("split (training examples are seen in random views)", split, SPLITS)
    where = device_named(device, "runs vote")
    answers: list[_Said] = []
    same = changed = 0
    width = 0.5 if repeat else 1.0
    with contextlib.nullcontext() if store is None else store.lending():
        for place, run in enumerate(runs):
            say = functools.partial(tell, progress, len(runs), run, width)
            answers.append(_pass(run, split, where, batch_size, functools.partial(say, place)))
            if repeat:
                again = _pass(run, split, where, batch_size, functools.partial(say, place + width))
                same += again.bits == answers[-1].bits
                changed += int((again.said != answers[-1].said).sum())
            if not torch.equal(answers[0].ids, answers[-1].ids) or not torch.equal(
                answers[0].labels, answers[-1].labels
            ):
                raise DataError(
                    f"votes are about the same examples, got another {split} split or other labels for run {run.id!r} than for "
                    f"run {runs[0].id!r}; leave it out"
                )
    first = answers[0]
    names = (runs[0].training.get("data") or {}).get("class_names")
    votes = Votes(
        ids=first.ids,
        labels=first.labels,
        predictions=torch.stack([answer.said for answer in answers]),
        runs=tuple(run.id for run in runs),
        classes=max(answer.classes for answer in answers),
        class_names=None if names is None else tuple(names),
    )
    return votes, Repeat(len(runs), same, changed) if repeat else None


def tell(progress: Progress | None, total: int, run: Any, width: float, before: float, share: float) -> None:
    """Say that so many runs were asked `before`, and how much of this run's part `width` is done."""
    if progress is not None:
        progress(before + width * share, total, f"run {run.id}, seed {run.seed}")


def batch_of(task: Any, batch_size: int | None) -> int:
    """Examples that are predicted together: those asked for, the task's own number, or the usual one."""
    return int(getattr(task, "evaluation_batch", BATCH)) if batch_size is None else batch_size


def _pass(run: Any, split: str, device: torch.device, batch_size: int | None, tick: Callable[[float], None]) -> _Said:
    recipe = Recipe.from_dict(run.config)
    task = build_task(recipe)
    model = model_for(run, task, split, device)
    dtype, bits = DTYPES.get(recipe.precision), hashlib.sha256()
    ids, labels, said, classes = [], [], [], 0
    loader = task.loader(split, batch_of(task, batch_size))
    with torch.no_grad():
        for batch_ids, x, y in loader:
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                output = model(x.to(device))
            if y.ndim != 1 or y.is_floating_point() or output.ndim != 2:
                raise InvalidValue(
                    f"votes are on tasks with one label an example, got {task.name!r} with labels {list(y.shape)} and outputs "
                    f"{list(output.shape)}; take a classification task"
                )
            logits = output.float().cpu()
            if not bool(logits.isfinite().all()):
                raise InvalidValue(
                    f"a vote is the largest of finite logits, got others from run {run.id!r}; leave it out"
                )
            bits.update(logits.numpy().tobytes())
            ids.append(batch_ids.cpu())
            labels.append(y.cpu())
            said.append(logits.argmax(1))
            classes = logits.shape[1]
            tick(len(said) / len(loader))
    return _Said(torch.cat(ids), torch.cat(labels), torch.cat(said), classes, bits.hexdigest())


def model_for(run: Any, task: Any, split: str, device: torch.device) -> nn.Module:
    """The run's model, with the task's own split telling the shape of its inputs."""
    view = replace(view_of(task.loader(split, 1)), classes=task.classes, clean=functools.partial(task.loader, split))
    holder = nn.Module()  # only says where the model shall live, and draws nothing
    holder.register_parameter("place", nn.Parameter(torch.zeros(1, device=device)))
    optimizer = torch.optim.SGD(holder.parameters(), lr=0.0)
    return model_of(run, Context(holder, optimizer, view, 0, 1, 1, 0, run.seed, (0, 1)))
