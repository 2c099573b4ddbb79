"""The paper's network on rendered images: which methods are audited on how many of them, and the page that tells what came out.

Run by `python -m experiments.reproduce --preset vgg16_walls`. The paper's methods are audited on all images, on the walled net and on
its twin without a wall; every other method on a share of them, on the walled net alone, the smaller the more forwards it takes.
"""

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from experiments import study
from experiments.stages import Job, at_once, command_of
from experiments.twins import BATCH, latest
from wallcheck import plots
from wallcheck.cams import CONTROLS, METHODS, PAPER
from wallcheck.metrics import LEAKAGE
from wallcheck.models import BlindNet
from wallcheck.results import Manifest, open_rows, rows_of
from wallcheck.statistics import told
from wallcheck.tables import masses

NAME = "vgg16_walls"
SETS = {"stack_mix": "STACK-MIX", "stack_gen": "STACK-GEN"}
# Taimeskhanov, Sicre and Garreau 2024, Table 1: Grad-CAM on the masked VGG16, STACK-GEN; a constant map on its geometry.
KNOWN = dict(method="gradcam", images="stack_gen", mean=0.22, spread=0.12, constant=0.491)
FIGURES = ("main", "leakage", "leakage_displayed", "sources", "training")
TOLD = (("leak_l2", "displayed"), ("leak_mass", "rectified"))  # metric and view of what the page tells
EXAMPLES = 2  # images whose maps are kept: the main figure shows the second
BUDGET_MB = 4096  # of a GPU, where four audits run at once

# Masked images or whole passes a method takes, and one of how many images it is audited on.
CHEAP, COSTLY, TENFOLD = "every", "costly", "tenfold"
SHARES = {CHEAP: 5, COSTLY: 25, TENFOLD: 50}
MANY_PASSES, PER_CHANNEL, TEN_MASKS = 100, 0.2, 10


@dataclass(frozen=True)
class Part:
    """One audit: some methods on the first `count` images of each set, with the twin or without."""

    name: str
    methods: list[str]
    count: int
    with_twin: bool = False


def cost_of(cost: str) -> str:
    """What a method's cost (`wallcheck methods`) comes to: a hundred passes or more, or more than a mask for every fifth channel,
    are COSTLY; ten masks a channel are TENFOLD.

    >>> [cost_of(text) for text in ("1F+1b", "1F+100(F+B)", "1F+1b+K/10 F", "1F+K F", "2F+1B+sum_l K_l/4 F", "1F+10K F")]
    ['every', 'costly', 'every', 'costly', 'costly', 'tenfold']
    """
    found = CHEAP
    for number, channels, share in re.findall(r"(\d*)\s*(sum_l K_l|K)?(?:/(\d+))?\s*\(?F", cost):
        passes = int(number or 1) / int(share or 1)
        if channels and passes >= TEN_MASKS:
            return TENFOLD
        if (channels and passes > PER_CHANNEL) or (not channels and passes >= MANY_PASSES):
            found = COSTLY
    return found


