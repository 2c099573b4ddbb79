"""Conceptor-CAM's claim: does the conceptor form of a method keep more of the class than the method itself?

    python -m experiments.conceptor_claim            32 px, three nets, one thread: some ten minutes
    python -m experiments.conceptor_claim --full     on a GPU

Average drop and average increase (Chattopadhyay et al. 2018) of every method on cells and of its conceptor forms: the
aperture of `wallcheck.cams.conceptor` and multiples of it; relations between channels (inter), within them (intra) and both; the
states for and against combined by AND NOT, by OR, or without a Boolean operation. Qian et al. 2022 give relative gains, which
stand beside ours. Leaves rows.parquet in --out (one row per net, image, base and form), and conceptor_claim.md, .png and .json
in --docs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments import flags, small_nets, study
from experiments.conceptor_forms import BASE, FORMS, PLAIN, bases_of, maps_of
from experiments.study import markdown
from wallcheck import plots
from wallcheck.cams import Method
from wallcheck.evidence import Evidence
from wallcheck.maps import displayed
from wallcheck.masking import asked
from wallcheck.metrics import FAITHFULNESS
from wallcheck.numerics import probabilities
from wallcheck.statistics import DIFFERENCE, compare

NAME = "conceptor_claim"
MEASURES = ("average_drop", "average_increase")
FULL = dict(seeds=10, images=500, train_count=20000, epochs=15, dear=True)


@dataclass(frozen=True)
class ConceptorRun(study.NetsRun):
    """Conceptor forms of every base method against the base.

    Args:
        bases: names of methods on cells; none is all.
        dear: with those that run the net some hundreds of times for an image.
    """

    bases: list[str] = field(default_factory=list)
    dear: bool = False
    out: str = "runs/conceptor_claim"


def main(given: ConceptorRun) -> None:
    study.run(NAME, given, FULL, every, answer)


def answer(rows: pd.DataFrame, options: ConceptorRun) -> tuple[Figure, str, dict[str, object]]:
    """Figure, page and what is kept of the answer."""
    values = values_of(rows)
    table, tested = summary(values), tests(values)
    names = ["second", "form", "measure", "p_holm", "rank_biserial", "d", "larger", "smaller"]
    found = dict(forms=table, tests=tested[names].rename(columns={"second": "base"}))
    return plots.conceptor_gains(table, PLAIN), page(table, tested, options), found


# -- measuring ------------------------------------------------------------------------------------


def every(options: ConceptorRun, out: Path, tell: study.Tell) -> Iterator[pd.DataFrame]:
    """seed, image, base, form, average_drop, average_increase; each net and base kept when it is done."""
    nets = Path(options.nets)
    recipe = options.recipe
    pixels = small_nets.image_set("stack_mix", options.images, recipe, nets).images()
    for number, one in enumerate(small_nets.seeds_of(recipe, options.seeds)):
        tell(number, options.seeds, f"training, seed {one.seed}")
        net = small_nets.trained(one, nets)
        ev, bases = Evidence(net, pixels), bases_of(net, options.bases, options.dear)
        for place, base in enumerate(bases):
            tell(number * len(bases) + place, options.seeds * len(bases), f"{base.name}, seed {one.seed}")
            path = out / "parts" / f"{base.name}-{one.digest}.parquet"
            yield study.kept(path, partial(measured, ev, base)).assign(seed=one.seed, base=base.name)


def measured(ev: Evidence, base: Method) -> pd.DataFrame:
    """image, form, average_drop, average_increase; NaN for an empty map, which masks everything."""
    before = ev.of_target(probabilities(ev.logits.double()))
    tables = []
    for form, raw in maps_of(ev, base):
        after = asked(ev, displayed(raw, ev.net.image_size), names=["kept"])["kept"]
        found = {name: FAITHFULNESS[name](before, after).cpu().numpy() for name in MEASURES}
        tables.append(pd.DataFrame(dict(image=range(len(raw)), form=form) | found))
    return pd.concat(tables, ignore_index=True)


# -- telling --------------------------------------------------------------------------------------


Values = dict[tuple[str, str, str], pd.DataFrame]


def values_of(rows: pd.DataFrame) -> Values:
    """(base, form, measure) -> images by nets. An empty map shows nothing of the image: it loses all (drop 1) and wins
    nothing (increase 0), as a published mean over images would count it."""
    worst = {"average_drop": 1.0, "average_increase": 0.0}
    return {
        (base, form, measure): study.wide(part, measure).fillna(worst[measure])
        for (base, form), part in rows.groupby(["base", "form"], sort=False)
        for measure in MEASURES
    }


def summary(values: Values) -> pd.DataFrame:
    """base, form, measure, of_base, of_form, difference (form less base) with interval, gain: relative, with interval.

    The gain of the increase is form / base - 1. A drop cannot fall by more than 100 %, and the paper's gains are up to
    168 %, so the gain of the drop is base / form - 1 here.
    """
    lines = []
    for base in bases_in(values):
        for measure in MEASURES:
            first = values[base, BASE, measure]
            for form in FORMS:
                second = values[base, form, measure]
                over = (first, second) if measure == "average_drop" else (second, first)
                change, gain = study.over_nets((second - first).to_numpy(), DIFFERENCE), study.ratio_of_means(*over)
                line = dict(base=base, form=form, measure=measure, of_base=first.to_numpy().mean())
                line |= dict(of_form=second.to_numpy().mean(), images=len(first), nets=first.shape[1])
                line |= dict(difference=change["mean"], low=change["low"], high=change["high"])
                lines.append(line | {f"gain_{end}": gain[end] - 1 for end in ("mean", "low", "high")})
    return pd.DataFrame(lines)


def bases_in(values: Values) -> list[str]:
    return list(dict.fromkeys(base for base, _, _ in values))


def tests(values: Values) -> pd.DataFrame:
    """`compare` of each form with its base, by measure, over images (each the mean over nets); Holm's correction is over all
    bases of one form and measure."""
    tables = []
    for measure in MEASURES:
        for form in FORMS:
            pairs, columns = [], {}
            for base in bases_in(values):
                names = f"{base}, {form}", base
                pairs.append(names)
                columns |= {
                    name: values[base, which, measure].mean(axis=1)
                    for name, which in zip(names, (form, BASE), strict=True)
                }
            tables.append(compare(pd.DataFrame(columns), pairs).assign(form=form, measure=measure))
    return pd.concat(tables, ignore_index=True)


PAPER = {"average_drop": 0.8839, "average_increase": 0.4314}  # the least of its relative gains


def verdict(table: pd.DataFrame, tested: pd.DataFrame) -> str:
    """What the claim comes to, of the plain form and of the best of all."""
    lines = []
    for measure, least in PAPER.items():
        part = table[table["measure"] == measure]
        plain, sure = part[part["form"] == PLAIN], tested[(tested["measure"] == measure) & (tested["p_holm"] < 0.05)]
        sign = -1 if measure == "average_drop" else 1
        better, worse = (int((sign * side * sure["rank_biserial"] > 0).sum()) for side in (1, -1))
        lines.append(
            f"* {measure}: of {len(plain)} bases {(plain['gain_mean'] >= least).sum()} gain as much as the paper's least "
            f"({100 * least:.2f} %) with `{PLAIN}`, and {(plain['gain_low'] > 0).sum()} gain for sure (95 % interval); of all "
            f"{len(part)} pairs of base and form {better} are better and {worse} worse after correction."
        )
    return "\n".join(lines)


def counted(table: pd.DataFrame, tested: pd.DataFrame) -> str:
    """By form: of all bases how many are better, not told apart and worse after correction, and the median effects."""
    lines = []
    for form in FORMS:
        for measure in MEASURES:
            of = tested[(tested["form"] == form) & (tested["measure"] == measure)]
            sign = -1 if measure == "average_drop" else 1
            sure = of["p_holm"] < 0.05
            better, worse = (int((sure & (sign * side * of["rank_biserial"] > 0)).sum()) for side in (1, -1))
            part = table[(table["form"] == form) & (table["measure"] == measure)]
            gains = part["gain_mean"].dropna()
            spread = f"{relative(gains.median())} [{relative(gains.min())}, {relative(gains.max())}]"
            cells = [better, len(of) - better - worse, worse]
            lines.append(
                [
                    form,
                    measure,
                    *map(str, cells),
                    f"{part['difference'].median():+.3f}",
                    f"{of['rank_biserial'].median():+.2f}",
                    spread,
                ]
            )
    heads = [
        "form",
        "measure",
        "better",
        "not told apart",
        "worse",
        "median difference",
        "median effect (rank-biserial)",
    ]
    return markdown([*heads, "relative gain, median [least, most] of bases"], lines)


def relative(gain: float) -> str:
    """In per cent; there is none where the base has nothing.

    >>> relative(0.5), relative(float("nan"))
    ('+50 %', '–')
    """
    return "–" if gain != gain else f"{100 * gain:+.0f} %"


def each_base(table: pd.DataFrame, tested: pd.DataFrame) -> str:
    lines = []
    for base in plots.in_order(table["base"].unique()):
        cells = []
        for measure in MEASURES:
            line = table[(table["base"] == base) & (table["measure"] == measure) & (table["form"] == PLAIN)].iloc[0]
            test = tested[(tested["second"] == base) & (tested["measure"] == measure) & (tested["form"] == PLAIN)].iloc[
                0
            ]
            cells += [f"{line['of_base']:.3f} → {line['of_form']:.3f}"]
            cells += [study.span(line["difference"], line["low"], line["high"]), f"{test['p_holm']:.2g}"]
            cells += [f"{test['rank_biserial']:+.2f}", relative(line["gain_mean"])]
        lines.append([base, *cells])
    kinds = ("drop", "increase")
    heads = [
        f"{kind}{part}" for kind in kinds for part in ("", ": difference", ": p (Holm)", ": effect", ": relative gain")
    ]
    return markdown(["base", *heads], lines)


def page(table: pd.DataFrame, tested: pd.DataFrame, options: ConceptorRun) -> str:
    return f"""# Conceptor-CAM's claim: drop and increase of conceptor forms

