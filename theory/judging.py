"""Judging several claims: on one core or on several, with a progress bar where there is a terminal."""

import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from theory.claims import Verdict, judge
from theory.runs import Run


def default_workers() -> int:
    """A process per core, up to four."""
    return min(4, os.cpu_count() or 1)


def one_thread() -> None:
    """Tensors here are small: a second thread costs more than it brings, and sums would depend on it."""
    torch.set_num_threads(1)


def judge_all(claims: list[str], run: Run, console: Console, workers: int) -> list[Verdict]:
    """Each claim's verdict, in order; a progress bar on a terminal, nothing elsewhere."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=len(claims) * run.geometries)
        if workers > 1 and len(claims) > 1:
            return _judge_in_processes(claims, run, progress, task, workers)
        verdicts = []
        for done, claim in enumerate(claims):
            progress.update(task, description=f"{claim} ", completed=done * run.geometries)
            verdicts.append(judge(claim, replace(run, tick=lambda: progress.advance(task))))
    return verdicts


def _judge_in_processes(claims: list[str], run: Run, progress: Progress, task: TaskID, workers: int) -> list[Verdict]:
    """The same on several cores: one claim per process at a time, the longest first. Chance does not notice."""
    slowest_first = sorted(claims, key=lambda claim: claim not in ("T2", "beyond"))
    fresh = get_context("spawn")  # a forked torch may hang
    with ProcessPoolExecutor(workers, mp_context=fresh, initializer=one_thread) as pool:
        futures = {pool.submit(judge, claim, run): claim for claim in slowest_first}
        verdicts = {}
        for future in as_completed(futures):
            verdicts[futures[future]] = future.result()
            progress.update(task, description=f"{len(verdicts)} of {len(claims)} ", advance=run.geometries)
    return [verdicts[claim] for claim in claims]
