"""What an audit computes for several metrics and maps at once is what each metric says of each view alone, to the last bit."""

import numpy as np
import pytest
import torch

from tests.nets import photos, tiny
from wallcheck import auditing
from wallcheck.auditing import audit
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.maps import VIEWS
from wallcheck.metrics import LEAKAGE, Attribution
from wallcheck.numerics import FAINTEST, all_finite, unit_range, unit_scale

IMAGES = 7


def doubles(model, images, targets):
    """Maps in double precision, so faint in places that their squares would underflow, one of them all 0."""
    maps = torch.randn(len(images), 12, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    maps[:, ::2] *= 1e-200
    maps[:, 6:] = -maps[:, 6:].abs()
    return maps * torch.tensor([0.0, *[1.0] * (len(images) - 1)], dtype=torch.float64)[:, None, None]


@pytest.mark.parametrize("at_once", [1, auditing.AT_ONCE])
def test_a_row_is_what_its_metric_says_of_its_view_alone(at_once, monkeypatch):
    monkeypatch.setattr(auditing, "AT_ONCE", at_once)  # pieces of two maps, or all at once
    net, (images, _) = tiny(), photos(IMAGES)[:2]
    rows = audit(net, images, ["gradcam", "layercam", "gradient", doubles])
    evidence = Evidence(net, images)
    raws = {name: METHODS[name](evidence) for name in ("gradcam", "layercam", "gradient")}
    raws["doubles"] = doubles(None, images, None)
    cells, pixels, halo = map(torch.from_numpy, (net.wall.unseen, net.regions.unseen, net.regions.halo))
    regions = {"grid": (cells, torch.ones_like(cells)), "image": (pixels, ~halo)}
    met = 0
    for view in VIEWS:
        for (method, metric), part in rows[(rows["view"] == view.name) & (rows.on == view.on)].groupby(
            ["method", "metric"], observed=True
        ):
            if metric in LEAKAGE:
                maps = view.alter(unit_scale(raws[method])[0], cells, net.image_size)
                alone = LEAKAGE[metric](maps, *regions[view.on]).numpy()
                np.testing.assert_array_equal(part.sort_values("image").value.to_numpy(), alone)
                met += 1
    assert met == len(LEAKAGE) * (3 * len(VIEWS) + sum(v.on == "image" and v.name != "confined" for v in VIEWS))


def test_a_metric_of_three_arguments_and_one_of_an_attribution_are_asked_alike():
    maps = torch.tensor([[[3.0, 1.0], [2.0, -4.0]]])
    unseen, counted = torch.tensor([[False, False], [True, True]]), torch.ones(2, 2, dtype=torch.bool)
    for metric in LEAKAGE.values():
        assert metric.shared is not None
        assert torch.equal(
            metric.of_attribution(Attribution(maps, unseen, counted)), metric.body(maps, unseen, counted)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_map_is_stretched_as_its_unit_scale_is(dtype):
    maps = torch.randn(4, 5, 5, generator=torch.Generator().manual_seed(0), dtype=dtype) * 3e-38
    maps[1], maps[2] = 2.0, maps[2].abs() + 1
    if dtype == torch.float64:
        maps[3, :2] = FAINTEST * 1e-300 * maps[0, :2].sign()
    unit, _ = unit_scale(maps)
    low, high = unit.amin((-2, -1), keepdim=True), unit.amax((-2, -1), keepdim=True)
    span = high - low
    assert torch.equal(unit_range(maps), torch.where(span > 0, (unit - low) / span.where(span > 0, 1.0), 0.0).to(dtype))


def test_finite_is_told_although_a_sum_overflows():
    assert all_finite(torch.full((3,), 3e38)) and all_finite(torch.zeros(2, 0))
    for bad in (torch.nan, torch.inf, -torch.inf):
        assert not all_finite(torch.tensor([1.0, bad, 3e38, 3e38]))
    assert not all_finite(torch.tensor([torch.inf, -torch.inf]))
