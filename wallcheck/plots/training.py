"""Training curves from Lightning's CSV logs."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wallcheck.plots._style import BLUE, GREY, RED, WIDTH, styled

LINES = ((BLUE, "-", "o"), (RED, "--", "s"), (GREY, ":", "^"))
COLUMNS = {"train_loss": "train_loss_step", "train_accuracy": "train_accuracy_step"}
WANTED = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


def read_training(path: str | Path) -> pd.DataFrame:
    """A log, or the metrics.csv of a training folder: step, epoch and what was measured, NaN where it was not.

    Raises FileNotFoundError, or ValueError where the file is no such log.
    """
    path = Path(path)
    path = path / "metrics.csv" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"no training log at {path}; give the --out of a training (python -m experiments.train of the source repository)"
        )
    try:
        log = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV log ({error}); give the metrics.csv of a training") from None
    for name, by_step in COLUMNS.items():
        if by_step in log:
            log[name] = log[by_step]
    # A training shorter than its logging interval has no batches in its log, one without validation no val_*.
    short = [pair for pair in (WANTED[:2], WANTED[2:]) if not set(pair) & set(log)]
    if len(short) == 1:
        log[list(short[0])] = float("nan")
    missing = [name for name in ("step", "epoch", *WANTED) if name not in log]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; give the metrics.csv of a training")
    return log[["step", "epoch", *WANTED]].sort_values("step", kind="stable", ignore_index=True)


@styled
def training(logs: dict[str, pd.DataFrame], goal: float | None = 0.95) -> Figure:
    """Loss and accuracy by step; thin lines are single training batches, marks are the whole validation set.

    logs: name of the net -> its log as `read_training` gives it. goal: an accuracy to mark.
    """
    if not logs:
        raise ValueError("no training logs; give at least one")
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for (name, log), (colour, line, marker) in zip(logs.items(), LINES * len(logs), strict=False):
        for axes, measure in ((loss, "loss"), (accuracy, "accuracy")):
            batches, whole = (log.dropna(subset=f"{part}_{measure}") for part in ("train", "val"))
            axes.plot(batches["step"], batches[f"train_{measure}"], color=colour, lw=0.7, ls=line, alpha=0.5)
            label = f"{name}: {whole['val_accuracy'].iloc[-1]:.1%}" if len(whole) else name
            axes.plot(
                whole["step"], whole[f"val_{measure}"], color=colour, lw=1.4, ls=line, marker=marker, ms=4, label=label
            )
    if goal is not None:
        accuracy.axhline(goal, color="black", lw=0.7, ls=":", zorder=0)
        accuracy.text(0, goal, f"{goal:.0%}", va="bottom", ha="left", fontsize=7)
    kinds = [
        Line2D([], [], color="black", lw=width, label=label)
        for width, label in ((0.7, "one batch"), (1.4, "validation set"))
    ]
    loss.legend(handles=kinds, loc="lower left")
    loss.set(xlabel="step", ylabel="cross-entropy", yscale="log")
    accuracy.set(xlabel="step", ylabel="accuracy", ylim=(0, 1.02))
    accuracy.legend(loc="lower right", title="validation accuracy at the end", title_fontsize=7.5)
    return figure
