"""The study told: means with intervals over images and nets, one table, and the page around it."""

import numpy as np
import pandas as pd

from experiments.study import markdown
from wallcheck import plots
from wallcheck.statistics import interval, over_nets, percent

GROUP = ["family", "kind", "state"]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """By family, kind, state and method: mean, low, high, nets, count, empty. Intervals are for new nets and new images where
    there are three nets or more, for new images where there is one, and none for two."""
    lines = []
    for key, part in rows.groupby([*GROUP, "method"], sort=False):
        values = part.pivot_table(index="image", columns="seed", values="value", dropna=False).to_numpy()
        found = over_nets(values) if values.shape[1] > 1 else interval(values[:, 0]) | {"nets": 1}
        kept = {name: found[name] for name in ("mean", "low", "high", "nets", "count", "empty")}
        lines.append(dict(zip([*GROUP, "method"], key, strict=True)) | kept)
    return pd.DataFrame(lines)


def cell(line: dict) -> str:
    """A mean with its interval, and the share of empty maps.

    >>> cell(dict(mean=0.5, low=0.4, high=0.61, empty=0.0)), cell(dict(mean=0.5, low=np.nan, high=np.nan, empty=0.25))
    ('0.50 [0.40, 0.61]', '0.50 ∅25%')
    """
    if np.isnan(line["mean"]):
        return "all empty"
    ends = "" if np.isnan(line["low"]) else f" [{line['low']:.2f}, {line['high']:.2f}]"
    return f"{line['mean']:.2f}{ends}" + (f" ∅{percent(line['empty'])}" if line["empty"] else "")


def shown(table: pd.DataFrame, facts: list[dict] = ()) -> str:
    """A line for each family, kind and state, a column for each method; of facts, what was found of the nets beside."""
    methods = plots.in_order(table["method"])
    lines, heads = [], ["family", "wall", "nets"]
    for key, part in table.groupby(GROUP, sort=False):
        of = {line["method"]: cell(line) for line in part.to_dict("records")}
        told = _told([each for each in facts if tuple(each[name] for name in GROUP) == key]) if facts else []
        lines.append([*key, *told, *(of.get(method, "–") for method in methods)])
    return markdown([*heads, *(FACTS if facts else []), *methods], lines)


FACTS = ["layer", "cells unseen", "pixels unseen", "accuracy"]


def _told(nets: list[dict]) -> list[str]:
    """Layer, shares of unseen cells and pixels, and the accuracy by seed."""
    first = nets[0]
    right = ", ".join(f"{each['accuracy']:.0%}" for each in nets if "accuracy" in each) or "–"
    where = f"{first['layer']} ({first['channels']} x {first['cells'][0]} x {first['cells'][1]})"
    return [where, percent(first["unseen_cells"]), percent(first["unseen_pixels"]), right]


def left_out(facts: list[dict]) -> str:
    """Which nets have no place for a wall, which methods are not defined on which nets, which gave no map."""
    lines = [f"* {one['family']}, {one['kind']} wall: {one['why']}." for one in facts if "why" in one]
    for one in facts:
        lines += [
            f"* {one['family']}, {one['kind']} wall: `{m}` is not defined: {why}."
            for m, why in one.get("undefined", {}).items()
        ]
        lines += [
            f"* {one['family']}, {one['kind']} wall, {one['state']}: `{f['method']}` gave no map for {f['count']} images."
            for f in one.get("failures", [])
        ]
    return "\n".join(dict.fromkeys(lines)) or "Nothing."


def page(name: str, table: pd.DataFrame, facts: list[dict], words: str, images: str) -> str:
    nets, count = int(table["nets"].max()), int(table["count"].max())
    over = (
        f"new nets and new images ({nets} nets)"
        if nets > 2
        else "new images"
        if nets == 1
        else "nothing: two nets are too few"
    )
    return f"""# Do modern networks see through walls?

Made by `{" ".join(["python -m experiments.zoo", *words.split()])}`; not written by hand. Settings, versions and figures are in `{name}.json`.

Every network stands behind a wall that is proved on its own graph. Behind a *head* wall the head is handed the seen cells of the
layer alone; behind a *trunk* wall nothing crosses in any layer, so exactly one side of the image is unseen. The table gives the share
of positive attribution on unseen cells (`leak_mass`), the mean over {count} images of `{images}` with 95 % intervals for {over}, cut
at 0 and 1; ∅ is the share of empty maps. A constant map scores the share of cells that are unseen (column `constant`); 0 is blind.

![Share of attribution on unseen cells, by family, wall and method]({name}.png)

{shown(table, facts)}

## Left out

{left_out(facts)}
"""
