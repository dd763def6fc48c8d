"""`reinvest outcomes RUN [RUN ...]`: over the runs of a recipe, which decisions depend on the seed, and for whom."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from ..core.errors import InvalidValue
from ._output import Output
from ._parser import Command, Parser, option, store_option
from ._verdicts import target

if TYPE_CHECKING:
    from ..studies.outcome_runs import Progress

PLAIN = ("split", "groups", "below", "device")
SWITCHES = ("same_recipe", "any", "repeat")


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "runs",
        type=str,
        nargs="+",
        metavar="RUN",
        help="runs' ids, or the first digits of them; 2 or more, 5 are advised",
    )
    store_option(parser)
    parser.add_argument(
        "--same-recipe", action="store_true", help="add all other finished runs of the first RUN's recipe in the store"
    )
    parser.add_argument("--any", action="store_true", help="take runs of several recipes, on the same data")
    parser.add_argument("--split", type=str, default="test", metavar="SPLIT", help="test or validation")
    option(
        parser,
        "--groups",
        type=str,
        metavar="FILE.csv",
        help="subgroups: a file with the columns id and group, one line an example; others in it do no harm",
    )
    parser.add_argument(
        "--below",
        type=float,
        default=0.6,
        metavar="SHARE",
        help="a decision is arbitrary where two runs agree with a chance below this",
    )
    parser.add_argument(
        "--repeat", action="store_true", help="ask every run twice, and say whether its logits are the same bit for bit"
    )
    option(parser, "--device", type=str, help='where to predict: "cpu", "cuda" (default: the first GPU, else the CPU)')
    option(
        parser, "--out", type=str, metavar="FILE.html", help="write the page; FILE.json beside it holds every figure"
    )
    option(
        parser,
        "--csv",
        type=str,
        metavar="FILE.csv",
        help="write every vote: id, label, a column a run, self_consistency, and the group if there are any; of pixels or "
        "tokens, what share of an example's each run has right",
    )


def _run(options: Namespace, out: Output) -> int:
    file = target(options.out) if options.get("out") else None
    table = _table(options.csv) if options.get("csv") else None
    from ..store import Store
    from ..studies.outcomes import outcomes

    store = Store(options.store)
    runs = [store.get(run) for run in options.runs]
    with showing() as progress:
        found = outcomes(
            runs,
            split=options.split,
            groups=options.get("groups"),
            store=store,
            below=options.below,
            same_recipe=options.same_recipe,
            any_recipe=options.any,
            repeat=options.repeat,
            device=options.get("device"),
            progress=progress,
        )
    reproduce = {"command": _command(options)}
    result = {**found.to_dict(), "reproduce": reproduce}
    written = {}
    if file is not None:
        found.report(file, reproduce=reproduce)
        written = {"report": str(file), "result": str(file.with_suffix(".json"))}
    if table is not None:
        written["votes"] = str(found.csv(table))
    from ..report.outcomes import print_outcomes

    out.show(lambda console: print_outcomes(result, console))
    names = {"report": "Page", "result": "Every figure in it", "votes": "Every vote"}
    said = "\n".join(f"{names[name]}: {path}" for name, path in written.items())
    out.give({**result, **written}, (lambda: f"\n{said}") if written else None)
    return 0


def _table(path: str) -> Path:
    """The path of the votes, refused before the work begins if nothing could be written there."""
    file = Path(path).expanduser()
    if file.suffix.lower() != ".csv":
        raise InvalidValue(f"votes are written as CSV, got {path!r}; write --csv votes.csv")
    if file.is_dir() or not file.resolve().parent.is_dir():
        raise InvalidValue(
            f"votes are written into a folder that exists, got {path!r}; make {str(file.resolve().parent)!r} first"
        )
    return file


@contextlib.contextmanager
def showing() -> Iterator[Progress | None]:
    """A bar on standard error while runs are asked, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task("predicting", total=None, count="")

        def tell(done: float, total: int, who: str) -> None:
            bar.update(row, completed=done, total=total, description=who, count=f"{int(done)}/{total} runs")

        yield tell


def _command(options: Namespace) -> str:
    words = ["reinvest", "outcomes", *options.runs, "--store", options.store]
    words += [f"--{name.replace('_', '-')}" for name in SWITCHES if options.get(name)]
    for name in PLAIN:
        if options.get(name) is not None:
            words += [f"--{name}", str(options.get(name))]
    return shlex.join(words)


OUTCOMES = Command(
    about=(
        "Let the finished runs of one recipe, which differ in their seeds, decide on every test example again, and say how\n"
        "far they agree: on how many examples two runs differ (churn), with which chance two runs agree on an example\n"
        "(self-consistency), how many decisions are arbitrary, over all examples, by class and by subgroup; how much of the\n"
        "spread of their accuracies is luck of the test set; what the vote of all is worth; which examples divide them most.\n\n"
        "Where each pixel or token has a label, all of this is of these positions, each with equal weight.\n\n"
        "Trains nothing. Needs runs of recipes (reinvest train, compare), which keep their weights. With --out, a page with\n"
        "pictures."
    ),
    examples=(
        "reinvest outcomes 3f2a --same-recipe",
        "reinvest outcomes 3f2a 91c0 b7d4 --groups groups.csv --out outcomes.html --csv votes.csv",
        "reinvest outcomes 3f2a --same-recipe --split validation --repeat --json",
    ),
    arguments=_arguments,
    run=_run,
)
