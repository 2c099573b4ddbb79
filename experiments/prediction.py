"""Predicted against measured leakage, from initialisation through training.

    python -m experiments.prediction --snapshots runs/reproduce/walled/snapshots --images runs/reproduce/data/stack_mix \\
        --out runs/reproduce

The snapshots come from python -m experiments.train fit --snapshots "[0,1,...]". For each, the theory's prediction
from the activations alone (claim T3: no parameter is fitted) stands beside the measured leakage of several methods.
Leaves prediction.parquet in --out: step, image, method, metric, measured, predicted, all on the cell grid.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from experiments import flags
from wallcheck import models
from wallcheck.auditing import audit
from wallcheck.data import open_images
from wallcheck.prediction import predict_leakage
from wallcheck.results import writable
from wallcheck.tables import progress_bar


@dataclass(frozen=True)
class PredictionRun:
    """Predicted against measured leakage.

    Args:
        snapshots: folder of step-*.safetensors.
        images: an image set.
        methods: whose leakage is measured.
        count: images.
        out: where prediction.parquet goes.
    """

    snapshots: str = "runs/reproduce/walled/snapshots"
    images: str = "runs/reproduce/data/stack_mix"
    methods: list[str] = field(default_factory=lambda: ["gradcam", "xgradcam", "ablationcam", "gradcampp", "eigencam"])
    count: int = 100
    out: str = "runs/reproduce"


def compare(net: models.BlindNet, images, methods: list[str]) -> pd.DataFrame:
    """image, method, metric, measured, predicted for one net, on the cell grid."""
    rows = audit(net, images, methods, metrics=["leak_mass", "leak_l2"])
    rows = rows[(rows["view"] == "rectified") & (rows["on"] == "grid")]
    predicted = predict_leakage(net, images)
    return (
        rows[["image", "method", "metric", "value"]]
        .astype({"metric": str, "method": str})
        .merge(predicted[predicted["on"] == "grid"].drop(columns="on"), on=["image", "metric"])
        .rename(columns={"value": "measured"})
    )


def main(options: PredictionRun) -> None:
    paths = sorted(Path(options.snapshots).glob("step-*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"no step-*.safetensors in {options.snapshots}; train with --snapshots [0,1,...] first")
    nets = {int(path.stem.removeprefix("step-")): models.load(path) for path in paths}
    out = writable(options.out)
    images = open_images(options.images, next(iter(nets.values())).image_size[0]).images(slice(0, options.count))
    tables = []
    with progress_bar() as tell:
        for number, (step, net) in enumerate(nets.items()):
            tell(number, len(nets), f"step {step}")
            tables.append(compare(net, images, options.methods).assign(step=step))
    table = pd.concat(tables, ignore_index=True)
    table.to_parquet(out / "prediction.partial", index=False)
    (out / "prediction.partial").rename(out / "prediction.parquet")
    print(
        table.groupby(["metric", "method", "step"])[["measured", "predicted"]]
        .mean()
        .unstack("method")
        .round(3)
        .to_string()
    )


if __name__ == "__main__":
    flags.script("experiments.prediction", main, PredictionRun)
