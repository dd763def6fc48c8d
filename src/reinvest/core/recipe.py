"""Everything decided before training, as names and plain values, with a canonical text and an identity."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from . import names
from .duration import Duration
from .errors import InvalidValue, unknown

PRECISIONS = ("fp32", "bf16", "fp16")
OPTIMIZER = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
SCHEDULE = {"name": "cosine", "warmup": 0.05}
SOURCES = ("init", "order", "augment", "methods", "dropout")
"""What a run's seed decides: initial weights, the order of the examples, the task's random views of them, all draws of
methods, and what modules (dropout) draw from torch's own generator."""


@dataclass(frozen=True)
class Recipe:
    """task, model, duration, batch size, optimizer, schedule, precision and methods of a run.

    task, model, schedule: a built-in name, "package.module:factory", or {"name": ..., argument: value, ...}.
    optimizer: {"name": any optimizer of torch.optim, "lr": ...}. methods: instances, names, or {"name": ..., ...}.
    precision: "fp32", or "bf16" / "fp16" autocast. seeds: {source: seed} for some of `SOURCES` that shall not go by the
    run's seed, so that runs can differ in the others alone. Only plain values (text, numbers, booleans, None, lists and dicts
    of them) are taken; objects and lambdas are refused, because another process could not build them again.

    Raises InvalidValue for a value that breaks a rule and UnknownName for an unknown name.
    """

    task: Any
    model: Any
    duration: str = "10ep"
    batch_size: int = 128
    optimizer: Any = field(default_factory=lambda: dict(OPTIMIZER))
    schedule: Any = field(default_factory=lambda: dict(SCHEDULE))
    precision: str = "fp32"
    methods: Any = ()
    seeds: Any = field(default_factory=dict)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "task", _spec("task", self.task))
        put(self, "model", _spec("model", self.model))
        put(self, "schedule", _spec("schedule", self.schedule))
        put(self, "optimizer", _optimizer(self.optimizer))
        duration = Duration.parse(self.duration)
        if not duration.unit or not duration.amount:
            raise InvalidValue(
                f"a run lasts epochs, steps or minutes, got {self.duration!r}; write '10ep', '3900st' or '30min'"
            )
        put(self, "duration", str(duration))
        listed = self.methods if isinstance(self.methods, (list, tuple)) else [self.methods]
        put(self, "methods", tuple(_method(m) for m in listed))
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if not isinstance(self.batch_size, int) or isinstance(self.batch_size, bool) or self.batch_size < 1:
            raise InvalidValue(f"a batch size is a whole number from 1 up, got {self.batch_size!r}; write e.g. 128")
        put(self, "seeds", _seeds(self.seeds))

    def seed_of(self, source: str, seed: int) -> int:
        """The seed of one of `SOURCES` in a run of `seed`: the recipe's own for it, else the run's."""
        return int(self.seeds.get(source, seed))

    def with_(self, *methods: Any, **changes: Any) -> Recipe:
        """A copy with these methods added and these fields replaced; unknown fields are refused with the known ones."""
        known = {f.name for f in fields(self)}
        for name in changes:
            if name not in known:
                raise unknown("recipe field", name, known)
        current = {f.name: getattr(self, f.name) for f in fields(self)}
        current.update(changes)
        current["methods"] = (*current["methods"], *methods)
        return Recipe(**current)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """From the plain values of a YAML file or of `to_dict`; unknown fields are refused with the known ones."""
        known = {f.name for f in fields(cls)}
        for name in values:
            if name not in known:
                raise unknown("recipe field", name, known)
        for name in ("task", "model"):
            if name not in values:
                raise InvalidValue(
                    f"a recipe names its {name}, got only {', '.join(values) or 'nothing'}; add '{name}: ...'"
                )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values (what a YAML file holds); seeds only if there are any."""
        kept = [f.name for f in fields(self) if f.name != "seeds" or self.seeds]
        return {name: json.loads(json.dumps(getattr(self, name))) for name in kept}

    def canonical(self) -> str:
        """One line of JSON with sorted keys; fields and arguments that equal their defaults are left out."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("task", "model", "schedule"):
            values[name] = _without_defaults(names.resolve(name, values[name]["name"]), values[name])
        values["methods"] = [_without_defaults(names.resolve("method", m["name"]), m) for m in values["methods"]]
        plain: dict[str, Any] = {
            "batch_size": 128,
            "optimizer": OPTIMIZER,
            "schedule": SCHEDULE,
            "precision": "fp32",
            "methods": [],
            "seeds": {},
        }
        kept = {k: v for k, v in values.items() if k not in plain or v != plain[k]}
        return json.dumps(_same_numbers(kept), sort_keys=True, separators=(",", ":"))

    def build_methods(self) -> list[Any]:
        """Fresh instances of the recipe's methods."""
        return [names.resolve("method", m["name"])(**_arguments(m)) for m in self.methods]

    def resolved(self, find: Callable[[str], str]) -> Recipe:
        """A copy whose methods name runs by their full ids, find(reference), so that one run has one text.

        A reference is replaced wherever it stands among the arguments of a method that builds on it, in lists too.
        """
        changed = []
        for spec, method in zip(self.methods, self.build_methods(), strict=True):
            full = {run: find(run) for run, _ in method.reuses()}
            changed.append({"name": spec["name"], **_replaced(_arguments(spec), full)})
        return self if changed == list(self.methods) else self.with_(methods=changed)

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids of the earlier runs that its methods build on, in order and each once."""
        return tuple(dict.fromkeys(run for m in self.build_methods() for run, _ in m.reuses()))

    def __hash__(self) -> int:
        return hash(self.canonical())

    def __repr__(self) -> str:
        return f"Recipe({self.canonical()})"


def branch_of(identity: str) -> str:
    """What the identity of a run that begins in the middle of the run of that identity says beside its recipe and seed."""
    return f"branch of {identity}"


def identity(
    recipe: Recipe,
    seed: int,
    *,
    fingerprint: str,
    layout: Sequence[tuple[str, Sequence[int], str]],
    parents: Sequence[str] = (),
) -> str:
    """32 hex digits that name a run: canonical recipe, seed, data, model layout, code of user factories, revisions.

    fingerprint: the task's; layout: (name, shape, dtype) of each entry of the built model's state; parents: run ids.
    Two runs of one identity are the same run; code version, libraries and hardware are facts beside it.
    """
    parts = {
        "recipe": recipe.canonical(),
        "seed": seed,
        "data": fingerprint,
        "model": [[name, list(shape), dtype] for name, shape, dtype in layout],
        "parents": sorted(parents),
        "code": _code(recipe),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _code(recipe: Recipe) -> dict[str, Any]:
    """What the canonical text cannot say: the revision of every built-in, the source of every user factory."""
    found: dict[str, Any] = {}
    for kind, spec in [
        *(("task", spec) for spec in task_specs(recipe.task)),
        ("model", recipe.model),
        ("schedule", recipe.schedule),
        *(("method", m) for m in recipe.methods),
    ]:
        made = names.resolve(kind, spec["name"])
        if ":" in spec["name"]:
            found[spec["name"]] = source_hash(made)
        else:
            found[f"{kind} {spec['name']}"] = getattr(made, "revision", 1)
    for reference in {r for m in recipe.build_methods() for r in m.factories()}:
        found[reference] = source_hash(names.load(reference))
    return found


def task_specs(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A task's spec, and those of the tasks it is made of: a factory's `wraps` names the argument that holds one."""
    yield spec
    inner = spec.get(getattr(names.resolve("task", spec["name"]), "wraps", ""))
    if isinstance(inner, str):
        inner = {"name": inner}
    if isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
        yield from task_specs(inner)


