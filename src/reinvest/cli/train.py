"""`reinvest train`: one recipe, from a YAML file or from options, trained with one seed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from ..core.errors import InvalidValue
from ._output import Output, time_text
from ._parser import Command, Parser, option, store_option

if TYPE_CHECKING:
    from ..core.recipe import Recipe

NAMED = ("task", "model", "optimizer", "schedule")
PLAIN = ("duration", "batch_size", "precision")


def recipe_arguments(parser: Parser) -> None:
    """A recipe as a file and options, which `recipe_from` reads."""
    parser.add_argument(
        "recipe",
        type=str,
        nargs="?",
        metavar="RECIPE.yaml",
        help="a YAML file with recipe fields; options below override it",
    )
    helps = {
        "task": "digits, mnist, cifar10, cifar100, caltech101, camvid, books, sst2, trec6, planted (another one, --task.base, "
        "with wrong labels and other things to be found), or package.module:factory; "
        "its arguments as --task.NAME VALUE",
        "model": "mlp, convnet, resnet8/20/56, resnet9, unet, gpt, bert, bert_classifier, or package.module:factory; "
        "its arguments as --model.NAME VALUE",
        "optimizer": "any optimizer of torch.optim; its arguments as --optimizer.lr 0.1 "
        "(default: sgd, lr 0.1, momentum 0.9, "
        "nesterov, weight_decay 0.0005)",
        "schedule": "constant, cosine, linear, one_cycle, cooldown, cyclic, over the whole duration; --schedule.warmup is a share of it "
        "(default: cosine, warmup 0.05)",
    }
    for name in NAMED:
        option(parser, f"--{name}", type=dict[str, Any], metavar="NAME", help=helps[name])
    option(parser, "--duration", type=str, help="10ep (epochs), 3900st (optimizer steps) or 30min (default: 10ep)")
    option(parser, "--batch_size", "--batch-size", type=int, metavar="N", help="examples per step (default: 128)")
    option(parser, "--precision", type=str, help="fp32, or bf16 / fp16 autocast (default: fp32)")
    option(
        parser,
        "--methods",
        type=str,
        action="append",
        metavar="NAME[.ARG=VALUE]",
        help=("add a method, once for each (and once more for each further argument); see reinvest methods"),
    )


def _arguments(parser: Parser) -> None:
    recipe_arguments(parser)
    parser.add_argument("--seed", type=int, default=0, help="decides initial weights, order and every draw")
    store_option(parser)
    parser.add_argument(
        "--reuse",
        type=str,
        default="none",
        metavar="auto|none|RUN",
        help='what of earlier runs is re-used: "auto" follows reinvest advise, a run\'s id takes that run '
        "(refused if it cannot help), none trains the recipe as it is",
    )
    option(parser, "--device", type=str, help='"cpu", "cuda", "cuda:1" (default: the first GPU, else the CPU)')
    option(parser, "--threads", type=int, metavar="N", help="threads of torch on the CPU (default: torch's own choice)")
    parser.add_argument("--no-records", action="store_true", help="keep no per-example records")


def spread(words: Sequence[str]) -> list[str]:
    """`--task digits` as `--task {"name": "digits"}`, so that a later `--task.train_examples 500` adds to it."""
    out: list[str] = []
    waiting = False
    for word in words:
        name, equals, value = word.partition("=")
        if waiting and not word.startswith(("--", "{")):
            word = json.dumps({"name": word})
        elif equals and name.removeprefix("--") in NAMED and not value.startswith("{"):
            word = f"{name}={json.dumps({'name': value})}"
        waiting = word.startswith("--") and word.removeprefix("--") in NAMED
        out.append(word)
    return out


def method_specs(words: Sequence[str]) -> list[dict[str, Any]]:
    """["LabelSmoothing", "SAM.rho=0.1", "SAM.interval=2"] as specs of two methods."""
    from ..core.yaml_numbers import load

    found: dict[str, dict[str, Any]] = {}
    for word in words:
        left, equals, value = word.partition("=")
        name, argument = left, ""
        if equals:
            name, _, argument = left.rpartition(".")
            if not name or not argument:
                raise InvalidValue(
                    f"--methods is NAME or NAME.ARGUMENT=VALUE, got {word!r}; write for example --methods SAM.rho=0.1"
                )
        spec = found.setdefault(name, {"name": name})
        if argument:
            spec[argument] = load(value)
    return list(found.values())


def values_in(path: str) -> dict[str, Any]:
    """The mapping in a YAML file of recipe fields; factories beside it can be found from now on."""
    from ..core.yaml_numbers import read_mapping

    values = read_mapping(path, "a recipe", holds="fields such as 'task: digits'", remedy="see reinvest train --help")
    sys.path.append(str(Path(path).resolve().parent))
    return values


def recipe_from(options: Namespace) -> Recipe:
    """The recipe that file and options describe together."""
    from ..core.recipe import OPTIMIZER, SCHEDULE, Recipe

    values = values_in(options.recipe) if options.recipe else {}
    defaults: dict[str, dict[str, Any]] = {"optimizer": OPTIMIZER, "schedule": SCHEDULE}
    for name in NAMED:
        if name not in options:
            continue
        given = dict(options[name])
        before = values.get(name, defaults.get(name, {}))
        before = {"name": before} if isinstance(before, str) else dict(before)
        # Arguments belong to the name they were written for.
        values[name] = given if given.get("name", before.get("name")) != before.get("name") else {**before, **given}
    values.update({name: options[name] for name in PLAIN if name in options})
    if "methods" in options:
        listed = values.get("methods") or []
        values["methods"] = [*(listed if isinstance(listed, list) else [listed]), *method_specs(options.methods)]
    for name in ("task", "model"):
        if name not in values:
            raise InvalidValue(
                f"a recipe names its {name}, got none; "
                f"add --{name} {'digits' if name == 'task' else 'convnet'}, or give a RECIPE.yaml"
            )
    return Recipe.from_dict(values)


def _run(options: Namespace, out: Output) -> int:
    recipe = recipe_from(options)
    import torch

    from ..loop.train import train
    from ..store import Store

    threads = options.get("threads")
    if threads is not None:
        if threads < 1:
            raise InvalidValue(f"--threads is 1 or more, got {threads}; leave it out for torch's own choice")
        torch.set_num_threads(threads)
    device = options.get("device")
    store, settings = Store(options.store), {"device": device, "records": False if options.no_records else None}
    reuse: dict[str, Any] | None = None
    if options.reuse == "none":
        run = train(recipe, options.seed, store, **settings)
    else:
        from ..studies.advise import train_with_advice
        from .advise import noting

        with noting(out):
            run, advice = train_with_advice(recipe, options.seed, store, reuse=options.reuse, **settings)
        reuse = {"asked": options.reuse, **advice.done(run)}
    last = run.last
    data = {
        "id": run.id,
        "status": run.status,
        "task": run.task,
        "seed": run.seed,
        "steps": run.steps,
        "seconds": run.seconds,
        "validation": last.get("validation", {}),
        "test": last.get("test", {}),
        "recipe": run.config,
        "reuse": reuse,
        "path": str(run.path),
    }

    def text() -> str:
        shown = [
            f"{split} "
            + ", ".join(f"{k} {'not finite' if v is None else format(v, '.4g')}" for k, v in last[split].items())
            for split in ("validation", "test")
            if split in last
        ]
        return "\n".join(
            [
                *([] if reuse is None else [f"re-use: {reuse['said']}"]),
                f"run {run.id}: {run.status} after {run.steps} steps, {time_text(run.seconds)} of training",
                *shown,
                f"reinvest runs show {run.id[:8]} --store {options.store}",
            ]
        )

    out.give(data, text)
    return 0 if run.status == "finished" else 3


TRAIN = Command(
    about=(
        "Train a recipe with one seed and keep the run: weights, curve, records, facts and cost. A run that the store\n"
        "already holds is shown, not repeated; an interrupted one continues where it was, bit for bit. Selection\n"
        "reads the validation split, the test split is read once at the end.\n"
        "With --reuse auto the run takes up what earlier runs left behind, as reinvest advise says, and tells what it\n"
        "did; the duration stays as it is. The same command again shows the same run.\n"
        "Exit code 3 if the loss became NaN or infinite (the run is kept as diverged)."
    ),
    examples=(
        "reinvest train --task digits --model convnet --duration 10ep --seed 0",
        "reinvest train --task digits --model convnet --methods LabelSmoothing --methods SAM.rho=0.1",
        "reinvest train examples/recipe.yaml --seed 1 --duration 20ep --json",
        "reinvest train examples/recipe.yaml --seed 2 --reuse auto",
    ),
    arguments=_arguments,
    run=_run,
    rewrite=spread,
)
