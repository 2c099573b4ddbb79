"""Two audits of the same images: what differs, image by image, method by method. Reads run folders, runs no net."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from wallcheck.results import Header, merge, shards
from wallcheck.statistics import holm, interval, paired, percent
from wallcheck.terminal import Column, Listing
from wallcheck.writing import at_home

# Where a measure is looked for, best first: as tables show it.
PLACES = {"leak_l2": (("displayed", "image"),)}
ELSE = (("rectified", "grid"), ("rectified", "image"), ("raw", "grid"))


def compared(
    first: str | Path,
    second: str | Path | None = None,
    nets: Sequence[str] | None = None,
    metric: str = "leak_mass",
    methods: Sequence[str] | None = None,
) -> pd.DataFrame:
    """first less second on the images that both hold: one row for each image set and method that both have.

    first, second: run folders; None is the first again. nets: the net of the first and of the second; where a folder holds one
    net, or both hold one of the same name, they need not be named. metric: any that was audited, in the view that tables show.
    Columns: images, method, first, second (names of the nets), mean_first, mean_second, and what `wallcheck.statistics.paired` gives,
    p_holm corrected for as many methods as there are rows. Images that differ in their pixels are not the same and are refused.

    Raises FileNotFoundError where there is no audit, ValueError where nets are not told apart, nothing is shared, or images differ.
    """
    rows = [merge(first, metric=metric), merge(second or first, metric=metric)]
    for run, table in zip((first, second or first), rows, strict=True):
        if table.empty:
            raise ValueError(f"{metric} was not measured in {run}; audit it there, or compare another --metric")
    names = _nets(rows, nets, same=second is None)
    values = [_values(table, name, metric) for table, name in zip(rows, names, strict=True)]
    _refuse_other_images(first, second or first)
    shared = values[0].index.intersection(values[1].index)
    if methods is not None:
        shared = shared[shared.get_level_values("method").isin(list(methods))]
    if shared.empty:
        raise ValueError(
            f"{names[0]} and {names[1]} share no image and method with {metric}; audit the same images with both"
        )
    found = []
    for (images, method), part in pd.DataFrame(index=shared).groupby(
        level=["images", "method"], sort=False, observed=True
    ):
        one, two = (value.loc[part.index].to_numpy() for value in values)
        means = dict(mean_first=interval(one)["mean"], mean_second=interval(two)["mean"])
        found.append(dict(images=images, method=method, first=names[0], second=names[1]) | means | paired(one, two))
    table = pd.DataFrame(found)
    return table.assign(p_holm=holm(table["p"].to_numpy(dtype=float)))


def listing(found: pd.DataFrame, metric: str) -> Listing:
    """The comparison as people read it."""
    first, second = found["first"].iloc[0], found["second"].iloc[0]
    names = (first, second) if first != second else ("first", "second")
    columns = [
        Column("images", spare=2),
        Column("method"),
        Column(names[0], spare=4, right=True),
        Column(names[1], spare=3, right=True),
        Column("difference", right=True),
        Column("p (Holm)", right=True),
        Column("larger / smaller / n", spare=1, right=True),
    ]
    rows = [
        (
            str(one.images), str(one.method), _number(one.mean_first), _number(one.mean_second), _difference(one),
            "" if np.isnan(one.p_holm) else "<0.001" if one.p_holm < 0.001 else f"{one.p_holm:.3f}",
            f"{one.larger} / {one.smaller} / {one.images_compared}",
        )
        for one in found.rename(columns={"count": "images_compared"}).itertuples()
    ]  # fmt: skip
    return Listing(f"{metric}: {names[0]} less {names[1]}", columns, rows, _left_out(found))


def _left_out(found: pd.DataFrame) -> str:
    pairs = int(found["left_out"].sum())
    return (
        f"{percent(pairs / (pairs + found['count'].sum()))} of the pairs are left out: one map is empty"
        if pairs
        else ""
    )


def _number(value: float) -> str:
    return "all empty" if np.isnan(value) else f"{value:.3f}"


def _difference(one) -> str:
    if np.isnan(one.difference):
        return "none"
    ends = "(too few for an interval)" if np.isnan(one.low) else f"[{one.low:+.3f}, {one.high:+.3f}]"
    return f"{one.difference:+.3f} {ends}"


def _nets(rows: Sequence[pd.DataFrame], wanted: Sequence[str] | None, same: bool) -> list[str]:
    """The name of a net in each table."""
    held = [list(table["net"].unique()) for table in rows]
    if wanted is not None:
        for name, names in zip(wanted, held, strict=True):
            if name not in names:
                raise ValueError(
                    f"no net {name!r} was audited there, only {', '.join(names)}; name two of these with --nets"
                )
        return list(wanted)
    if same:
        if len(held[0]) != 2:
            raise ValueError(
                f"that run holds {len(held[0])} nets ({', '.join(held[0])}); name two with --nets, or give two runs"
            )
        return held[0]
    if all(len(names) == 1 for names in held):
        return [names[0] for names in held]
    both = [name for name in held[0] if name in held[1]]
    if len(both) != 1:
        told = " and ".join(", ".join(names) for names in held)
        raise ValueError(f"the runs hold the nets {told}; name one of each with --nets")
    return both * 2


def _values(rows: pd.DataFrame, net: str, metric: str) -> pd.Series:
    """The metric by (images, method, image), of each method in the first place where it was measured."""
    of, found = rows[rows["net"] == net], []
    for _, part in of.groupby("method", observed=True):
        views = [part[(part["view"] == view) & (part["on"] == on)] for view, on in PLACES.get(metric, ELSE)]
        found += [view for view in views if len(view)][:1]
    if not found:
        raise ValueError(f"{metric} was not measured on {net} as tables show it; audit it, or compare another --metric")
    table = pd.concat(found).astype({"images": str, "method": str})
    return table.set_index(["images", "method", "image"])["value"].sort_index()


def _refuse_other_images(first: str | Path, second: str | Path) -> None:
    one, two = _pictures(first), _pictures(second)
    for key in sorted(one.keys() & two.keys()):
        if one[key] != two[key]:
            images, number = key
            raise ValueError(
                f"image {number} of {images} is not the same in both runs, so their difference would say nothing of the nets; "
                f"audit the same images at the same size with both"
            )


def _pictures(run: str | Path) -> dict[tuple[str, int], str]:
    """(image set, number) -> digest of the pixels, of every image that a run holds rows of."""
    found: dict[tuple[str, int], str] = {}
    for path in shards(at_home(run)):
        header, parts = Header.read(path), path.name.split("--")
        found |= {(parts[1], number): told.partition("/")[0] for number, told in header.pictures.items()}
    return found
