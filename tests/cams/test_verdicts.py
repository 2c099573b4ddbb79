"""Every method's verdict, which says what it shows where the net cannot see: on chains of convolutions, residual nets and
transformers, each trained and untrained."""

from functools import cache

import pytest
import torch
from torch.nn.functional import max_pool2d

from tests.cams.test_methods import attends, evidence_of
from tests.nets import VITS, photos, tiny_residual
from wallcheck import assets
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence

CHAINS = ("untrained", "trained")
RESIDUAL = {
    "residual, untrained": lambda: Evidence(tiny_residual(), photos(3, seed=5)[0]),
    "residual, trained": lambda: Evidence(assets.net("residual"), assets.images("stack_mix").images()[:3]),
}
CELLS = [name for name in METHODS if not attends(name)]

# Methods of cells that are not defined on the tests' transformers: their rules know convolutions, ReLUs and maps alone.
NOT_OF_TOKENS = (
    "cam", "cameras", "deeplift", "excitationbp", "excitationbp_contrastive", "fgcam", "fullgrad", "fullgrad_by_channel",
    "guidedbp", "guidedgradcam", "lrp_alpha1_beta0", "lrp_alpha_beta", "lrp_epsilon", "lrp_gamma", "shapcam_exact",
    "simple_fullgrad",
)  # fmt: skip

# Methods that may say nothing of an image, and why.
MAY_BE_EMPTY: dict[str, str] = dict.fromkeys(
    ("bt_head", "bt_token", "tam"), "the class's factor is a rectified mean, which may be negative at every token"
)


@cache
def residual(key):
    return RESIDUAL[key]()


def hidden_from(ev, method):
    """Where the verdict speaks of: unseen cells, or unseen pixels, as a Boolean mask."""
    return ev.unseen if method.grid == "cells" else torch.from_numpy(ev.regions.unseen.copy())


def beside(hidden, reach):
    """What lies no more than reach from a place that is not hidden, in either direction."""
    return max_pool2d(1.0 * ~hidden[None], 2 * reach + 1, stride=1, padding=reach)[0] > 0


def is_as_said(method, ev, looks_past=True, saying=3):
    """Hold the method to its verdict on these images. looks_past: the layers of the net look past their own cells, so that what
    upsampling smears stays over what is seen; else it may reach a cell further. saying: how many images' maps are not empty at
    least, so that a zero says something."""
    maps, hidden = method(ev), hidden_from(ev, method)
    assert hidden.any()
    if method.verdict in ("zero", "zero_but_bleed"):
        if method.verdict == "zero_but_bleed" and not looks_past:
            hidden = hidden & ~beside(hidden, ev.net.image_size[0] // ev.wall.seen.shape[0])
            assert hidden.any()
        assert torch.count_nonzero(maps[:, hidden]) == 0
        assert maps.flatten(1).any(1).sum() >= saying
    elif method.verdict == "zero_but_offset":
        assert torch.equal(maps[:, hidden], maps[:, hidden][:, :1].expand(-1, int(hidden.sum())))
        assert (maps.amax((1, 2)) > maps.amin((1, 2))).all()
    elif method.verdict == "zero_but_offset_and_rim":
        far = maps[:, ~beside(hidden, 1)]
        assert far.numel() > 0
        assert torch.equal(far, far[:, :1].expand_as(far))
    elif method.verdict == "leaks":
        bright = lit(method, ev)[:, hidden]
        assert bright.any()
        assert (maps[:, hidden][bright] > 0).all()
    else:
        assert (maps[:, hidden] > 0).any()


def lit(method, ev):
    """Where "leaks" says that the map is positive: cells of a living channel that is weighed; all pixels of a pixel map."""
    if method.grid == "pixels":
        return torch.ones(len(ev.images), *ev.net.image_size, dtype=torch.bool)
    living = ev.activations > 0
    if method.family == "pooled":  # these do not weigh a channel whose gradient is positive nowhere
        living = living & (ev.gradient > 0).any(3, keepdim=True).any(2, keepdim=True)
    return living.any(1)


@pytest.mark.parametrize("key", CHAINS)
@pytest.mark.parametrize("name", CELLS)
def test_verdict_on_a_chain(name, key):
    is_as_said(METHODS[name], evidence_of(name, key))


@pytest.mark.parametrize("key", RESIDUAL)
@pytest.mark.parametrize("name", CELLS)
def test_verdict_on_a_residual_net(name, key):
    """Behind a trunk wall: no seen cell looks past it, and the head averages what is seen and is linear."""
    ev = residual(key)
    if reason := METHODS[name].refuses(ev.net):
        with pytest.raises(ValueError, match="is not defined on this net"):
            METHODS[name](ev)
        assert reason
        return
    is_as_said(METHODS[name], ev, looks_past=False)


def test_few_methods_are_not_defined_on_a_residual_net():
    """So that the test above is one."""
    assert {name for name in CELLS if METHODS[name].refuses(residual("residual, untrained").net)} == {
        "cameras",
        "excitationbp",
        "excitationbp_contrastive",
    }
    assert METHODS["shapcam_exact"].refuses(residual("residual, trained").net).startswith("its target layer has 48")


@pytest.mark.parametrize("key", VITS)
@pytest.mark.parametrize("name", [name for name in METHODS if attends(name)])
def test_verdict_of_attention_on_a_transformer(name, key):
    is_as_said(METHODS[name], evidence_of(name, f"vit, {key}"), saying=1 if name in MAY_BE_EMPTY else 3)


def on_tokens(name, state):
    """Evidence of a transformer with a class token, of one without for a method that is not defined there; None if on neither."""
    both = (evidence_of("legrad", f"vit, {head}, {state}") for head in ("class token", "pooled"))
    return next((ev for ev in both if not METHODS[name].refuses(ev.net)), None)


@pytest.mark.parametrize("name", [name for name in CELLS if name not in NOT_OF_TOKENS])
def test_verdict_of_cells_on_a_transformer(name):
    """Tokens may be negative: a map that is rectified may be empty, and "leaks" is no more than "may_leak". Zeros are held on both
    nets; that a map says something, or leaks, is met on one at least."""
    method, met = METHODS[name], []
    for state in ("untrained", "trained"):
        ev = on_tokens(name, state)
        maps = method(ev)
        if method.verdict.startswith("zero"):
            is_as_said(method, ev, looks_past=False, saying=0)
            met.append(maps.any())
        else:
            met.append((maps[:, hidden_from(ev, method)] > 0).any())
    assert any(met)


@pytest.mark.parametrize("name", NOT_OF_TOKENS)
def test_what_is_not_defined_on_a_transformer(name):
    assert on_tokens(name, "untrained") is None