def source_hash(made: Any) -> str:
    """16 hex digits over the file that defines a factory, so that editing it makes another run."""
    try:
        file = inspect.getsourcefile(made)
    except TypeError:  # built-in, or an object that is no function or class
        file = None
    if file is None:
        raise InvalidValue(f"a factory is defined in a Python file, got {made!r}; put it into a module of its own")
    now = names.file_hash(file)
    module = inspect.getmodule(made)
    if module is not None and getattr(module, "__file__", None) == file and names.remember_source(module) != now:
        raise InvalidValue(
            f"a run's identity covers the code that runs, got {file!r}, which has changed since it was imported; "
            "start a new process"
        )
    return now


def _arguments(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in spec.items() if k != "name"}


def _replaced(value: Any, texts: Mapping[str, str]) -> Any:
    """The value with these texts exchanged, in lists and mappings too."""
    if isinstance(value, Mapping):
        return {k: _replaced(v, texts) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(v, texts) for v in value]
    return texts.get(value, value) if isinstance(value, str) else value


def _same_numbers(value: Any) -> Any:
    """1.0 and 1 are one value, so they must be one text."""
    if isinstance(value, Mapping):
        return {k: _same_numbers(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_same_numbers(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _without_defaults(made: Any, spec: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(made).parameters

    def is_default(name: str, value: Any) -> bool:
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        return bool(value == (list(default) if isinstance(default, tuple) else default))

    return {k: v for k, v in spec.items() if k == "name" or not is_default(k, v)}


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, float) and value != value:
        raise InvalidValue(f"a recipe equals itself, which NaN does not, got {value!r} in {where}; write a number")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v, where) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, where) for v in value]
    raise InvalidValue(
        f"a recipe holds names and plain values, got {value!r} in {where}; "
        "put the object's construction into a file and write 'package.module:factory'"
    )


