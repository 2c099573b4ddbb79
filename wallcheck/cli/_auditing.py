"""`audit`: a net on images, into a run folder; and whether a method leaks too much."""

import json
import sys
from collections.abc import Sequence

import numpy as np
import torch
from jsonargparse import Namespace

from wallcheck.cams import METHODS
from wallcheck.certificate import Certificate
from wallcheck.cli._nets import called, net_of, own_modules_first
from wallcheck.cli._status import BROKEN, INCOMPLETE
from wallcheck.models import BlindNet
from wallcheck.results import Rows
from wallcheck.running import leakage_table, run_folder
from wallcheck.study import Study, images_for
from wallcheck.tables import leakage_markdown, masses, print_leakage
from wallcheck.terminal import progress_bar
from wallcheck.writing import at_home, say

DEVICES = ("cpu", "cuda", "mps")


def audit(options: Namespace) -> int:
    """Rows, manifest and table in --out; the table here. Status 1 where a method leaks too much, 3 where maps are missing."""
    limit = checked_limit(options.max_leakage, options.metrics)
    own_modules_first()
    net = net_of(options)
    if options.certificate:
        Certificate.load(at_home(options.certificate)).raise_if_broken().raise_if_other(net)
    net = placed(net, options.device)
    images = images_for(net, at_home(options.images), options.classes, options.targets)
    study = Study(
        {called(options.model): net},
        [images],
        options.methods,
        count=options.count,
        targets=options.targets,
        seed=options.seed,
        batch_size=options.batch_size,
        metrics=options.metrics,
        precision=options.precision,
    )
    with progress_bar() as tell:
        rows = run_folder(study, options.out, progress=tell)
    broken = [] if limit is None else exceeding(rows, limit, options.methods or ())
    answer(rows, options, broken)
    if not options.json and not options.markdown:
        say(f"rows, manifest and table are in {options.out}")
    for line in broken:
        print(f"wallcheck audit: {line}", file=sys.stderr)
    return BROKEN if broken else INCOMPLETE if rows.failures else 0


def placed(net: BlindNet, device: str) -> BlindNet:
    """The net on the device of this name; ValueError where there is none here."""
    try:
        place = torch.device(device)
        if place.type not in DEVICES:
            raise RuntimeError("no device that is known here")
        return net.to(place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"--device {device} cannot be used: {reason}; leave it out for the CPU, or give one of {', '.join(DEVICES)}"
        ) from None


def answer(rows: Rows, options: Namespace, broken: Sequence[str] = ()) -> None:
    """The table, as it was asked for."""
    if options.json:
        table = json.loads(leakage_table(rows).to_json(orient="records"))
        told = {"out": options.out, "leakage": table, "failures": rows.failures, "broken": list(broken)}
        say(json.dumps(told, indent=1))
    elif options.markdown:
        say("\n\n".join([leakage_markdown(rows), *(f"> **{line}**" for line in broken)]))
    else:
        print_leakage(rows)


def checked_limit(limit: float | None, metrics: Sequence[str] | None) -> float | None:
    """--max_leakage, a share; raises ValueError for what is none, and where what it is held against is not asked for."""
    if limit is not None and not 0 <= limit <= 1:
        raise ValueError(f"max_leakage is {limit}; give the largest share that is allowed, from 0 to 1")
    if limit is not None and metrics is not None and "leak_mass" not in metrics:
        raise ValueError("max_leakage is held against leak_mass, which is not asked for; add it to --metrics")
    return limit


def exceeding(rows: Rows, limit: float, named: Sequence[str]) -> list[str]:
    """A line for each method, net and set whose mean share of positive attribution on unseen cells is above the limit, or whose
    maps are all empty. named: what was asked for; where nothing was, all methods but the controls count."""
    lines = []
    for (net, images, method), values in masses(rows).grouped(["net", "images", "method"]):
        control = method in METHODS and METHODS[method].family == "control"
        if method not in named if named else control:  # the folder may hold more than was asked for
            continue
        where = f"{method} on {images} ({net})"
        if np.isnan(values).all():
            lines.append(f"{where}: all {len(values)} maps are empty; they leak nothing, and say nothing")
        elif (mean := np.nanmean(values)) > limit:
            lines.append(f"{where} leaks {mean:.3g} of its positive attribution, more than max_leakage {limit:g}")
    return lines
