"""Prove and simulate every claim of the theory, print the verdicts, write results and figures.

    python -m theory                          all claims, under 3 minutes on two cores
    python -m theory --quick                  fewer draws and geometries, under 30 s
    python -m theory --claims T2 T5 --seed 3  some claims, another seed
    python -m theory --out runs/theory        where results.json, table.md and figures/ go

The exit code is 0 if every claim holds and 1 if one fails. Equal seeds give equal numbers on one kind of device.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from jsonargparse import ArgumentParser
from rich.console import Console

from theory.claims import CLAIMS, Verdict
from theory.drawing import draw_all
from theory.judging import default_workers, judge_all, one_thread
from theory.runs import FULL, QUICK


def parser() -> ArgumentParser:
    """The command line."""
    built = ArgumentParser(prog="python -m theory", description=__doc__.splitlines()[0])
    built.add_argument("--quick", action="store_true", help="fewer draws and geometries")
    built.add_argument("--seed", type=int, default=0, help="fixes every random draw")
    built.add_argument("--out", type=Path, default=Path("runs/theory"), help="folder for results and figures")
    built.add_argument("--claims", nargs="+", choices=list(CLAIMS), default=list(CLAIMS), help="which claims")
    built.add_argument("--workers", type=int, help="processes; default: a core each, 1 if quick or on a GPU")
    built.add_argument("--no_figures", action="store_true", help="write results.json and table.md only")
    return built


def table(verdicts: list[Verdict]) -> str:
    """The verdicts as a Markdown table, one line per claim."""
    lines = [
        "| claim | holds | proved | exact checks | z: count | mean | variance | largest | KS p | s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for v in verdicts:
        proved, exact = (f"{sum(c.holds for c in group)}/{len(group)}" for group in (v.proofs, v.outcome.checks))
        z = v.outcome.z
        numbers = f"{z.count} | {z.mean:+.3f} | {z.variance:.3f} | {z.largest:.2f} | {z.ks_p:.3f} | {v.seconds:.1f}"
        lines.append(f"| {v.claim} | {'yes' if v.holds else '**NO**'} | {proved} | {exact} | {numbers} |")
    return "\n".join(lines) + "\n"


def report(verdict: Verdict) -> str:
    """A claim, its checks, its z-scores."""
    lines = [f"{verdict.claim}  {verdict.title}: {'holds' if verdict.holds else 'FAILS'}"]
    for kind, checks in (("proved", verdict.proofs), ("exact", verdict.outcome.checks)):
        for check in checks:
            lines.append(f"    {kind if check.holds else 'BROKEN':8}{check.name}  ({check.detail or 'one case'})")
    z = verdict.outcome.z
    lines.append(
        f"    {'z' if z.agree else 'BROKEN':8}count {z.count}, mean {z.mean:+.3f}, variance {z.variance:.3f}, "
        f"largest {z.largest:.2f}, KS p {z.ks_p:.3f}"
    )
    return "\n".join(lines)


def _plain(value):
    """numpy values as JSON has them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"results hold numbers, strings, lists and dictionaries, got {type(value).__name__}: {value!r}")


def write(verdicts: list[Verdict], settings: dict, out: Path) -> None:
    """results.json and table.md, written beside and renamed, so that an interrupted run leaves no half file."""
    out.mkdir(parents=True, exist_ok=True)
    results = json.dumps({**settings, "claims": [v.record() for v in verdicts]}, default=_plain, indent=1)
    for name, text in (("results.json", results), ("table.md", table(verdicts))):
        beside = out / f".{name}.part"
        beside.write_text(text)
        beside.replace(out / name)


def main(arguments: list[str] | None = None) -> int:
    """0 if every claim holds."""
    chosen = parser().parse_args(arguments)
    console = Console()
    run = replace(QUICK if chosen.quick else FULL, seed=chosen.seed)
    workers = chosen.workers or (1 if chosen.quick else default_workers())  # to start one costs 3 s
    verdicts = judge_all(chosen.claims, run, console, workers)
    for verdict in verdicts:
        print(report(verdict))
    settings = {"seed": run.seed, "draws": run.draws, "geometries": run.geometries, "device": run.device.type}
    write(verdicts, settings, chosen.out)
    if not chosen.no_figures:
        draw_all({v.claim: v for v in verdicts}, chosen.out / "figures")
    failed = [v.claim for v in verdicts if not v.holds]
    print(f"\n{table(verdicts)}\n{len(verdicts) - len(failed)} of {len(verdicts)} claims hold; results in {chosen.out}")
    return 1 if failed else 0


if __name__ == "__main__":
    one_thread()
    sys.exit(main())
