"""Where a network can be cut: what crosses is said, what would do is named; maps, channels-last maps and tokens."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from tests.graph.nets import FAMILIES, ChannelsLast, Classifier, Residual, Transformer, conv, drawn
from wallcheck.graph import exported, layer_named, layers_of
from wallcheck.graph._nodes import call_of, part
from wallcheck.graph.cut import Form

SIZE = (16, 16)


def graph_of(module: nn.Module):
    return exported(drawn(module), 3, SIZE)


def names(graph) -> set[str]:
    return {name for layer in layers_of(graph) for name in layer.names}


def test_layers_inside_a_residual_branch_are_no_cuts_and_those_after_it_are():
    graph = graph_of(Classifier(conv(3, 6), Residual(6), conv(6, 6)))
    found = names(graph)
    assert {"features", "features.0", "features.1", "features.2"} <= found
    assert not any(name.startswith("features.1.inner") for name in found)


def test_a_layer_that_something_passes_by_is_refused_with_what_passes_and_what_would_do():
    graph = graph_of(Classifier(conv(3, 6), Residual(6), conv(6, 6)))
    with pytest.raises(
        ValueError, match=r"alone does not decide the logits: the output of features\.0.* passes it by"
    ) as error:
        layer_named(graph, "features.1.inner.0")
    assert "features.1" in str(error.value).split("goes through:")[1]


def test_an_unknown_layer_is_answered_with_the_nearest_and_a_layer_without_a_map_with_those_that_have_one():
    graph = graph_of(Classifier(conv(3, 6), conv(6, 6)))
    with pytest.raises(ValueError, match=r"no layer 'featurs\.1'; nearest: features\.1"):
        layer_named(graph, "featurs.1")
    with pytest.raises(ValueError, match=r"fc gives no map of cells.*cut at .*features"):
        layer_named(graph, "fc")


class Again(nn.Module):
    """One block run three times; its last output decides the logits, as torch's ResNets use one ReLU twice in a block."""

    def __init__(self):
        super().__init__()
        self.first, self.block, self.fc = conv(3, 6), Residual(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for _ in range(3):
            x = self.block(x)
        return self.fc(x.mean((2, 3)))


def test_a_module_that_is_run_several_times_is_cut_at_its_last_call():
    graph = graph_of(Again())
    found = layers_of(graph)
    assert [layer.name for layer in found][-2:] == ["first", "block"]
    by_name, last = layer_named(graph, "block"), layer_named(graph, None)
    assert found[-1].node is by_name.node is last.node
    assert call_of(last.node, "block") == 2 and call_of(found[-2].node, "first") == 0


def test_a_relu_that_a_block_uses_twice_is_cut_where_the_block_ends():
    graph = exported(drawn(resnet18(num_classes=3)), 3, (32, 32))
    assert layer_named(graph, "layer2.1.relu").node is layer_named(graph, "layer2").node


def test_without_a_name_it_is_the_last_layer_with_a_map_that_is_heard():
    assert "features.1" in layer_named(graph_of(Classifier(conv(3, 6), conv(6, 6))), None).names
    with pytest.raises(ValueError, match="no layer of this network has a map"):
        layer_named(graph_of(Classifier(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 6, 1))), None)


def test_the_layer_of_none_of_a_class_token_vit_is_one_whose_cells_the_logits_hear():
    at = layer_named(graph_of(Transformer()), None)
    assert at.form == Form("tokens", (4, 4), 8, prefix=1)
    assert "blocks.1" not in at.names  # after the last block only the class token is read


class Last(nn.Module):
    """Features with channels last, as Swin's."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.fc = nn.Conv2d(3, 5, 4, 4), nn.LayerNorm(5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.first(x).permute(0, 2, 3, 1)).mean((1, 2)))


def test_channels_last_maps_are_maps():
    at = layer_named(graph_of(Last()), "norm")
    assert at.form == Form("last", (4, 4), 5)


@pytest.mark.parametrize(
    "form, shape",
    [
        (Form("map", (2, 3), 4), (2, 4, 2, 3)),
        (Form("last", (2, 3), 4), (2, 2, 3, 4)),
        (Form("tokens", (2, 3), 4), (2, 6, 4)),
        (Form("tokens", (2, 3), 4, prefix=2), (2, 8, 4)),
    ],
)
def test_a_form_reads_cells_and_puts_them_back(form, shape):
    value = torch.arange(torch.Size(shape).numel()).view(shape)
    cells = form.cells(value)
    assert cells.shape == (2, 4, 2, 3) and torch.equal(form.value(cells, form.rest(value)), value)
    if form.prefix:  # token t stands for cell (t - prefix) // w, (t - prefix) % w
        assert torch.equal(cells[1, :, 1, 0], value[1, form.prefix + 3])
    assert torch.equal(form.summed(value), cells.sum((2, 3)))


@pytest.mark.parametrize("name", FAMILIES)
def test_cut_at_every_layer_the_two_halves_are_the_network_to_the_bit(name):
    graph = graph_of(FAMILIES[name]())
    images = torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    for layer in layers_of(graph):
        features = part(graph.run, [graph.images], [layer.node])
        head = part(graph.run, [layer.node], [graph.logits])
        with torch.no_grad():
            assert torch.equal(head(features(images)), graph.run(images)), layer.name


def test_a_block_with_channels_last_inside_is_cut_at_its_ends_alone():
    found = names(graph_of(Classifier(nn.Conv2d(3, 6, 2, 2), ChannelsLast(6), conv(6, 6))))
    assert {"features.0", "features.1"} <= found and "features.1.norm" not in found