def _spec(kind: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or "name" not in value:
        raise InvalidValue(
            f"a {kind} is a name, 'package.module:factory' or {{'name': ..., argument: value}}, got {value!r}; "
            "put its construction into a file and write 'package.module:factory'"
        )
    spec = {"name": str(value["name"]), **_plain(_arguments(value), kind)}
    made = names.resolve(kind, spec["name"])
    spec["name"] = names.canonical(kind, spec["name"])
    _check_arguments(kind, spec, made)
    return spec


def _check_arguments(kind: str, spec: Mapping[str, Any], made: Any) -> None:
    parameters = inspect.signature(made).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in _arguments(spec):
        if name not in parameters:
            raise unknown(f"argument of {kind} {spec['name']!r}", name, parameters)


def _method(value: Any) -> dict[str, Any]:
    if isinstance(value, type):
        raise InvalidValue(
            f"a recipe takes methods as instances or names, got the class {value.__name__}; write {value.__name__}(...)"
        )
    if hasattr(value, "spec") and hasattr(value, "card"):
        value = value.spec()
    if isinstance(value, Mapping) and "name" not in value and len(value) == 1:
        # The YAML form "- LabelSmoothing: {alpha: 0.1}".
        ((name, arguments),) = value.items()
        value = {"name": name, **(arguments or {})}
    spec = _spec("method", value)
    for argument, given in _arguments(spec).items():
        for kind in _objects(given):
            raise InvalidValue(
                f"a recipe holds names and plain values, got an object for {argument} of {spec['name']} ({kind}); "
                "give the id of a stored run, or use your own loop with ri.Methods(...)"
            )
    made = names.resolve("method", spec["name"])
    _refuse_missing(spec, made)
    made(**_arguments(spec))
    return spec


def _objects(value: Any) -> Iterator[str]:
    """The types of the objects in an argument, which `Method.spec` writes as "<Type>", in lists and mappings too."""
    if isinstance(value, str) and value.startswith("<") and value.endswith(">"):
        yield value[1:-1]
    elif isinstance(value, (list, tuple, Mapping)):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _objects(one)


def _refuse_missing(spec: Mapping[str, Any], made: Any) -> None:
    own, takers = inspect.Parameter, inspect.signature(made).parameters.values()
    needed = [p.name for p in takers if p.default is own.empty and p.kind not in (own.VAR_POSITIONAL, own.VAR_KEYWORD)]
    missing = [name for name in needed if name not in spec]
    if missing:
        example = {**spec, **dict.fromkeys(missing, ...)}
        shown = ", ".join(f"{k!r}: {'...' if v is ... else repr(v)}" for k, v in example.items())
        raise InvalidValue(
            f"{spec['name']} needs the argument{'s' * (len(missing) > 1)} {' and '.join(missing)}, got "
            f"{', '.join(_arguments(spec)) or 'none'}; write {{{shown}}}, or --methods {spec['name']}.{missing[0]}=..."
        )


def _seeds(value: Any) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise InvalidValue(f"seeds are a mapping from a source to its seed, got {value!r}; write {{'init': 3}}")
    for source, seed in value.items():
        if source not in SOURCES:
            raise unknown("source of randomness", source, SOURCES)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise InvalidValue(f"seeds are whole numbers, got {seed!r} for {source}; write {{'{source}': 3}}")
    return {source: value[source] for source in SOURCES if source in value}


def _optimizer(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or "name" not in value:
        raise InvalidValue(
            f"an optimizer is a name or {{'name': ..., 'lr': ...}}, got {value!r}; write {{'name': 'adamw', 'lr': 0.001}}"
        )
    made = optimizer_class(str(value["name"]))
    spec = {"name": str(value["name"]).lower(), **_plain(_arguments(value), "optimizer")}
    _check_arguments("optimizer", spec, made)
    _try_optimizer(made, spec)
    return spec


def _try_optimizer(made: Any, spec: Mapping[str, Any]) -> None:
    """One step on one number tells what a constructor's signature cannot: ranges, closures, sparse gradients."""
    import torch

    weight = torch.nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.ones(2, 2)
    try:
        made([weight], **_arguments(spec)).step()
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidValue(
            f"an optimizer takes one step on dense gradients without a closure, got {dict(spec)}, which cannot ({reason}); "
            "change its settings or take another one"
        ) from None


def optimizer_class(name: str) -> Any:
    """The class of torch.optim with this name, whatever its case; UnknownName lists them all."""
    import torch

    known = {
        n.lower(): n
        for n, c in vars(torch.optim).items()
        if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)
    }
    known.pop("optimizer", None)
    if name.lower() not in known:
        raise unknown("optimizer", name, known.values())
    return getattr(torch.optim, known[name.lower()])
