"""One map held against every metric that needs the map alone, as studies of leakage beside other measures ask for it."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wallcheck.data import ImageSet
from wallcheck.evidence import Evidence
from wallcheck.masking import asked
from wallcheck.metrics import COMBINED, CONSISTENCY, FAITHFULNESS, LEAKAGE, LOCALISATION
from wallcheck.numerics import probabilities

SEEN_OBJECT = 1  # in the masks of a rendered set


def seen_object(images: ImageSet) -> Tensor:
    """(N, H, W) Boolean: the labelled object, above the wall."""
    return torch.from_numpy(np.array(images.masks) == SEEN_OBJECT)


def measure(ev: Evidence, bright: Tensor, shown: Tensor, inside: Tensor, imputed: bool = True) -> dict[str, Tensor]:
    """Metric -> values (B,) of maps (B, H, W): `bright` where the map is measured, `shown` where images are masked; imputed:
    with those that fill pixels in."""
    unseen, halo = (torch.from_numpy(r.copy()).to(shown.device) for r in (ev.regions.unseen, ev.regions.halo))
    before = ev.of_target(probabilities(ev.logits.double()))
    faithful = {n: metric for n, metric in FAITHFULNESS.items() if imputed or not metric.asks.endswith("imputed")}
    answers = asked(ev, shown, names=[metric.asks for metric in faithful.values()])
    found = {name: metric(bright, unseen, ~halo) for name, metric in LEAKAGE.items()}
    found |= {name: metric(bright, inside) for name, metric in LOCALISATION.items()}
    found |= {name: metric(before, answers[metric.asks]) for name, metric in faithful.items()}
    if imputed:
        found["road"] = COMBINED["road"](*(found[part] for part in COMBINED["road"].of))
    found["complexity"] = CONSISTENCY["complexity"](shown)
    return found


def long(found: dict[str, Tensor]) -> pd.DataFrame:
    """metric, image, value."""
    tables = [
        pd.DataFrame(dict(metric=name, image=range(len(values)), value=values.double().cpu().numpy()))
        for name, values in found.items()
    ]
    return pd.concat(tables, ignore_index=True)
