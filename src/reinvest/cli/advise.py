"""`reinvest advise` and `reinvest recommend`: what earlier runs are good for, here and in general."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from ..core.errors import InvalidValue
from ._output import Output, plural, table
from ._parser import Command, Parser, option, store_option
from .train import recipe_arguments, recipe_from, spread

if TYPE_CHECKING:
    from ..studies.advise import Advice


@contextmanager
def noting(out: Output) -> Iterator[None]:
    """Warnings about stored studies that cannot be read, as remarks."""
    from ..studies.evidence import EvidenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EvidenceWarning)
        yield
    for one in caught:
        if issubclass(one.category, EvidenceWarning):
            out.note(f"reinvest: {one.message}")
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _arguments(parser: Parser) -> None:
    recipe_arguments(parser)
    option(parser, "--seed", type=int, help="also say whether this recipe with this seed is in the store already")
    store_option(parser)


def _run(options: Namespace, out: Output) -> int:
    recipe = recipe_from(options)
    from ..store import Store
    from ..studies.advise import advise

    with noting(out):
        advice = advise(recipe, Store(options.store), seed=options.get("seed"))
    out.give({"store": str(Path(options.store).absolute()), **advice.to_dict()}, lambda: _text(advice, options.store))
    return 0


def _text(advice: Advice, store: str) -> str:
    lines = []
    if advice.options:
        rows = [_cells(k, one) for k, one in enumerate(advice.options, 1)]
        lines = [table(["", "re-use", "runs", "speed-up", "evidence"], rows, right=(0,)), ""]
    lines.append(str(advice))
    if advice.choice is not None:
        where = "" if store == "runs" else f" --store {store}"
        lines += ["", f"The first one is what reinvest train --reuse auto{where} does with this recipe."]
    return "\n".join(lines)


def _cells(number: int, one: Any) -> list[str]:
    from ..studies.evidence import interval_text

    saving = one.saving
    runs = one.runs[0] + (f" and {len(one.runs) - 1} more" if len(one.runs) > 1 else "")
    if saving is None:
        return [str(number), one.how, runs, "not known", "none"]
    count = (
        f"{plural(saving.sequences, 'sequence')} in {plural(len(saving.studies), 'study').replace('studys', 'studies')}"
    )
    return [str(number), one.how, runs, interval_text(saving.speedup, saving.low, saving.high), count]


ADVISE = Command(
    about=(
        "Say which runs of a store help a recipe and how: warm start, records, the average of several runs' records, a\n"
        "clean pass of a run that left no records, training on what a run found hard. What each is expected to save comes\n"
        "from stored sequence studies alone (the store's folder 'studies', and those of the package), with interval; where\n"
        "none is stored, it says so. Runs that are not re-used are listed with the reason: another data set or label\n"
        "space, other inputs, test examples seen, unfinished, too short. Nothing is trained, and runs are ranked by\n"
        "validation quality only. Exit code 0, also if nothing helps.\n\n"
        "The recipe is a file, options, or both, as for reinvest train."
    ),
    examples=(
        "reinvest advise examples/recipe.yaml",
        "reinvest advise --task digits --model mlp --duration 5ep --store runs --json",
    ),
    arguments=_arguments,
    run=_run,
    rewrite=spread,
)


def _recommend_arguments(parser: Parser) -> None:
    store_option(parser)
    option(
        parser,
        "--out",
        type=str,
        metavar="FILE.md",
        help="write the page there, e.g. docs/recommendations.md (default: print it)",
    )


def _recommend(options: Namespace, out: Output) -> int:
    from ..store import Store
    from ..studies.evidence import folders_of, read_studies
    from ..studies.recommendations import recommendations

    file = options.get("out")
    if file is not None and (Path(file).suffix != ".md" or not Path(file).expanduser().resolve().parent.is_dir()):
        raise InvalidValue(
            f"the page is a Markdown file in a folder that exists, got {file!r}; write --out docs/recommendations.md"
        )
    with noting(out):
        studies = read_studies(folders_of(Store(options.store)))
    page = recommendations(studies)
    data: dict[str, Any] = {"studies": sorted(name for name, _ in studies)}
    if file is None:
        out.give({**data, "text": page}, lambda: page.rstrip("\n"))
        return 0
    path = Path(file).expanduser()
    path.write_text(page, encoding="utf8")
    out.give({**data, "output": str(path)}, lambda: f"Page: {path}, from {len(studies)} stored sequence studies")
    return 0


RECOMMEND = Command(
    about=(
        "Write which re-use is for which situation, from the stored sequence studies alone: those in the store's folder\n"
        "'studies' and those of the package. Every figure comes from one of these files; what did not help and what was\n"
        "not tested are on the page too. The same studies give the same page, byte for byte."
    ),
    examples=("reinvest recommend", "reinvest recommend --store runs --out docs/recommendations.md"),
    arguments=_recommend_arguments,
    run=_recommend,
)
