"""The tests under other versions of Python, torch, Pillow and pandas, each in an environment that uv makes: `make test-matrix`.

    python -m tests.matrix                            nine combinations, in which every two versions meet once; a selection of tests
    python -m tests.matrix --full                     every test
    python -m tests.matrix --list                     only say which combinations
    python -m tests.matrix --only torch=2.6 pandas=2  those combinations alone
    python -m tests.matrix --tests tests/test_maps.py --keep

Says which combinations passed, which failed and which could not be made (no such Python, or the index does not serve such
versions together). Exit status 1 if one failed, or if none could be made. Needs uv and nothing else; Pythons that pyenv keeps are
found too. Environments and logs are in --out, and environments of combinations that passed are removed unless --keep is given. After
each combination --page holds what became of it, beside what earlier runs left there, and says which of the matrix have not run.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations, product
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEWEST = "newest"
AXES = {
    "python": ("3.11", "3.12", "3.13"),
    "torch": ("2.6", "2.11", NEWEST),
    "pillow": ("11", "12", "13"),
    "pandas": ("2", "3"),
}
# What other versions could break: files of images, tables, graphs as torch exports them and all that is made of them (4 minutes),
# training, an audit from end to end.
FAST = (
    "tests/test_numerics.py",
    "tests/test_maps.py",
    "tests/test_photos.py",
    "tests/test_data.py",
    "tests/plots",
    "tests/results",
    "tests/metrics/test_metrics.py",
    "tests/graph",
    "tests/test_evidence.py",
    "tests/test_audit.py",
    "tests/test_running.py",
    "tests/lit/test_training.py",
)
SELECTION, ALL = "the selection", ("-n", "auto")
PASSED, FAILED, NOT_MADE = "passed", "FAILED", "could not be made"
STOPS = (signal.SIGINT, signal.SIGTERM)
HOW_TO_GET_UV = "test-matrix needs uv, which makes the environments; get it by: python3 -m pip install uv"

Combination = dict[str, str]


@dataclass(frozen=True)
class Outcome:
    """What became of a combination."""

    combination: Combination
    status: str
    seconds: float
    note: str


def covering(axes: dict[str, Sequence[str]]) -> list[Combination]:
    """Few combinations in which every two values of different axes meet.

    Greedy: each next one is the first of those in which the most pairs meet that have not met. The axes' last values come first,
    so that the newest of everything is the first.

    >>> [list(found.values()) for found in covering(dict(a="12", b="12", c="12"))]
    [['2', '2', '2'], ['2', '1', '1'], ['1', '2', '1'], ['1', '1', '2']]
    """
    every = [dict(zip(axes, values, strict=True)) for values in product(*(list(axes[name])[::-1] for name in axes))]
    left = {pair for one in every for pair in pairs(one)}
    chosen = []
    while left:
        best = max(every, key=lambda one: len(pairs(one) & left))
        left -= pairs(best)
        chosen.append(best)
    return chosen


def pairs(combination: Combination) -> set[tuple]:
    """Two by two, its values with their axes."""
    return set(combinations(combination.items(), 2))


def only(found: list[Combination], wanted: Sequence[str]) -> list[Combination]:
    """The combinations with all values of `wanted`, each NAME=VERSION; if no chosen one has them, the newest that does."""
    asked = {}
    for text in wanted:
        name, _, value = text.partition("=")
        if value not in AXES.get(name, ()):
            told = "; ".join(f"{axis}={' or '.join(values)}" for axis, values in AXES.items())
            raise ValueError(f"--only {text} names no version of the matrix; it has {told}")
        asked[name] = value
    chosen = [one for one in found if asked.items() <= one.items()]
    return chosen or [{name: asked.get(name, values[-1]) for name, values in AXES.items()}]


def requirements(combination: Combination) -> list[str]:
    """What the environment must hold beside the project's own ranges; of what is the newest nothing is asked.

    >>> requirements({"python": "3.12", "torch": "2.6", "pillow": "12", "pandas": "newest"})
    ['torch==2.6.*', 'pillow==12.*']
    """
    return [f"{name}=={value}.*" for name, value in combination.items() if name != "python" and value != NEWEST]


def named(combination: Combination) -> str:
    """As text: python 3.12, torch 2.6."""
    return ", ".join(f"{name} {value}" for name, value in combination.items())


def try_out(combination: Combination, tests: Sequence[str], out: Path, keep: bool) -> Outcome:
    """Make the environment, run the tests in it; what both say is in OUT/NAME.log."""
    place = out / "-".join(f"{name}{value}" for name, value in combination.items())
    python, start = place / ("Scripts" if sys.platform == "win32" else "bin") / "python", time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    with place.with_name(place.name + ".log").open("w") as log:

        def done(command: Sequence[object]) -> bool:
            print("$", *command, file=log, flush=True)
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": os.pathsep.join(places_of_pythons())}
            told = subprocess.run(list(map(str, command)), cwd=ROOT, stdout=log, stderr=log, env=environment)
            if -told.returncode in STOPS:
                raise KeyboardInterrupt(f"{command[0]} was stopped")  # by somebody: it did not fail
            return told.returncode == 0

        wanted = ["-e", ".[dev,peers,train,theory]", *requirements(combination)]
        made = done(["uv", "venv", "--clear", "--python", combination["python"], place])
        made = made and done(["uv", "pip", "install", "--python", python, *wanted])
        passed = made and done([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests])
    status = PASSED if passed else FAILED if made else NOT_MADE
    if not made or (passed and not keep):
        shutil.rmtree(place, ignore_errors=True)
    return Outcome(combination, status, time.perf_counter() - start, last_line(Path(log.name), status))


def places_of_pythons() -> list[str]:
    """Where uv looks: the path, and behind it what pyenv keeps, which is on the path only where it is chosen."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return [os.environ.get("PATH", os.defpath), *map(str, sorted(kept.glob("*/bin")))]


