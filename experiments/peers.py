"""Every explainer of every installed library on one trained net: leakage, what its view adds, parity with ours, what it leaves behind.

    python -m experiments.peers            the net and the images that `make reproduce` leaves

Libraries: pytorch-grad-cam, torchcam, captum, zennit, Quantus (`pip install 'wallcheck[peers]'`). Each explainer comes through the door
that a user's own comes through (`wallcheck.adapters.foreign`). What is finished is kept, and an interrupted run goes on. Leaves
rows.parquet in --out, and peers.md, .png and .json in --docs.
"""

import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from experiments import flags, study
from experiments.disagreements.settling import gap
from experiments.study import markdown
from wallcheck import adapters, plots
from wallcheck.certificate import certify
from wallcheck.data import ImageSet
from wallcheck.evidence import Evidence
from wallcheck.maps import displayed, rectify
from wallcheck.models import BlindNet
from wallcheck.numerics import unit_range
from wallcheck.reading import Reading, Unreadable, reading_on
from wallcheck.results import file_name
from wallcheck.statistics import percent, told
from wallcheck.study import images_for
from wallcheck.tables import progress_bar
from wallcheck.testing import net_named

NAME = "peers"
EQUAL = 1e-3  # of the peak; rounding leaves 1e-6 to 1e-4
OURS = {
    f"{library}.{theirs}": ours
    for ours, known in adapters.COUNTERPARTS.items()
    for library, theirs, options in known
    if (not options or ours in ("gradient", "integrated_gradients")) and theirs != "SESS"  # fewer scales here
} | {
    "captum.Saliency": None,  # absolute values
    "captum.Deconvolution": "deconvolution",
    "zennit.Gradient": "gradient",
    "zennit.guided_backprop": "guidedbp",
    "zennit.deconvnet": "deconvolution",
    "quantus.Gradient": "gradient",
    "quantus.InputXGradient": "inputxgradient",
    "quantus.DeepLift": "deeplift",
    "quantus.Deconvolution": "deconvolution",
    "quantus.LayerGradCam": "gradcam",
    "quantus.LayerGradientXActivation": "hirescam",
}


@dataclass(frozen=True)
class PeersRun:
    """Every explainer of other libraries on one trained net.

    Args:
        model: model.safetensors of a walled net, or one that comes with wallcheck, assets:plain.
        images: a generated image set, or assets:stack_mix.
        count: images, from the first on.
        seed: of every draw.
        methods: names, "captum.Saliency" say; every one if none is given.
        out: the run folder.
        docs: where the page, its figure and its manifest go.
    """

    model: str = "runs/reproduce/walled/model.safetensors"
    images: str = "runs/reproduce/data/stack_mix"
    count: int = 20
    seed: int = 0
    methods: list[str] = field(default_factory=list)
    out: str = "runs/peers"
    docs: str = "docs/results"


def main(options: PeersRun) -> None:
    net = net_named(options.model)
    certify(net).raise_if_broken()
    images = images_for(net, options.images)
    if not isinstance(images, ImageSet):
        raise ValueError(f"{options.images} has no labels of its own; give a set made by python -m data_gen")
    out, manifest = study.claimed(options)
    shown = images.images(slice(0, options.count))
    rows = measured(net, shown, options.methods or list(adapters.peers()), options.seed, out)
    rows.to_parquet(out / "rows.parquet", index=False)
    study.publish(
        NAME, options, manifest, plots.peers(rows), page(rows, options, setting(net, images)), dict(peers=rows)
    )
    print(f"rows are in {out}, the page is {Path(options.docs) / (NAME + '.md')}")


def setting(net: BlindNet, images: ImageSet) -> str:
    """The net in words: its size, how often it is right on the set, and what it cannot see."""
    with torch.no_grad():
        predicted = torch.cat([net(part).argmax(1) for part in images.images().split(50)])
    right = float((predicted.numpy() == np.array(images.labels)).mean())
    pixels, cells = net.regions.unseen.mean(), net.wall.unseen.mean()
    return (
        f"a net for {net.image_size[0]} px ({percent(right)} right on all {len(images)} images of the set), of which {percent(pixels)} of"
        f" the pixels and {percent(cells)} of the cells are unseen"
    )


def measured(net: BlindNet, images: Tensor, names: list[str], seed: int, out: Path) -> pd.DataFrame:
    """A row for each explainer, kept when it is done."""
    ev, tables = Evidence(net, images, seed=seed), []
    with progress_bar() as tell:
        for number, name in enumerate(names):
            tell(number, len(names), name)
            peer = adapters.Peer.of(name)
            kept = out / "parts" / f"{file_name(name)}-{file_name(peer.version)}.parquet"
            tables.append(study.kept(kept, partial(row, name, peer, ev)))
    return pd.concat(tables, ignore_index=True)


def row(name: str, peer: adapters.Peer, ev: Evidence) -> pd.DataFrame:
    """library, version, name and what was measured; `error` and no numbers where the explainer gives no map of some image."""
    about = dict(library=peer.library, version=peer.version, name=name.partition(".")[2])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is left behind is in the reading
            reading = reading_on(ev, name)
            ours, off = parity(name, ev)
    except Unreadable as error:
        nothing = dict.fromkeys(
            ("value", "low", "high", "empty", "came", "artefact", "bleed", "constant", "parity"), np.nan
        )
        return pd.DataFrame([about | nothing | dict(unit="", view="", left="", ours="", error=str(error))])
    return pd.DataFrame([about | numbers(reading) | dict(parity=off, ours=ours, error="")])


