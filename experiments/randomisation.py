"""Model randomisation: is a map made of what the net has learnt? Weights are drawn anew, layer by layer.

    python -m experiments.randomisation --model runs/reproduce/walled/model.safetensors \\
        --images runs/reproduce/data/stack_mix --out runs/reproduce

Cascading (all layers from the logits down to this one) and independent (this layer alone), Adebayo et al. 2018. Every
map explains the class that the trained net predicts, and is compared with the trained net's map by the measures of
`wallcheck.similarity`; its leakage stands beside. Leaves randomisation.parquet (one row per mode, stage, method,
measure and image) and figures/randomisation.* in --out, and randomisation.md with its figure in --docs. On vgg_small with
6 methods and 32 images some 2 minutes on two cores.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from experiments import flags
from experiments.study import markdown
from wallcheck import models, plots
from wallcheck.cams import METHODS, Method
from wallcheck.certificate import fingerprint
from wallcheck.data import open_images
from wallcheck.evidence import Evidence
from wallcheck.maps import rectify, upsample
from wallcheck.metrics import LEAKAGE
from wallcheck.randomising import MODES, stages
from wallcheck.results import writable
from wallcheck.similarity import MEASURES, similarities
from wallcheck.statistics import SHARE, interval, told
from wallcheck.tables import progress_bar
from wallcheck.writing import beside, write_text

TRAINED = "trained"


@dataclass(frozen=True)
class RandomisationRun:
    """Is a map made of what the net has learnt?

    Args:
        model: model.safetensors.
        images: an image set or a folder of photographs.
        methods: names of methods.
        count: images, from the first on.
        batch_size: images at once.
        seed: of every draw by chance.
        out: where randomisation.parquet and figures/ go.
        docs: where randomisation.md goes.
    """

    model: str = "runs/reproduce/walled/model.safetensors"
    images: str = "runs/reproduce/data/stack_mix"
    methods: list[str] = field(
        default_factory=lambda: ["gradcam", "hirescam", "layercam", "eigencam", "guidedbp", "random"]
    )
    count: int = 32
    batch_size: int = 16
    seed: int = 0
    out: str = "runs/reproduce"
    docs: str = "docs"


def main(options: RandomisationRun) -> None:
    net = models.load(options.model)
    images = open_images(options.images, net.image_size[0])
    methods = [METHODS[name] for name in options.methods]
    out, docs = writable(options.out), Path(options.docs)
    pixels = images.images(slice(0, min(options.count, len(images))))
    rows = measured(net, pixels, methods, options)
    with beside(out / "randomisation.parquet") as partial:
        rows.to_parquet(partial, index=False)
    figures = plots.save(plots.randomisation(rows), out / "figures" / "randomisation")
    docs.mkdir(parents=True, exist_ok=True)
    shutil.copy(figures[1], docs / "randomisation.png")
    where = f"Net `{fingerprint(net)[:12]}`, the first {len(pixels)} images of `{images.name}`, seed {options.seed}."
    write_text(docs / "randomisation.md", page(rows, where))
    print(f"rows are in {out}, the page is {docs / 'randomisation.md'}")


def measured(net: models.BlindNet, images: Tensor, methods: list[Method], options: RandomisationRun) -> pd.DataFrame:
    """One row per mode, stage, method, measure and image; stage 0 is the net itself."""
    evidence = [Evidence(net, part, seed=options.seed) for part in images.split(options.batch_size)]
    before = {method.name: [method(ev) for ev in evidence] for method in methods}
    tables = []
    with progress_bar() as tell:
        for mode in MODES:
            every = [(TRAINED, net), *stages(net, mode, options.seed)]
            for stage, (layer, other) in enumerate(every):
                for method in methods:
                    found = against(other, evidence, method, before[method.name])
                    tables += [pd.DataFrame(one).assign(mode=mode, stage=stage, layer=layer) for one in found]
                tell(stage + 1, len(every), mode)
    return pd.concat(tables, ignore_index=True)


def against(
    other: models.BlindNet, evidence: list[Evidence], method: Method, before: list[Tensor]
) -> Iterator[dict[str, object]]:
    """Columns method, measure, image, value of one randomised net, batch by batch."""
    start = 0
    for ev, first in zip(evidence, before, strict=True):
        after = method(Evidence(other, ev.images, ev.targets, seed=ev.seed))
        values = similarities(first, after, ev.net.image_size)
        if not ev.wall.is_open:
            values["leak_mass"] = leaked(ev, after)
        numbers = range(start, start + len(first))
        for measure, value in values.items():
            yield dict(method=method.name, measure=measure, image=numbers, value=value.double().cpu().numpy())
        start += len(first)


def leaked(ev: Evidence, raw: Tensor) -> Tensor:
    """leak_mass of the rectified map, on cells where it has them."""
    if raw.shape[1:] == ev.unseen.shape:
        return LEAKAGE["leak_mass"](raw, ev.unseen, torch.ones_like(ev.unseen))
    unseen, halo = (torch.from_numpy(region.copy()).to(raw.device) for region in (ev.regions.unseen, ev.regions.halo))
    return LEAKAGE["leak_mass"](upsample(rectify(raw), ev.net.image_size), unseen, ~halo)


def table(rows: pd.DataFrame, mode: str) -> str:
    """Means with intervals once all layers of a mode are drawn anew; independent ones: the layer that changes least."""
    of_mode = rows[(rows["mode"] == mode) & (rows["stage"] > 0)]
    if mode == "cascading":
        of_mode = of_mode[of_mode["stage"] == of_mode["stage"].max()]
    measures = [measure for measure in (*MEASURES, "leak_mass") if measure in set(of_mode["measure"])]
    lines = []
    for name in plots.in_order(of_mode["method"]):
        cells = []
        for measure in measures:
            part = of_mode[(of_mode["method"] == name) & (of_mode["measure"] == measure)]
            cells.append(
                told(
                    interval(part.groupby("image")["value"].max().to_numpy(), SHARE if measure == "leak_mass" else None)
                )
            )
        lines.append([name, *cells])
    return markdown(["method", *measures], lines)


def page(rows: pd.DataFrame, measured_on: str) -> str:
    explained = "\n".join(f"* `{name}`: {meaning}." for name, meaning in MEASURES.items())
    return f"""# Model randomisation

Made by `python -m experiments.randomisation`; not written by hand. {measured_on}

Weights are drawn anew, from the logits down (cascading) or a layer at a time (independent), and each map is compared with
the trained net's, which explains the same class. A map that stays similar is made of the image, not of what the net
has learnt. `random` does not depend on the net at all and stays the same. Means over images with 95 % intervals.

{explained}
* `leak_mass`: share of positive attribution on what the net cannot see, by the changed net's map.

![Similarity to the trained net's map, by layers drawn anew](randomisation.png)

## All layers drawn anew

{table(rows, "cascading")}

## One layer drawn anew: the most similar map of any layer

{table(rows, "independent")}
"""


if __name__ == "__main__":
    flags.script("experiments.randomisation", main, RandomisationRun)