def keep(outcome: Outcome, tests: Sequence[str], page: Path) -> None:
    """Beside what is known of other combinations, in PAGE.json, and the page made of it."""
    beside = page.with_suffix(".json")
    known = json.loads(beside.read_text()) if beside.is_file() else {}
    known[named(outcome.combination)] = dict(
        status=outcome.status,
        seconds=round(outcome.seconds),
        note=outcome.note,
        tests="all" if tuple(tests) == ALL else SELECTION if tuple(tests) == FAST else " ".join(tests),
        ran=list(tests),
        on=date.today().isoformat(),
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    for path, text in ((beside, json.dumps(known, indent=1) + "\n"), (page, markdown(known))):
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text)
        partial.replace(path)


def markdown(known: dict[str, dict]) -> str:
    """A table of all combinations of the matrix, those that have not run too, and below them of any others."""
    whole = [named(one) for one in covering(AXES)]
    lines = []
    for name in [*whole, *(other for other in known if other not in whole)]:
        one = known.get(name, dict(status="not run", tests="", on="", note=""))
        note = one["note"].replace("|", "\\|")
        earlier = one["tests"] == SELECTION and one.get("ran") != list(FAST)
        tests = "an earlier selection" if earlier else one["tests"]
        lines.append(f"| {name} | {one['status']} | {tests} | {one['on']} | {note} |")
    ran = sum(name in known for name in whole)
    return "\n".join(
        [
            "# Versions",
            "",
            f"Made by `make test-matrix`: {ran} of {len(whole)} combinations, in which every two versions meet once, have run. The selection "
            "of tests is what other versions could break; `newest` is what the index served on that day.",
            "",
            "| combination | result | tests | on | says |",
            "|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def last_line(log: Path, status: str) -> str:
    """What the log says at its end: pytest's summary, or the first line of why uv could not."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    if status == NOT_MADE:
        after = max((n for n, line in enumerate(lines) if line.startswith("$")), default=-1)
        reasons = [line for line in lines[after + 1 :] if line.startswith(("×", "error", "╰─▶"))]
        return (" ".join(reasons) or lines[-1])[:300]
    return lines[-1] if lines else ""


def report(outcomes: Sequence[Outcome]) -> str:
    """A line for each combination, and how many there are of each kind."""
    lines = [f"{one.status:>17}  {named(one.combination)}  ({one.seconds:.0f} s)  {one.note}" for one in outcomes]
    counts = {status: sum(one.status == status for one in outcomes) for status in (PASSED, FAILED, NOT_MADE)}
    return "\n".join([*lines, ", ".join(f"{count} {status}" for status, count in counts.items())])


def status_of(outcomes: Sequence[Outcome]) -> int:
    """1 if one failed, or if none passed; what could not be made is told, and is no failure."""
    found = {one.status for one in outcomes}
    return int(FAILED in found or PASSED not in found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="every test instead of a selection")
    parser.add_argument("--list", action="store_true", help="only say which combinations")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME=VERSION", help="combinations with these versions"
    )
    parser.add_argument("--tests", nargs="+", default=[], help="these tests instead of the selection")
    parser.add_argument("--keep", action="store_true", help="keep the environments of those that passed")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/matrix", help="where environments and logs go")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/results/matrix.md", help="the page of what has run")
    options = parser.parse_args(arguments)
    try:
        chosen = only(covering(AXES), options.only)
    except ValueError as error:
        parser.error(str(error))
    tests = ALL if options.full else options.tests or FAST
    print(
        f"{len(chosen)} combinations; tests: {'all' if options.full else ' '.join(tests)}",
        *map(named, chosen),
        sep="\n",
        flush=True,
    )
    if options.list:
        return 0
    if shutil.which("uv") is None:
        print(HOW_TO_GET_UV, file=sys.stderr)
        return 1
    outcomes = []
    for combination in chosen:
        try:
            outcomes.append(try_out(combination, tests, options.out.resolve(), options.keep))
        except KeyboardInterrupt:
            print(f"stopped at {named(combination)}, of which nothing is written down", file=sys.stderr)
            return 130
        keep(outcomes[-1], tests, options.page)
        print(report(outcomes[-1:]).splitlines()[0], flush=True)
    print("", report(outcomes), sep="\n")
    return status_of(outcomes)


if __name__ == "__main__":
    sys.exit(main())