{study.made_by(NAME, options)}

{table["base"].nunique()} methods on cells and their conceptor forms, on {options.images} images of `stack_mix` and {options.seeds}
trained nets ({options.train_count} images, {options.epochs} epochs), explaining the predicted class; maps as displayed, stretched to
[0, 1]. Differences are form less base on the same image and net, with 95 % intervals over images and nets (crossed). Tests are
Wilcoxon's over images (each the mean over nets), Holm-corrected over the bases of a form; the effect is the rank-biserial
correlation, -1 (form always lower) to 1. For the drop less is better, for the increase more. An empty map counts as a drop of 1.

The paper reports relative gains over its best competitor on ILSVRC2012 of 43.14 to 72.79 % (increase) and 88.39 to 168.15 %
(drop); its full text was not at hand, so forms are ours (`wallcheck/cams/conceptor/methods.py`). Our relative gain is
form / base - 1 for the increase and base / form - 1 for the drop, which cannot fall by more than 100 % of itself.

{verdict(table, tested)}

![Drop and increase of conceptor forms less their base's](conceptor_claim.png)

## By form: how many bases it serves

{counted(table, tested)}

## By base: `{PLAIN}` at the best aperture

{each_base(table, tested)}
"""


if __name__ == "__main__":
    flags.script(f"experiments.{NAME}", main, ConceptorRun)
