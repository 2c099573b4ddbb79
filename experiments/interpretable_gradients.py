"""Does training for interpretable gradients bring standard and guided gradients together, and what does it cost?

    python -m experiments.interpretable_gradients                          32 px, three seeds, one thread: half an hour
    python -m experiments.interpretable_gradients --sizes 32 96 --seeds 5 --epochs 20 --train_count 50000   on a GPU

Trains vgg_small on rendered sets without the regulariser (weight 0) and with it, from equal weights and in an equal
order of images, and measures on held-out images the cosine between the standard and the guided gradient of the label's
logit with respect to the image, accuracy, and the time of a training step. Leaves in --out: data, nets, held_out.parquet
(one row per image and net), cost.json and manifest.json; in --docs interpretable_gradients.md, .png and .json (settings,
versions, figures). Started again, it keeps what is finished.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import t
from torch.nn.functional import cross_entropy

from data_gen.making import make_set
from experiments import flags, train
from experiments.study import claimed, markdown
from wallcheck import models, plots
from wallcheck.certificate import certify
from wallcheck.data import ImageSet
from wallcheck.guided import input_gradients, recorded
from wallcheck.lit.auditing import quiet
from wallcheck.regularisers import cosine, interpretable_gradients
from wallcheck.statistics import interval
from wallcheck.tables import progress_bar
from wallcheck.writing import beside, write_text

CONFIG = "experiments/configs/vgg_small.yaml"
NAME = "interpretable_gradients"
PART = 250  # held-out images at once


@dataclass(frozen=True)
class GradientRun:
    """Training with and without interpretable gradients.

    Args:
        sizes: heights and widths of the images.
        weights: of the regulariser; 0 is training without it, which the others are compared with.
        seeds: nets of each weight; a seed decides weights and order of images.
        train_count: training images.
        val_count: held-out images.
        epochs: of each training.
        timed: training steps timed for each weight.
        out: the run folder.
        docs: where the page, its figure and its manifest go.
    """

    sizes: list[int] = field(default_factory=lambda: [32])
    weights: list[float] = field(default_factory=lambda: [0.0, 7.5e-3])
    seeds: int = 3
    train_count: int = 6000
    val_count: int = 2000
    epochs: int = 8
    timed: int = 30
    out: str = "runs/interpretable_gradients"
    docs: str = "docs/results"


def main(options: GradientRun) -> None:
    if 0 not in options.weights or options.seeds < 2:
        raise ValueError("weights need 0, training without the regulariser, and seeds 2 for an interval")
    out, manifest = claimed(options)
    with progress_bar() as tell, quiet():
        rows = pd.concat(list(held_out(options, out, tell)), ignore_index=True)
        cost = {size: timed(size, options, out) for size in options.sizes}
    with beside(out / "held_out.parquet") as partial:
        rows.to_parquet(partial, index=False)
    figures = plots.save(plots.gradients(rows), out / "figures" / NAME)
    table = summary(rows, cost)
    docs = Path(options.docs)
    docs.mkdir(parents=True, exist_ok=True)
    shutil.copy(figures[1], docs / f"{NAME}.png")
    write_text(docs / f"{NAME}.md", page(table, options))
    kept = {**asdict(manifest), "image_sets": identities(options, out), "found": table.to_dict("records")}
    write_text(docs / f"{NAME}.json", json.dumps(kept, indent=1, default=float) + "\n")
    print(shown(table))


def identities(options: GradientRun, out: Path) -> dict:
    """What a manifest keeps of the image sets."""
    return {
        f"{name}, {px} px": ImageSet(out / f"data{px}" / name).identity
        for px in options.sizes
        for name in ("train", "val")
    }


# -- training and measuring -----------------------------------------------------------------------


def held_out(options: GradientRun, out: Path, tell: Callable[[int, int, str], None]) -> Iterator[pd.DataFrame]:
    """pixels, weight, seed, image, cosine, correct for each net, trained where it is not yet."""
    nets = [(p, w, s) for p in options.sizes for s in range(options.seeds) for w in options.weights]
    for number, (pixels, weight, seed) in enumerate(nets):
        tell(number, len(nets), f"{pixels} px, weight {weight:g}, seed {seed}")
        folder = out / f"px{pixels}-weight{weight:g}-seed{seed}"
        if not (folder / "held_out.parquet").is_file():
            data = rendered(pixels, options, out)
            trained(folder, data, pixels, weight, seed, options)
            table = measured(models.load(folder / "model.safetensors"), ImageSet(data / "val"))
            with beside(folder / "held_out.parquet") as partial:
                table.to_parquet(partial, index=False)
        yield pd.read_parquet(folder / "held_out.parquet").assign(pixels=pixels, weight=weight, seed=seed)


def rendered(pixels: int, options: GradientRun, out: Path) -> Path:
    """train and val of this size; the labelled object stands above the net's unseen pixels, as far as the renderer allows."""
    unseen = models.vgg_small(image_size=pixels).regions.unseen.all(1)
    wall_row = min(int(unseen.argmax()), pixels * 5 // 8)
    for name, count in (("train", options.train_count), ("val", options.val_count)):
        make_set(name, out / f"data{pixels}", count, pixels, seed=0, wall_row=wall_row)
    return out / f"data{pixels}"


def trained(folder: Path, data: Path, pixels: int, weight: float, seed: int, options: GradientRun) -> None:
    """One training by the command that users have; goes on from its last checkpoint if there is one."""
    if (folder / "model.safetensors").is_file():
        return
    last = folder / "checkpoints" / "last.ckpt"
    arguments = ["fit", "--config", CONFIG, "--out", folder, "--data.folder", data, "--model.image_size", pixels]
    arguments += ["--model.seed", seed, "--data.seed", seed, "--seed_everything", seed]
    arguments += ["--trainer.max_epochs", options.epochs, "--trainer.enable_progress_bar", "false"]
    if weight:
        arguments += ["--model.regulariser", NAME, "--model.regulariser.weight", weight]
    if last.is_file():
        arguments += ["--ckpt_path", last]
    with redirect_stdout(StringIO()):  # what each training says of itself would tear the bar
        train.main([str(argument) for argument in arguments])


def measured(net: models.BlindNet, images: ImageSet) -> pd.DataFrame:
    """image, cosine (of standard and guided gradient of the label's logit) and correct."""
    certify(net).raise_if_broken()
    tables = []
    for start in range(0, len(images), PART):
        part = slice(start, min(start + PART, len(images)))
        labels = torch.from_numpy(np.array(images.labels[part], dtype=np.int64))
        leaf, logits = recorded(net, images.images(part))
        gradients = input_gradients(logits.gather(1, labels[:, None])[:, 0], leaf)
        alike = 1 - cosine(*(gradient.flatten(1) for gradient in gradients))
        found = dict(image=range(part.start, part.stop), cosine=alike, correct=logits.argmax(1) == labels)
        tables.append(pd.DataFrame({name: np.asarray(value) for name, value in found.items()}))
    return pd.concat(tables, ignore_index=True)


def timed(pixels: int, options: GradientRun, out: Path) -> dict[str, dict]:
    """Milliseconds of a forward and backward pass of 64 images by weight, taken in turns; kept in cost.json."""
    path = out / f"cost{pixels}.json"
    if not path.is_file():
        net, seconds = models.vgg_small(image_size=pixels).train(), {weight: [] for weight in options.weights}
        images, labels = torch.randn(64, 3, pixels, pixels), torch.arange(64) % 10
        for _ in range(options.timed + 1):
            for weight, kept in seconds.items():
                start = time.perf_counter()
                step(net, images, labels, weight)
                kept.append(time.perf_counter() - start)
        found = {f"{weight:g}": interval(1000 * np.array(kept[1:])) for weight, kept in seconds.items()}
        write_text(path, json.dumps(found, indent=1, default=float) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


def step(net: models.BlindNet, images: torch.Tensor, labels: torch.Tensor, weight: float) -> None:
    """What a training step computes, without the optimiser."""
    if weight:
        logits, penalty = interpretable_gradients(weight)(net, images, labels)
        loss = cross_entropy(logits, labels) + weight * penalty
    else:
        loss = cross_entropy(net(images), labels)
    loss.backward()
    net.zero_grad()


# -- telling --------------------------------------------------------------------------------------


def summary(rows: pd.DataFrame, cost: dict[int, dict]) -> pd.DataFrame:
    """By pixels and weight: means over seeds, and their paired differences from weight 0 with 95 % intervals over seeds."""
    nets = rows.groupby(["pixels", "weight", "seed"])[["cosine", "correct"]].mean()
    lines = []
    for (pixels, weight), of in nets.groupby(level=["pixels", "weight"]):
        plain = nets.loc[pixels, 0.0]
        milliseconds = cost[pixels][f"{weight:g}"]
        line = dict(pixels=pixels, weight=weight, nets=len(of), images=rows["image"].nunique())
        for name in ("cosine", "correct"):
            values = of.loc[pixels, weight][name]
            change = (values - plain[name]).to_numpy()
            half = float(t.ppf(0.975, len(change) - 1) * change.std(ddof=1) / np.sqrt(len(change)))
            line |= {name: values.mean(), f"{name}_by_seed": values.tolist()}
            line |= {f"{name}_change": change.mean(), f"{name}_half": half}
        line |= {"ms": milliseconds["mean"], "ms_low": milliseconds["low"], "ms_high": milliseconds["high"]}
        line |= {"cost": milliseconds["mean"] / cost[pixels]["0"]["mean"]}
        lines.append(line)
    return pd.DataFrame(lines)


HEADS = (
    "px", "weight", "nets", "cosine (by seed)", "change", "accuracy in % (by seed)", "change in points", "ms per step", "cost"
)  # fmt: skip


def shown(table: pd.DataFrame) -> str:
    lines = []
    for _, line in table.iterrows():
        told = [f"{line['pixels']:.0f}", f"{line['weight']:g}", f"{line['nets']:.0f}"]
        told += [*compared(line, "cosine", 1, 3), *compared(line, "correct", 100, 1)]
        lines.append(
            [*told, f"{line['ms']:.0f} [{line['ms_low']:.0f}, {line['ms_high']:.0f}]", f"x {line['cost']:.1f}"]
        )
    return markdown(list(HEADS), lines)


def compared(line: pd.Series, name: str, unit: float, digits: int) -> tuple[str, str]:
    """The mean with each seed's value; and the change from weight 0 with its interval."""
    mean, change, half = (unit * line[key] for key in (name, f"{name}_change", f"{name}_half"))
    seeds = ", ".join(f"{unit * value:.{digits}f}" for value in line[f"{name}_by_seed"])
    low, change, high = (f"{value:+.{digits}f}" for value in (change - half, change, change + half))
    return f"{mean:.{digits}f} ({seeds})", f"{change} [{low}, {high}]" if line["weight"] else "–"


def page(table: pd.DataFrame, options: GradientRun) -> str:
    given = {name: value for name, value in asdict(options).items() if name not in ("out", "docs")}
    words = " ".join(f"--{k} {' '.join(map(str, v)) if isinstance(v, list) else v}" for k, v in given.items())
    return f"""# Training for interpretable gradients

Made by `python -m experiments.interpretable_gradients {words}`; not written by hand. Settings, versions and figures are in
`{NAME}.json`.

`vgg_small` was trained on {options.train_count} rendered images for {options.epochs} epochs with weight x (1 - cosine of
the standard and the guided gradient with respect to the image) added to the cross-entropy (Torres Figueroa et al.,
VISAPP 2024). Weight 0 is training without it, from the same initial weights and in the same order of images. Our choices: the
label's logit is differentiated, and the guided gradient is a teacher that is not taught. All is measured on
{options.val_count} held-out images. Changes are paired by seed, with 95 % t-intervals over {options.seeds} nets; milliseconds
are of the forward and backward passes of 64 images, without the optimiser, with 95 % bootstrap intervals over {options.timed}
steps taken in turns, on {torch.get_num_threads()} thread(s) of a machine that did other work too: the ratio is the figure to keep.

{shown(table)}

![Cosine of standard and guided gradients on held-out images; accuracy against it]({NAME}.png)
"""


if __name__ == "__main__":
    flags.script("experiments.interpretable_gradients", main, GradientRun)
