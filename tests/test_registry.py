"""A dictionary with manners: one name, one entry, unless it is defined again in the same place."""

import pytest

from wallcheck.cams import METHODS, cam_method
from wallcheck.registry import Registry

KIND = dict(family="local", source="mine", cost="0", verdict="may_leak")


def cell(registry, answer):
    """A notebook's cell that may be run again."""

    @cam_method(**KIND, registry=registry)
    def mine(ev):
        return answer

    return mine


def test_a_cell_run_twice_replaces_what_it_made():
    registry = Registry("method")
    cell(registry, 1)
    cam_method(**KIND, registry=registry, name="other")(test_a_cell_run_twice_replaces_what_it_made)
    again = cell(registry, 2)
    assert registry["mine"] is again
    assert list(registry) == ["mine", "other"]


def test_another_place_may_not_take_a_name():
    registry = Registry("method")
    cell(registry, 1)
    with pytest.raises(ValueError, match="a method named 'mine' is registered already; choose another name"):

        @cam_method(**KIND, registry=registry)
        def mine(ev):
            return 3

    with pytest.raises(ValueError, match="a method named 'gradcam' is registered already"):
        cam_method(**KIND, name="gradcam")(cell)
    assert METHODS["gradcam"].body.__module__.startswith("wallcheck.")


@pytest.mark.parametrize("name", ["Grad-CAM", "GradCAM", "grad_cam", " gradcam"])
def test_a_name_as_people_write_it_is_answered_with_the_one_meant(name):
    with pytest.raises(LookupError, match="nearest: gradcam,"):
        METHODS[name]
