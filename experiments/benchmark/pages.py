"""The benchmark as a page and as bars."""

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.benchmark.duels import FORWARD, Duel
from experiments.benchmark.kept import FILE, Kept, Measured, Terms
from wallcheck.cams import called
from wallcheck.memory import BUDGET_MB
from wallcheck.plots._style import BLUE, GREEN, GREY, ORANGE

COLOURS = {"pytorch_grad_cam": ORANGE, "torchcam": BLUE, "captum": GREEN}
HATCHES = {"pytorch_grad_cam": "", "torchcam": "/////", "captum": "....."}  # told apart without colour too
LABELS = {"pytorch_grad_cam": "pytorch-grad-cam", "torchcam": "torchcam", "captum": "captum"}

LIBRARIES = ("torch", "grad-cam", "torchcam", "captum")
WORDS = {
    "exact": "full float32 in ours and theirs",
    "fast": "TF32 in ours and theirs, bfloat16 in our rescoring of images; *error*: how far our map is from the exact one, over its peak",
}
BRIEF = (
    "Of the masked images of a rescoring method the first four portions go through the features and the others are given "
    "copies of what came out, which holds as much and takes a fraction of the time (`--full` runs all):"
)


CLOCK = {
    "wall": "Seconds are those that pass",
    "processor": "Seconds are those of the processor, which others on the machine do not lengthen",
}


def markdown(kept: Kept) -> str:
    page = [
        "# Benchmark",
        "",
        "Made by `python -m experiments.benchmark`. Seconds are medians per image, all work from the image on, ratios are taken within "
        "rounds of alternating runs: median (smallest-largest). *Difference*: largest between the maps in the library's own form, as a "
        "share of the peak; what is behind those above 0.001 stands in docs/disagreements.md. *Times faster* below 1: theirs is faster.",
    ]
    if kept.hidden:
        page[-1] += f" Sections on earlier terms are kept in {FILE} and not shown: {kept.hidden}."
    for one in kept.shown:
        page += [*_section(one)]
    return "\n".join(page) + "\n"


def _section(one: Measured) -> list[str]:
    terms = one.terms
    threads = f"{terms.threads} thread{'s' * (terms.threads > 1)}"
    forward = next((d.seconds[1] for d in one.duels if d.ours and d.against == FORWARD), None)
    lines = [
        "",
        f"## {terms.net} on {terms.device}, {terms.precision}: {terms.batch} images at once, {threads}",
        "",
        f"{_machine(one)} {CLOCK[terms.clock]}. Precision: {WORDS[terms.precision]}. A large matrix product or convolution runs at "
        f"{one.rate / 1e9:.0f} GFLOP/s here, one forward to the target layer takes {one.operations / 2e9:.3g} G multiply-adds: not "
        f"under {one.limit:.2g} s per image by that rate.",
    ]
    if forward:
        lines[-1] += f" Measured {forward:.2g} s, {forward / one.limit:.2f} times the limit."
    if one.missing:
        lines += ["", f"**Not measured yet**, {len(one.missing)} of {len(one.works)}: {', '.join(one.missing)}."]
    return [*lines, *_tables(one), *_memory(one)]


def _machine(one: Measured) -> str:
    """Where and by which versions, and how busy the machine was."""
    libraries = [f"{name} {one.terms.versions[name]}" for name in LIBRARIES if name in one.terms.versions]
    loads = [found.load for found in one.found.values()]
    where = " and ".join(filter(None, [one.terms.gpu, one.terms.machine]))
    return f"{where}, load {min(loads):.1f} to {max(loads):.1f}; {', '.join(libraries)}."


def _tables(one: Measured) -> list[str]:
    suite = [d for d in one.duels if d.ours and d.difference is None]
    methods = [d for d in one.duels if d not in suite]
    lines = []
    if suite:
        lines += [
            "",
            "| what | against | seconds | its seconds | times its time | times faster |",
            "|---|---|---|---|---|---|",
        ]
        lines += [f"| {d.name} | {d.against} | {_seconds(d)} | {d.share} | {d.speedup} |" for d in suite]
    if methods:
        lines += [
            "",
            "| method | library | images | rounds | seconds, ours | theirs | times faster | difference | error | |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_row(d) for d in methods]
    return lines


def _memory(one: Measured) -> list[str]:
    if not one.memory:
        return []
    about = f"Memory above the loaded model at its peak, {one.terms.batch} images at once, budget {_budget(one.terms)}."
    rows = [f"| {what} | {mb:.0f} |" for what, mb in one.memory.items()]
    return ["", about if one.terms.full else f"{about} {BRIEF}", "", "| what | MiB |", "|---|---|", *rows]


def _row(duel: Duel) -> str:
    if not duel.ours:
        return f"| `{duel.name}` | {duel.against} | {duel.images} | | | | | | | {duel.note} |"
    error = "" if duel.error is None else f"{duel.error:.0e}"
    measured = f"{_seconds(duel)} | {duel.speedup} | {duel.difference:.0e} | {error}"
    return f"| `{duel.name}` | {duel.against} | {duel.images} | {len(duel.ours)} | {measured} | {duel.note} |"


def _budget(terms: Terms) -> str:
    given = BUDGET_MB if terms.budget_mb is None and terms.device == "cpu" else terms.budget_mb
    return "by free memory" if given is None else f"{given:g} MiB"


def _seconds(duel: Duel) -> str:
    return " | ".join(f"{value:.2g}" for value in duel.seconds)


def chart(found: list[Measured]) -> Figure | None:
    """How many times faster, one bar per method and library, the range of the rounds as a line; None without any."""
    panels = [(one, duels) for one in found if (duels := [d for d in one.duels if d.ours and library_of(d)])]
    if not panels:
        return None
    longest = max(len(duels) for _, duels in panels)
    figure = Figure(figsize=(4.2 * max(len(panels), 1.5), 1.2 + 0.19 * longest), layout="constrained")
    for axes, (one, duels) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _bars(axes, duels)
        axes.set_title(f"{one.terms.net}, {one.terms.device}, {one.terms.precision}", loc="left", fontsize=9)
    handles = [
        Patch(facecolor=colour, edgecolor="white", hatch=HATCHES[library], label=LABELS[library])
        for library, colour in COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def library_of(duel: Duel) -> str | None:
    """The library a duel is against; None for one against our own forward."""
    start = duel.against.partition(".")[0].partition(",")[0]
    return {label: name for name, label in LABELS.items()}.get(start, start if start in COLOURS else None)


def _bars(axes, duels: list[Duel]) -> None:
    ratios = [duel.speedup for duel in duels]
    bars = axes.barh(
        range(len(duels)),
        [r.middle - 1 for r in ratios],
        left=1,  # as fast as the other
        xerr=[[r.middle - r.low for r in ratios], [r.high - r.middle for r in ratios]],
        color=[COLOURS[library_of(duel)] for duel in duels],
        edgecolor="white",
        linewidth=0,
        error_kw=dict(lw=0.8, ecolor=GREY),
    )
    for bar, duel in zip(bars, duels, strict=True):
        bar.set_hatch(HATCHES[library_of(duel)])
    for place, found in enumerate(ratios):
        axes.text(max(found.high, 1) * 1.1, place, f"{found.middle:.3g}", va="center", fontsize=6.5)
    axes.set_yticks(range(len(duels)), [called(duel.name) for duel in duels], fontsize=7)
    axes.set_ylim(len(duels) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.axvline(1, color="black", lw=0.8)
    axes.set_xlim(min((r.low for r in ratios), default=1) * 0.8, max((r.high for r in ratios), default=1) * 2.5)
    axes.set_xlabel("times faster than", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
