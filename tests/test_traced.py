"""Layers of the visible part of an image: what the whole image gives there, and no slope beyond."""

import pytest
import torch

from tests.nets import photos, tiny, tiny_residual
from wallcheck.cams import METHODS
from wallcheck.cams._layers import local_maps
from wallcheck.evidence import Evidence
from wallcheck.traced import taken_of_visible

SIDES = [{"side": side, "cells": 7} for side in ("bottom", "top", "left", "right")]


@pytest.mark.parametrize("wall", SIDES, ids=lambda wall: wall["side"])
def test_slopes_of_the_visible_part_are_all_there_are(wall):
    net = tiny(wall=wall).double()
    ev = Evidence(net, photos(3, seed=1)[0].double(), [0, 1, 2])
    part, whole = (
        taken_of_visible(ev.graph, ev.graph.quick.line, ev.images, ev.explained),
        ev.traced(ev.graph.last_steps),
    )
    assert len(part) == len(whole) == 2
    for seen, all_of_it in zip(part, whole, strict=True):
        assert seen.output[0].numel() < all_of_it.output[0].numel()
        for of in (lambda layer: layer.gradient.sum(1), lambda layer: (layer.gradient * layer.output).sum(1)):
            maps = of(all_of_it)
            torch.testing.assert_close(seen.placed(of(seen)), maps, rtol=1e-10, atol=1e-12 * float(maps.abs().max()))
        assert torch.equal(seen.placed(seen.gradient.sum(1)) == 0, all_of_it.gradient.sum(1) == 0)
    assert sum(bool((layer.gradient.sum(1) == 0).any()) for layer in whole) == 2


def test_what_is_predicted_is_found_on_the_way():
    ev = Evidence(tiny(), photos(3, seed=1)[0])
    METHODS["layercam_fused"](ev)
    assert "logits" not in vars(ev)
    assert torch.equal(ev.targets, ev.logits.argmax(1))


def test_layers_of_features_that_branch_are_whole():
    net = tiny_residual()
    ev = Evidence(net, photos(2, seed=1)[0], [0, 1])
    assert ev.graph.quick.line is None
    maps = local_maps(ev, lambda layer: layer.gradient.sum(1))
    for found, layer in zip(maps, ev.traced(ev.graph.last_steps), strict=True):
        assert torch.equal(found, layer.gradient.sum(1))
