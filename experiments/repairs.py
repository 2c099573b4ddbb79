"""What repairs cost: leakage, localisation and faithfulness of each method beside its repairs, on the same images.

    python -m experiments.repairs --model runs/reproduce/walled/model.safetensors \\
        --images runs/reproduce/data/stack_mix --out runs/reproduce

Pairs come from the registry: a repair knows the name of what it repairs. HiResCAM and Layer-CAM, which leak nothing
without repair, and controls stand beside them. All is measured on the image: rectified and upsampled for leakage and
localisation, the displayed map (stretched to [0, 1]) for masking. Leaves repairs.parquet (one row per image, method
and metric) and figures/repairs.* in --out, and repairs.md with its figure in --docs.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from experiments import flags
from experiments.study import arrowed, markdown
from wallcheck import models, plots
from wallcheck.auditing import finite
from wallcheck.cams import METHODS, Method, called
from wallcheck.certificate import certify, fingerprint
from wallcheck.checking import require_wall
from wallcheck.data import ImageSet, open_images
from wallcheck.evidence import Evidence
from wallcheck.maps import displayed, rectify, upsample
from wallcheck.masking import STEPS, asked, chances
from wallcheck.metrics import FAITHFULNESS, LEAKAGE, LOCALISATION
from wallcheck.results import COLUMNS, sorted_rows, writable
from wallcheck.statistics import DIFFERENCE, interval, told
from wallcheck.tables import progress_bar
from wallcheck.writing import beside, write_text

COMPARED = ("hirescam", "layercam", "constant", "seen_only")
MASKED = [m for m in FAITHFULNESS.values() if m.asks in ("kept", "removed", "deleted", "inserted")]
PLACED = [LOCALISATION[name] for name in ("energy_inside", "pointing", "mask_iou", "box_iou")]
MEASURED = {m.name: m for m in (LEAKAGE["leak_mass"], *PLACED, *MASKED)}
SEEN_OBJECT = 1


@dataclass(frozen=True)
class RepairRun:
    """What repairs cost.

    Args:
        model: model.safetensors of a walled net.
        images: a generated image set, with object masks.
        count: images, from the first on.
        batch_size: images at once.
        seed: of every draw by chance.
        out: where repairs.parquet and figures/ go.
        docs: where repairs.md goes.
    """

    model: str = "runs/reproduce/walled/model.safetensors"
    images: str = "runs/reproduce/data/stack_mix"
    count: int = 100
    batch_size: int = 20
    seed: int = 0
    out: str = "runs/reproduce"
    docs: str = "docs"


def main(options: RepairRun) -> None:
    net = models.load(options.model)
    require_wall(net, None)
    certify(net).raise_if_broken()
    images = open_images(options.images, net.image_size[0])
    if not isinstance(images, ImageSet):
        raise ValueError(f"{options.images} has no object masks; give a set made by python -m data_gen")
    out, docs = writable(options.out), Path(options.docs)
    rows = measured(net, images, options)
    with beside(out / "repairs.parquet") as partial:
        rows.to_parquet(partial, index=False)
    figures = plots.save(plots.repairs(rows), out / "figures" / "repairs")
    docs.mkdir(parents=True, exist_ok=True)
    shutil.copy(figures[1], docs / "repairs.png")
    write_text(docs / "repairs.md", page(rows, setting(net, images, options)))
    print(verdicts(rows))
    print(f"rows are in {out}, the page is {docs / 'repairs.md'}")


# -- measuring ------------------------------------------------------------------------------------


def pairs() -> list[tuple[Method, Method]]:
    """(repair, base), in the order of the registry."""
    return [(method, METHODS[method.repairs]) for method in METHODS.values() if method.repairs]


def compared(net: models.BlindNet) -> list[Method]:
    """Bases, repairs and what stands beside them, each once; those that are defined on the net."""
    names = dict.fromkeys([m.name for pair in pairs() for m in pair] + list(COMPARED))
    return [METHODS[name] for name in names if not METHODS[name].refuses(net)]


def measured(net: models.BlindNet, images: ImageSet, options: RepairRun) -> pd.DataFrame:
    """One row per image, method and metric; all on the image."""
    count, tables = min(options.count, len(images)), []
    with progress_bar() as tell:
        for start in range(0, count, options.batch_size):
            part = slice(start, min(start + options.batch_size, count))
            evidence = Evidence(net, images.images(part), seed=options.seed)
            inside = torch.from_numpy(np.array(images.masks[part]) == SEEN_OBJECT)
            for method, metric, values in batch(evidence, inside):
                table = pd.DataFrame({"image": range(part.start, part.stop), "value": values.double().numpy()})
                tables.append(table.assign(method=method, metric=metric, target=evidence.targets.numpy()))
            tell(part.stop, count, "repairs")
    view = dict(net="walled", images=images.name, view="rectified", on="image")
    return sorted_rows([pd.concat(tables).assign(**view)[COLUMNS]])


def batch(evidence: Evidence, inside: Tensor) -> Iterator[tuple[str, str, Tensor]]:
    """(method, metric, values (B,)) for every method and metric; inside (B, H, W): the seen object."""
    regions, size = evidence.regions, evidence.net.image_size
    unseen, counted = (torch.from_numpy(mask.copy()) for mask in (regions.unseen, ~regions.halo))
    before = chances(evidence, torch.ones_like(inside[:, None]))[:, 0]
    for method in compared(evidence.net):
        raw = finite(method, method(evidence))
        bright, answers = (
            upsample(rectify(raw), size),
            asked(evidence, displayed(raw, size), names=[m.asks for m in MASKED]),
        )
        yield method.name, "leak_mass", LEAKAGE["leak_mass"](bright, unseen, counted)
        yield from ((method.name, metric.name, metric(bright, inside)) for metric in PLACED)
        yield from ((method.name, metric.name, metric(before, answers[metric.asks])) for metric in MASKED)


# -- the page -------------------------------------------------------------------------------------


def values_of(rows: pd.DataFrame, method: str, metric: str) -> np.ndarray:
    """(N,), by image."""
    chosen = rows[(rows["method"] == method) & (rows["metric"] == metric)]
    return chosen.sort_values("image")["value"].to_numpy()


def difference(rows: pd.DataFrame, repair: Method, metric: str) -> dict[str, float]:
    """`interval` of repair less base on the same images; NaN where either map is empty."""
    return interval(values_of(rows, repair.name, metric) - values_of(rows, repair.repairs, metric), DIFFERENCE)


def verdict(found: dict[str, float], metric: str) -> str:
    """Did the repair make it "better" or "worse", does the interval hold 0, or were there "too few" images for one?"""
    if np.isnan(found["low"]):
        return "too few"
    if not (found["low"] > 0 or found["high"] < 0):
        return "same"
    return "better" if (found["mean"] > 0) == (MEASURED[metric].better == "high") else "worse"


def verdicts(rows: pd.DataFrame) -> str:
    """Of all repairs, how many are better, the same and worse than their base, by metric."""
    present = set(rows["method"].unique())
    repairs = [repair for repair, base in pairs() if {repair.name, base.name} <= present]
    lines = []
    for metric in MEASURED:
        found = [difference(rows, repair, metric) for repair in repairs]
        said = [verdict(one, metric) for one in found]
        median = np.nanmedian([one["mean"] for one in found])
        lines.append(
            [
                arrowed(metric),
                *(str(said.count(word)) for word in ("better", "same", "worse", "too few")),
                f"{median:+.3f}",
            ]
        )
    return markdown(["measure", "better", "no difference", "worse", "too few images", "median difference"], lines)


def means(rows: pd.DataFrame) -> str:
    lines = []
    for name in plots.in_order(rows["method"].unique()):
        found = [interval(values_of(rows, name, metric)) for metric in MEASURED]
        lines.append([name, *map(told, found)])
    return markdown(["method", *map(arrowed, MEASURED)], lines)


def differences(rows: pd.DataFrame) -> str:
    present, lines = set(rows["method"].unique()), []
    for repair, base in pairs():
        if {repair.name, base.name} <= present:
            found = {metric: difference(rows, repair, metric) for metric in MEASURED}
            lines.append(
                [f"{called(repair.name)} − {called(base.name)}", *(marked(f, metric) for metric, f in found.items())]
            )
    return markdown(["pair", *map(arrowed, MEASURED)], lines)


def marked(found: dict[str, float], metric: str) -> str:
    mark = {"better": "▲ ", "worse": "▼ "}
    return mark.get(verdict(found, metric), "") + told(found, "+.3f")


def setting(net: models.BlindNet, images: ImageSet, options: RepairRun) -> str:
    """What was measured on what, and how much of the object lies where a sealed map is dark though the net sees."""
    count = min(options.count, len(images))
    inside = np.array(images.masks[:count]) == SEEN_OBJECT
    return (
        f"Walled net `{fingerprint(net)[:12]}`, the first {count} images of `{images.name}` "
        f"(`{images.identity['sha256'][:12]}`), the predicted class, seed {options.seed}; deletion and insertion in "
        f"{STEPS} steps, masked pixels 0 in normalised space. The net sees {1 - net.regions.unseen.mean():.0%} of the "
        f"pixels through {net.wall.seen.mean():.0%} of the cells. The halo between the two holds "
        f"{inside[:, net.regions.halo].sum() / inside.sum():.0%} of the seen object: the net reads it, but on no cell of its own."
    )


def page(rows: pd.DataFrame, measured_on: str) -> str:
    command = "python -m experiments.repairs"
    return f"""# What repairs cost

Made by `{command}`; not written by hand. {measured_on}

Means over images with 95 % intervals. ↓ less is better, ↑ more is better. Empty maps have no value and are left out of
the means; their share stands beside. `constant` says nothing; `seen_only` is 1 wherever the net has a cell and knows nothing else.
`average_drop` to `drop_in_deletion` cannot notice what a map says about unseen pixels, apart from its normalisation: a
difference there comes from the map in front of the wall, or from a new maximum that brightens it. They like bright
maps: a constant one has no drop at all. Part of a gain in localisation is arithmetic, since a map that is dark behind
the wall has less to spend elsewhere: what knowing the wall alone is worth stands between `constant` and `seen_only`.

![Leakage against localisation and faithfulness; arrows lead from a method to its repair](repairs.png)

## How many repairs are better or worse than what they repair

By the interval of the paired difference.

{verdicts(rows)}

## Repair less base, paired by image

▲ better, ▼ worse, unmarked where the interval holds 0.

{differences(rows)}

## Means

{means(rows)}
"""


if __name__ == "__main__":
    flags.script("experiments.repairs", main, RepairRun)
