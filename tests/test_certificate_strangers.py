"""Certificates of networks with code of their users' own: what it leaves behind, what autograd does not follow, odd outputs."""

import copy

import pytest
import torch
from torch import nn

from tests.leaky import behind_bottom
from tests.nets import CLASSES, SIZE, photos, tiny
from wallcheck.auditing import audit
from wallcheck.certificate import BrokenWall, certify, fingerprint
from wallcheck.models import blind


def own_train(net):
    """`train` with an account of its own."""

    class Counted(nn.ReLU):
        told = 0

        def train(self, mode=True):
            self.told += 1
            return super().train(mode)

    net.features[1] = Counted()


def another_buffer(net):
    """A buffer that training mode puts another in place of."""

    class Renewed(nn.ReLU):
        def forward(self, maps):
            if self.training:
                self.level = self.level + 1
            return super().forward(maps)

    net.features[1] = Renewed()
    net.features[1].register_buffer("level", torch.zeros(()))


@pytest.mark.parametrize("change", [own_train, another_buffer], ids=lambda f: f.__name__)
def test_what_training_mode_leaves_behind_stays_with_a_copy(change):
    net = behind_bottom()
    change(net)
    before = {key: copy.copy(value) for key, value in vars(net.features[1]).items()}
    state = copy.deepcopy(net.state_dict())
    certify(net, seeds=1).raise_if_broken()
    assert vars(net.features[1]).keys() == before.keys() and getattr(net.features[1], "told", 0) == before.get(
        "told", 0
    )
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


class Checkpointed(nn.ReLU):
    def forward(self, maps):
        return torch.utils.checkpoint.checkpoint(super().forward, maps, use_reentrant=True)


class Whole(nn.ReLU):
    def forward(self, maps):
        return (4 * super().forward(maps)).int().float()


def test_code_that_autograd_does_not_follow_is_proved_all_the_same():
    certificate = certify(behind_bottom(act=Checkpointed()), seeds=1).raise_if_broken()
    (gradient,) = [check for check in certificate.checks if (check.name, check.mode) == ("gradient", "train")]
    assert gradient.detail.startswith("could not be tried: When use_reentrant=True")
    assert certify(behind_bottom(act=Whole()), seeds=1).holds


class Sized(nn.ReLU):
    def forward(self, maps):
        assert maps.shape[2:] == (SIZE, SIZE), f"got {maps.shape}"
        return super().forward(maps)


def test_the_shortcut_is_the_whole_net_where_code_asks_for_the_size_of_an_image():
    net, images = behind_bottom(act=Sized()), photos(2)[0]
    assert torch.equal(net.shortcut(images), net(images))


class OwnMask(nn.Module):
    """A head that empties its unseen cells itself."""

    def __init__(self, how):
        super().__init__()
        self.how, self.fc = how, nn.Linear(6 * 144, CLASSES)
        self.register_buffer("seen", torch.arange(12)[:, None] < 5)

    def forward(self, maps):
        return self.fc(self.how(maps, self.seen).flatten(1))


def emptied(maps, seen):
    maps[:, :, 5:] = 0
    return maps


@pytest.mark.parametrize(
    "how", [emptied, lambda maps, seen: torch.where(seen, maps, 0), lambda maps, seen: maps.masked_fill(~seen, 0)]
)
def test_a_head_that_walls_itself_is_proved_and_run(how):
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), OwnMask(how)).eval()
    net, images = blind(model, SIZE, layer="2", wall="bottom:6"), photos(2)[0]
    certify(net, seeds=1).raise_if_broken()
    assert net.regions.unseen[11:].all()
    torch.testing.assert_close(net.shortcut(images), model(images))


def hook_on(module):
    module.register_forward_hook(lambda module, given, out: out + given[0].mean((1, 2, 3))[:, None])


def pre_hook_on(module):
    module.register_forward_pre_hook(lambda module, given: (given[0] - given[0].mean(),))


def replaced_on(module):
    module.forward = lambda images: images.flatten(1)[:, :CLASSES]


@pytest.mark.parametrize("change", [hook_on, pre_hook_on, replaced_on])
@pytest.mark.parametrize("where", ["", "run"])
def test_what_is_put_on_a_net_that_blind_has_made_is_not_taken_for_its_graph(change, where):
    made = blind(nn.Sequential(*tiny().features, nn.Flatten(), nn.Linear(8 * 144, CLASSES)), SIZE, wall="bottom:7")
    assert certify(made, seeds=1).holds
    change(made.get_submodule(where))
    with pytest.raises(BrokenWall, match="graph does not hold them; put them on the model and make it blind again"):
        certify(made, seeds=1).raise_if_broken()
    with pytest.raises(BrokenWall, match="make it blind again"):
        audit(made, photos(1)[0], ["hirescam"])


class Odd(nn.Module):
    """A head whose output is put into a form that is no (B, D)."""

    def __init__(self, inner, form):
        super().__init__()
        self.inner, self.form = inner, form

    def forward(self, cells):
        return self.form(self.inner(cells), cells)


FORMS = {
    "a dict": (lambda logits, cells: {"logits": logits}, r"gives a dict of 1 value, expected logits \(B, D\); wrap it"),
    "a tuple": (lambda logits, cells: (logits, cells), r"gives a tuple of 2 values, expected logits \(B, D\); wrap it"),
    "one alone": (lambda logits, cells: (logits,), r"gives a tuple of 1 value, expected logits \(B, D\)"),
    "squeezed": (
        lambda logits, cells: logits[:, 0],
        r"gives \(B\), expected logits \(B, D\); .*\(B, 1\) for a binary net",
    ),
    "maps": (lambda logits, cells: cells, r"gives \(B, 8, 5, 12\), expected logits \(B, D\)"),
}


@pytest.mark.parametrize("how", FORMS)
def test_outputs_that_are_no_logits_are_refused_in_words(how):
    form, said = FORMS[how]
    net = tiny()
    net.head = Odd(net.head, form)
    with pytest.raises(ValueError, match=said):
        certify(net)


def test_a_model_without_a_wall_is_refused_and_a_wrapped_one_is_looked_into():
    with pytest.raises(TypeError, match=r"a Sequential has no wall; make one with wallcheck\.blind"):
        certify(nn.Sequential(nn.Flatten()))
    assert certify(nn.DataParallel(tiny()), seeds=1).fingerprint == fingerprint(tiny())


def test_a_net_whose_weights_hold_no_values_is_told_so():
    with pytest.raises(ValueError, match="weights are on the device meta, which holds no values; load them"):
        certify(behind_bottom().to("meta"))


class Gamma(nn.ReLU):
    """torch knows no derivative of it."""

    def forward(self, maps):
        return torch.special.gammainc(super().forward(maps) + 1, torch.ones(()))


def test_a_net_whose_gradient_torch_cannot_take_is_refused_in_words():
    certificate = certify(behind_bottom(act=Gamma()), seeds=1)
    assert any(
        problem.startswith("gradient (eval): could not be tried: the derivative for")
        for problem in certificate.problems
    )
