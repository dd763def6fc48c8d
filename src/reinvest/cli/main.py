"""`reinvest`: finds the command, calls it, and turns whatever goes wrong into one sentence and an exit code.

Only the chosen command's module is imported, so that help and `reinvest runs` stay quick and never load torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from .._version import __version__
from ..core.errors import InvalidValue, ReinvestError, unknown
from ._output import Output, dump

if TYPE_CHECKING:
    from ._parser import Command

OK, BUG, REFUSED, FINDING, INTERRUPTED, PIPE = 0, 1, 2, 3, 130, 141
DEBUG = "REINVEST_DEBUG"

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo:DEMO", "compare three changes with a baseline on packaged data: runs, verdicts, report"),
    "train": ("train:TRAIN", "train one recipe with one seed"),
    "compare": ("compare:COMPARE", "run a study (arms x durations x seeds) and judge every arm"),
    "plan": ("plan:PLAN", "what a study can show with its seeds, and what it costs, before it is paid for"),
    "ablate": ("ablate:ABLATE", "which methods of a recipe help, alone and together"),
    "tune": ("tune:TUNE", "tune every arm with the same budget, then compare the winners"),
    "sequence": ("sequence:SEQUENCE", "related runs in a row, with and without re-use, judged as whole sequences"),
    "advise": ("advise:ADVISE", "which earlier runs help a recipe, how, and what that is known to save"),
    "recommend": ("advise:RECOMMEND", "which re-use for which situation, from the stored sequence studies"),
    "spikes": ("spikes:SPIKES", "where a run's loss rose suddenly, and which layers, examples or updates it was"),
    "outcomes": ("outcomes:OUTCOMES", "which decisions of a recipe's runs depend on the seed, and for whom"),
    "variance": ("variance:VARIANCE", "how far a recipe's runs lie apart, and which source of randomness it is"),
    "verdict": ("verdict:VERDICT", "judge points of any trainer, from a CSV file"),
    "gate": ("gate:GATE", "for continuous integration: is a recipe worse than its stored baseline?"),
    "workloads": ("workloads:WORKLOADS", "comparisons of several tasks together: table, profiles, mean"),
    "report": ("report:REPORT", "draw the report of a stored result"),
    "methods": ("methods:METHODS", "list the methods, or show the card of one"),
    "runs": ("runs:LIST", "list the runs of a store"),
    "runs tree": ("runs:TREE", "which run was made from which"),
    "runs show": ("runs:SHOW", "everything about one run"),
    "suspects": (
        "suspects:SUSPECTS",
        "which examples a run makes suspect: wrong labels, doubles, the odd and the hard",
    ),
    "store verify": ("store:VERIFY", "re-hash every file of a store"),
    "store rebuild": ("store:REBUILD", "make the index anew from the run folders"),
    "store gc": ("store:GC", "remove interrupted and failed runs (only says so without --delete)"),
}
OWN_CODES = {"gate": {REFUSED: 4, BUG: 5}}
"""Of a command whose answers are exit codes, for what goes wrong in it."""
EXIT_CODES = (
    "exit codes: 0 done, 2 refused or unusable input, 3 done with a bad finding (nothing comparable, a damaged file,\n"
    "  a diverged run), 130 interrupted, 1 a fault in the program; gate has codes of its own (reinvest gate --help)"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name (default: the process's)."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    words = [word for word in words if word != "--json"]
    out = Output(as_json)
    try:
        with out.only():
            code = _call(words, out)
        out.close()
        sys.stdout.flush()
        return code
    except ReinvestError as error:
        return _fail(error, out, _code(words, REFUSED))
    except KeyboardInterrupt:
        return _interrupted(words, out)
    except BrokenPipeError:
        _silence()
        return PIPE
    except OSError as error:
        return _fail(error, out, _code(words, REFUSED))
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        return _fail(error, out, _code(words, BUG))


def _call(words: list[str], out: Output) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        out.give({"version": __version__, "commands": {name: about for name, (_, about) in COMMANDS.items()}}, _help)
        return OK if words else REFUSED
    if words[0] in ("--version", "-V"):
        out.give({"version": __version__}, lambda: f"reinvest {__version__}")
        return OK
    name, rest = _split(words)
    module, _, attribute = COMMANDS[name][0].partition(":")
    # Factories are named 'module:function', and users keep them in the folder in which they work.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    command: Command = getattr(import_module(f".{module}", __package__), attribute)
    parser = command.parser(name)
    if "-h" in rest or "--help" in rest:
        text = parser.format_help().rstrip("\n")
        out.give({"help": text}, lambda: text)
        return OK
    return command.run(parser.parse_args(command.rewrite(rest)), out)


def _split(words: list[str]) -> tuple[str, list[str]]:
    """The command (one word or two) and what follows it."""
    if len(words) > 1 and " ".join(words[:2]) in COMMANDS:
        return " ".join(words[:2]), words[2:]
    if words[0] in COMMANDS:
        return words[0], words[1:]
    group = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if group:
        if len(words) == 1 or words[1].startswith("-"):
            raise InvalidValue(
                f"'reinvest {words[0]}' needs one more word, got none; "
                f"write {', '.join(f'reinvest {name}' for name in group)}"
            )
        raise unknown(f"command after '{words[0]}'", words[1], [name.split()[1] for name in group])
    raise unknown("command", words[0], {name.split()[0] for name in COMMANDS})


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: reinvest COMMAND [options]     (reinvest COMMAND --help explains one, with examples)",
            "",
            "Each training run makes the next one cheaper, and every claim is measured.",
            "",
            "commands:",
            *lines,
            "",
            "options of every command:",
            "  --help     what it does, its options with units and defaults, examples",
            "  --json     print exactly one JSON object on standard output; notes and progress go to standard error",
            "  --version  the version of reinvest",
            "",
            "examples:",
            "  reinvest demo                            about three minutes from nothing to verdicts and a report",
            "  reinvest compare examples/study.yaml --dry-run",
            "  reinvest verdict examples/points.csv --baseline plain",
            "",
            EXIT_CODES,
        ]
    )


def _code(words: list[str], code: int) -> int:
    return OWN_CODES.get(words[0] if words else "", {}).get(code, code)


def _sentence(error: BaseException) -> str:
    if isinstance(error, ReinvestError):
        return " ".join(str(error).split())
    if isinstance(error, OSError):
        what = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        return f"the system refused: {what}{where}; mend that and run the same command again (finished runs are kept)"
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return (
        f"unexpected {type(error).__name__}{place} ({' '.join(str(error).split())}); "
        f"run it again with {DEBUG}=1 to see the whole trace"
    )


def _fail(error: BaseException, out: Output, code: int) -> int:
    text = _sentence(error)
    print(f"reinvest: {text}", file=sys.stderr)
    if out.as_json:
        print(dump({"error": text, "kind": type(error).__name__}), flush=True)
    return code


def _interrupted(words: list[str], out: Output) -> int:
    name = words[0] if words else ""
    rest = "the same command continues the others from their last saved state, or from the start"
    study = f"finished runs are kept, and {rest}"
    kept = {
        "demo": study,
        "compare": study,
        "plan": study,
        "sequence": study,
        "ablate": study,
        "tune": study,
        "gate": study,
        "variance": study,
        "train": "the same command continues from its last saved state, or from the start",
    }.get(name, "nothing was left half done")
    text = f"interrupted: {kept}"
    print(f"reinvest: {text}", file=sys.stderr)
    if out.as_json:
        print(dump({"error": text, "kind": "Interrupted"}), flush=True)
    return INTERRUPTED


def _silence() -> None:
    """Whoever read our output has gone: what is still buffered must not complain at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
