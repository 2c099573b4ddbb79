"""wallcheck.leakage: a number that compares, with all that a stranger needs; nothing wrong passes as clean."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch

import wallcheck as wc
from tests.adapters.explainers import BAD, ThirdBatch, gradient, leaves_a_hook
from tests.nets import photos, tiny, trained_tiny
from wallcheck.adapters import LeftBehind
from wallcheck.reading import Unreadable, _asking

pytest.importorskip("pytorch_grad_cam", reason="pip install 'wallcheck[peers]'")


@pytest.fixture(scope="module")
def images():
    return photos(8, seed=5)[0]


@pytest.fixture(autouse=True)
def proved_once(monkeypatch, request):
    """Each reading proves its net anew; here the net's own graph has to do, but where the proof is what is tested."""
    if "anew" not in request.node.name:
        monkeypatch.setattr(_asking, "prove", lambda net: net.graph)


def read(explain, images, net=None, **more):
    return wc.leakage(explain, net or trained_tiny(), images, **more)


def test_a_reading_says_all_there_is(images):
    found = read("gradcam", images)
    values = found.values[~np.isnan(found.values)]
    assert float(found) == found.value == pytest.approx(values.mean())
    assert found.interval[0] < found.value < found.interval[1]
    assert (found.images, found.empty, found.metric, found.net) == (8, 0, "leak_mass", "net")
    assert found.constant == pytest.approx(7 / 12)
    assert found.worst == values.argmax()
    row, column = found.place
    assert row >= 5 and found.worst_map[row, column] == found.worst_map[5:].max()
    text = str(found)
    for part in (
        "gradcam on net: leak_mass 0.",
        "8 images",
        "a constant map scores 0.583",
        f"worst: image {found.worst}",
    ):
        assert part in text
    assert f"cell ({row}, {column})" in text
    rows = wc.audit(trained_tiny(), images, ["gradcam"], metrics="leak_mass")
    rows = rows[(rows["view"] == "rectified") & (rows["on"] == "grid")]
    np.testing.assert_allclose(found.values, rows["value"], rtol=1e-6)


def test_grad_cam_objects_as_they_are(images):
    from pytorch_grad_cam import GradCAM, HiResCAM

    net = trained_tiny()
    held = [p.grad for p in net.model.parameters()]  # parity tests run the library on this net itself
    with pytest.warns(LeftBehind, match="gradients on "):
        clean = read(HiResCAM(net.model, [net.target_layer]), images)
        leaky = read(GradCAM(net.model, [net.target_layer]), images)
    assert clean == 0 and clean.came == 0
    assert leaky > 0.1
    assert float(leaky) == pytest.approx(read("gradcam", images).value, abs=2e-3)  # it takes the map's own minimum off
    assert "enlarged from the 12 x 12 cells" in str(leaky) and "stretched to [0, 1]" in str(leaky)
    assert all(p.grad is before for p, before in zip(net.model.parameters(), held, strict=True))


@pytest.mark.filterwarnings("ignore::wallcheck.adapters.LeftBehind")
def test_an_object_built_on_another_model_is_built_again_with_its_settings(images):
    from captum.attr import IntegratedGradients, LayerGradCam, Saliency
    from pytorch_grad_cam import ScoreCAM
    from torchcam.methods import GradCAM

    other = tiny(seed=9)
    score = ScoreCAM(other.model, [other.target_layer])
    score.batch_size = 5
    assert read(score, images[:2]) > 0.1
    assert read(GradCAM(other.model, other.target_layer), images).value == pytest.approx(
        read("gradcam", images).value, abs=2e-3
    )
    assert read(LayerGradCam(other.model, other.target_layer), images) > 0.1
    for pixels in (Saliency(other.model), IntegratedGradients(other.model)):
        assert read(pixels, images) == 0
    with pytest.raises(ValueError, match=r"captum's Saliency explains .*, not a module"):
        read(Saliency(lambda x: other.model(x).softmax(1)), images)


def test_zennit_and_quantus_as_they_are(images):
    import quantus
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus

    assert read(EpsilonPlus(), images) == 0
    found = read(Gradient(trained_tiny().model, EpsilonPlus()), images)
    assert found == 0 and found.method == "zennit.Gradient(EpsilonPlus)"
    assert read(partial(quantus.explain, method="Saliency"), images) == 0


def test_any_function_on_pixels(images):
    found = read(gradient, images)
    assert found == 0 and found.worst is None and found.place is None
    assert found.unit == "pixels" and "summed over 3 channels" in found.view