def parts_of(net: BlindNet, count: int) -> list[Part]:
    """The audits of `count` images: the paper's methods, and every other one that is defined on the net; those that would get no image
    are left out."""
    groups: dict[str, list[str]] = {name: [] for name in SHARES}
    for method in METHODS.values():
        if method.name not in (*PAPER, *CONTROLS) and not method.refuses(net):
            groups[cost_of(method.cost)].append(method.name)
    parts = [Part("paper", [*PAPER, *CONTROLS], count, with_twin=True)]
    parts += [Part(name, methods, count // SHARES[name]) for name, methods in groups.items()]
    return [part for part in parts if part.count and part.methods]


def audit_all(parts: Iterable[Part], out: Path, data: Path, seed: int, device: str) -> int:
    """All audits: at once on a GPU, where each leaves room for others, and one after another on a CPU."""
    jobs = {part.name: Job(audit_of(part, out, data, seed, device), out / part.name / "log.txt") for part in parts}
    if device == "gpu":
        return at_once({f"audit {name}": job for name, job in jobs.items()})
    return max(at_once({f"audit {name}": job}) for name, job in jobs.items())


def audit_of(part: Part, out: Path, data: Path, seed: int, device: str) -> list[str]:
    budget = dict(budget_mb=BUDGET_MB) if device == "gpu" else {}
    return command_of(
        "experiments.audit",
        walled=out / "walled/model.safetensors",
        unwalled=out / "unwalled/model.safetensors" if part.with_twin else None,
        untrained="false",
        data=data,
        sets=list(SETS),
        methods=part.methods,
        metrics=list(LEAKAGE),
        count=part.count,
        examples=EXAMPLES if part.with_twin else 0,
        seed=seed,
        accelerator=device,
        devices=1,
        out=out / part.name,
        **budget,
    )


# -- what came out -----------------------------------------------------------------------------------


def in_all(out: Path, parts: Iterable[Part]) -> pd.DataFrame:
    """Of all audits the rows that the page tells, and no others."""
    asked = [open_rows(out / part.name).where(lambda one: (one.metric, one.view) in TOLD) for part in parts]
    return pd.concat([rows.table() for rows in asked], ignore_index=True)


def measured(rows: pd.DataFrame) -> pd.DataFrame:
    """net, images, method, metric ("leak_l2" as displayed, "leak_mass" on cells, or pixels where a method has none), mean, low,
    high, std, count, empty."""
    displayed = rows_of(rows).select(metric="leak_l2", view="displayed")
    tables = [part.summary(["net", "images", "method", "metric"]) for part in (displayed, masses(rows))]
    return pd.concat(tables, ignore_index=True)


def publish(options: study.Options, parts: list[Part], seconds: dict[str, float]) -> Path:
    """The page, its figures and its manifest in OUT/page, and in --docs too where that is given; returns OUT/page."""
    out = Path(options.out)
    rows, manifest = in_all(out, parts), Manifest.load(out / "paper")
    manifest = replace(manifest, config=study.settings_of(options))
    table = measured(rows)
    accuracies = {name: latest(out / name)[1] for name in ("walled", "unwalled")}
    audited = {part.name: dict(count=part.count, methods=part.methods) for part in parts}
    found = dict(table=table, accuracies=accuracies, seconds=seconds, audited=audited, known=KNOWN)
    text = page(options, table, parts, accuracies, seconds, manifest.device)
    folder = out / "page"
    study.publish(NAME, replace(options, docs=str(folder)), manifest, plots.families(rows), text, found)
    (folder / NAME).mkdir(exist_ok=True)
    for name in FIGURES:
        shutil.copy(out / "figures" / f"{name}.png", folder / NAME)
    if options.docs:
        shutil.copytree(folder, options.docs, dirs_exist_ok=True)
    return folder


def page(
    options: study.Options,
    table: pd.DataFrame,
    parts: list[Part],
    accuracies: dict[str, float | None],
    seconds: dict[str, float],
    device: str,
) -> str:
    nets = ", ".join(f"{'not measured' if a is None else f'{a:.1%}'} {name}" for name, a in accuracies.items())
    steps = options.epochs * (options.train_count // BATCH)
    times = ", ".join(f"{name} {spent:.0f} s" for name, spent in seconds.items())
    return "\n".join(
        [
            "# The paper's network, trained and audited",
            "",
            f"The VGG16 of Taimeskhanov, Sicre and Garreau (2024) behind their wall, and its twin without one, trained here on "
            f"{options.train_count:,} rendered images of ten classes at 224 px ({steps:,} step{'s' * (steps != 1)} of {BATCH}): "
            f"validation accuracy {nets}. "
            f"{int(options.count)} image{'s' * (options.count != 1)} of each set; the predicted class is explained. {device}: {times}.",
            "",
            study.made_by("reproduce", options),
            "",
            "## Beside the paper's value",
            "",
            beside_the_paper(table),
            "",
            "± is the standard deviation over images. What differs: the paper's network knows ImageNet's 1000 classes and its images show "
            "such things; here are ten classes of rendered solids, told apart by shape, and one scene with two of a class. Other "
            "images and other classes make other weights, so the two numbers need not agree. Network, wall, unseen pixels, view and "
            "measure are the paper's; the constant map, whose value depends on nothing else, shows that.",
            "",
            "## The paper's methods",
            "",
            "Share of the map's L2 norm on unseen pixels, as displayed (the paper's measure), and share of positive attribution on "
            "unseen cells; mean and 95 % interval over images.",
            "",
            paper_table(table),
            "",
            f"![Leakage of each image as displayed]({NAME}/leakage_displayed.png)",
            "",
            f"![One image and its maps]({NAME}/main.png)",
            "",
            *every_method(table, parts),
        ]
    )


def beside_the_paper(table: pd.DataFrame) -> str:
    known = f"{KNOWN['method']}, {SETS[KNOWN['images']]}, walled, L2 share as displayed"
    ours, constant = (one_of(table, "walled", KNOWN["images"], name, "leak_l2") for name in ("gradcam", "constant"))
    spread = f" ± {ours['std']:.2f}" if pd.notna(ours["std"]) else ""  # one image has none
    lines = [
        [known, f"{KNOWN['mean']} ± {KNOWN['spread']}", f"{ours['mean']:.2f}{spread}", told(ours)],
        ["a constant map", f"{KNOWN['constant']}", f"{constant['mean']:.3f}", told(constant)],
    ]
    return study.markdown(["", "paper", "here", "95 % interval of the mean"], lines)


def paper_table(table: pd.DataFrame) -> str:
    heads, places = ["method", "family"], []
    for metric, what in (("leak_l2", "L2 share"), ("leak_mass", "mass")):
        for images, called in SETS.items():
            places.append(("walled", images, metric))
            heads.append(f"{called}: {what}")
    heads.append("twin without a wall, STACK-GEN: L2 share")
    places.append(("unwalled", "stack_gen", "leak_l2"))
    lines = [
        [
            name,
            METHODS[name].family,
            *(told(one_of(table, net, images, name, metric)) for net, images, metric in places),
        ]
        for name in (*PAPER, "constant", "random")
    ]
    return study.markdown(heads, lines)


def every_method(table: pd.DataFrame, parts: list[Part]) -> list[str]:
    """The section of all other methods; nothing where none was audited."""
    others = [part for part in parts if part.name in SHARES]
    if not others:
        return []
    counts = {method: part.count for part in others for method in part.methods}
    lines = [
        [name, METHODS[name].family, METHODS[name].verdict, METHODS[name].cost, str(counts[name])]
        + [told(one_of(table, "walled", images, name, "leak_mass")) for images in SETS]
        for name in plots.in_order(counts)
    ]
    shares = "; ".join(f"{part.count} for {len(part.methods)} methods ({WHAT[part.name]})" for part in others)
    heads = ["method", "family", "expected", "cost", "images", *(f"{called}: mass" for called in SETS.values())]
    return [
        "## Every other method",
        "",
        f"On the walled net. Images of each set: {shares}. Share of positive attribution on unseen cells, or on unseen pixels for "
        "maps of pixels.",
        "",
        study.markdown(heads, lines),
        "",
        f"![Leakage of every method, by family]({NAME}.png)",
        "",
    ]


WHAT = {
    CHEAP: "fewer than a hundred passes",
    COSTLY: "a mask a channel or a hundred passes",
    TENFOLD: "ten masks a channel",
}


def one_of(table: pd.DataFrame, net: str, images: str, method: str, metric: str) -> dict[str, float]:
    """One line of `measured`; all empty where there is none, as where a method gave no map."""
    wanted = dict(net=net, images=images, method=method, metric=metric)
    found = table[(table[list(wanted)].astype(str) == pd.Series(wanted)).all(axis=1)]
    if found.empty:
        return dict(mean=float("nan"), low=float("nan"), high=float("nan"), std=float("nan"), count=0, empty=1.0)
    return found.iloc[0].to_dict()