def numbers(reading: Reading) -> dict[str, object]:
    """What a row keeps of a reading."""
    low, high = reading.interval
    kept = {
        name: getattr(reading, name) for name in ("value", "empty", "came", "artefact", "bleed", "constant", "unit")
    }
    return kept | dict(low=low, high=high, view="; ".join(reading.view), left="; ".join(reading.left))


def parity(name: str, ev: Evidence) -> tuple[str, float]:
    """Our method of the same formula and the largest difference of the two maps as a share of the peak, each as the library shows it;
    NaN where we have none. The sign of a singular vector is nobody's choice, so the nearer one counts."""
    known = adapters.methods()
    ours = OURS.get(name) or ""
    if ours not in known:
        return "", np.nan
    door = adapters.foreign(name, ev.net, ev.images).body.handed(ev)
    raw, signed = known[ours](ev), "signed" in door.facts
    signs = (1, -1) if known[ours].family == "subspace" else (1,)
    off = [
        min(gap(*alike(sign * raw[n : n + 1], door.lifted[n : n + 1], signed, ev)) for sign in signs)
        for n in range(len(raw))
    ]
    return ours, max(off)  # of the image that differs most


def alike(ours: Tensor, theirs: Tensor, signed: bool, ev: Evidence) -> tuple[Tensor, Tensor]:
    """Both in the form that the library gives: raw where it is signed, else rectified and stretched."""
    if signed:
        return ours, theirs
    if ours.shape == theirs.shape:
        return unit_range(rectify(ours)), unit_range(theirs)
    return displayed(ours, ev.net.image_size), unit_range(theirs)


# -- telling --------------------------------------------------------------------------------------


def page(rows: pd.DataFrame, options: PeersRun, about: str) -> str:
    applies = rows[rows["error"] == ""]
    leaking = int((applies["value"] > 0).sum())
    return f"""# Other libraries' explainers, as they are

{study.made_by(NAME, options)}

{len(rows)} explainers of {rows["library"].nunique()} libraries on {about}; {options.count} images of
`{Path(options.images).name}`, explaining the predicted class. **{leaking} of the {len(applies)} that apply put positive attribution where the net provably
cannot see; {len(applies) - leaking} put none there.**

*Leakage* is the share of positive attribution on unseen cells, or pixels where a map has no cells, with its 95 % interval over images;
0 is printed for exact zero alone. A constant map scores {_constants(applies)} (the halo, seen past the wall, counts on neither side). *As handed over* is the same of the map as it came;
*artefact* what stretching a signed map to [0, 1] added; *bleed* what enlarging alone shows on unseen pixels: neither is leakage of the
method. Explainers that take tiles or windows of the image away (FeatureAblation, Occlusion, Shapley values, Lime) leak where one reaches
over the wall, and the sampled ones by chance: 50 samples where the default takes minutes. *Parity* is the largest difference from our method of the same formula as a share of the peak, in the library's own form
(`=`: at most {EQUAL:g}; what else differs is settled in [disagreements](../disagreements.md)). *Left behind* is what the library leaves on a model that it was lent, or moves in the process.

![Leakage of every explainer, as handed over and its own]({NAME}.png)

{chr(10).join(section(library, part) for library, part in applies.groupby("library", sort=False))}

## What does not apply to this net

{not_applicable(rows)}
"""


def _constants(rows: pd.DataFrame) -> str:
    found = rows.groupby("unit")["constant"].first()
    return " and ".join(f"{value:.3f} on {unit}" for unit, value in found.items())


def section(library: str, rows: pd.DataFrame) -> str:
    heads = ["method", "on", "leakage", "as handed over", "artefact", "bleed", "parity", "left behind"]
    lines = [
        [
            f"`{one['name']}`",
            one["unit"],
            leak(one),
            digits(one["came"]),
            digits(one["artefact"]),
            digits(one["bleed"]),
            told_parity(one),
            one["left"],
        ]
        for _, one in rows.iterrows()
    ]
    return f"## {library} {rows['version'].iloc[0]}\n\n{markdown(heads, lines)}\n"


def leak(one: pd.Series) -> str:
    if one["value"] == 0:
        return "0" + (f", {percent(one['empty'])} empty" if one["empty"] else "")
    return told(dict(mean=one["value"], low=one["low"], high=one["high"], count=1, empty=one["empty"]))


def digits(value: float) -> str:
    """
    >>> digits(0.0), digits(0.00004), digits(0.1234)
    ('0', '<0.001', '0.123')
    """
    return "0" if value == 0 else "<0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def told_parity(one: pd.Series) -> str:
    if not one["ours"]:
        return ""
    return f"{one['ours']} " + ("=" if one["parity"] <= EQUAL else f"{one['parity']:.2g} off")


def not_applicable(rows: pd.DataFrame) -> str:
    failed = rows[rows["error"] != ""]
    if failed.empty:
        return "Every explainer applies."
    lines = [
        [one["library"], f"`{one['name']}`", one["error"].partition("image 0: ")[2][:200]]
        for _, one in failed.iterrows()
    ]
    return markdown(["library", "method", "what it says"], lines)


if __name__ == "__main__":
    flags.script(f"experiments.{NAME}", main, PeersRun)