def test_a_stretched_map_of_a_blind_method_reads_0_and_the_artefact_is_told(images):
    from wallcheck.maps import stretched

    hires = wc.METHODS["hirescam"]

    def shown(model, images, targets):
        return stretched(hires(wc.Evidence(trained_tiny(), images, targets)), (24, 24))

    found = read(shown, images)
    assert found == 0
    assert found.artefact > 0.1 and found.came > 0.1
    assert "more by stretching a signed map, which lifts zero" in str(found)


def test_nothing_empty_passes_as_clean(images):
    found = read(lambda model, images, targets: torch.zeros(len(images), 12, 12), images)
    assert np.isnan(float(found)) and found.empty == 1
    assert not (found <= 0.01 or found < 0.01 or found == 0 or found > 0 or found >= 0)
    assert "has no value: all 8 maps are empty" in str(found)
    assert "nan" not in str(found)
    assert found.warnings == ("8 of 8 maps are empty; they leak nothing, and miss all there is",)


def test_a_constant_map_scores_what_a_constant_map_scores(images):
    found = read(lambda model, images, targets: torch.ones(len(images), 12, 12), images)
    assert found == pytest.approx(found.constant)
    assert "bright everywhere" in found.warnings[0]


def test_what_leaves_a_hook_has_a_reading_that_says_so(images):
    with pytest.warns(LeftBehind) as told:
        found = read(leaves_a_hook, images)
    assert {one.filename for one in told} == {__file__}
    assert found.left == ("hooks on target",)
    assert "left behind: hooks on target" in str(found)


@pytest.mark.parametrize("bad", BAD[:1] + BAD[2:4], ids=lambda bad: bad.__name__)
def test_what_has_no_map_has_no_reading(bad, images):
    with pytest.raises(Unreadable, match=f"{bad.__name__} gave no map for 8 of 8 images; image 0: ") as raised:
        read(bad, images)
    assert raised.value.reading is None and set(raised.value.failures) == set(range(8))


def test_what_raises_on_the_third_batch_keeps_the_reading_of_the_others(images):
    with pytest.raises(Unreadable, match=r"ThirdBatch gave no map for 4 of 8 images; image 4: .*out of luck") as raised:
        read(ThirdBatch(), images, batch_size=2)
    kept = raised.value.reading
    assert kept.images == 4 and np.isnan(kept.values[4:]).all()


def test_comparisons_and_formats(images):
    low, high = read("hirescam", images), read("gradcam", images)
    assert low < high and low <= high and high > low and high >= low and low != high and low == read("hirescam", images)
    assert low <= 0 and high >= 0.1 and high > 0
    assert f"{high:.2f}" == f"{high.value:.2f}" and f"{high}" == str(high)
    assert high != "gradcam"


def test_settings_that_do_not_fit(images):
    for more, error in (
        (dict(metric="leak"), "no leakage metric named 'leak'"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(targets=9), "classes 0 .. 3"),
    ):
        with pytest.raises((ValueError, LookupError), match=error):
            read("gradcam", images, **more)
    with pytest.raises(ValueError, match="has no wall"):
        wc.leakage("gradcam", tiny(wall=None), images)


def test_a_net_without_a_wall_is_read_in_its_twins_region(images):
    twin = tiny()
    open_net = tiny(wall=None)
    found = wc.leakage("gradcam", open_net, images, contrast=twin)
    rows = wc.audit(open_net, images, ["gradcam"], contrast=twin, metrics="leak_mass")
    rows = rows[(rows["view"] == "rectified") & (rows["on"] == "grid")]
    np.testing.assert_allclose(found.values, rows["value"], rtol=1e-6)


def test_a_net_that_is_not_blind_is_refused_anew(images):
    from tests.leaky import hooked, mean

    with pytest.raises(wc.BrokenWall):
        wc.leakage("gradcam", hooked(1, lambda module, given, out: out - mean(out)), images)


def test_what_is_shipped_has_its_name_here_as_on_the_command_line(images):
    whole = wc.assets.images("stack_gen")
    one = wc.leakage("hirescam", "residual", whole.images(slice(0, 2)), net_name="mine")
    other = wc.leakage("hirescam", "assets:residual", whole.images(slice(0, 2)))
    assert (one.net, other.net) == ("mine", "residual")
    assert wc.leakage("constant", "plain", "assets:stack_gen").images == len(whole)
    with pytest.raises(LookupError, match=r"there are plain, .*; wallcheck\.models\.load reads one of your own"):
        wc.leakage("hirescam", "mine.safetensors", images)
    with pytest.raises(LookupError, match=r"there are stack_mix, .*; wallcheck\.data\.open_images reads a folder"):
        wc.leakage("hirescam", "plain", "photographs")


def test_progress_and_an_image_set(images):
    class Images:
        def images(self):
            return images

    told = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read("hirescam", Images(), batch_size=3, progress=told.append)
    assert found == 0 and told == [3, 3, 2]
