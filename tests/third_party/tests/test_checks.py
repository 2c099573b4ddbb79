"""The same methods through every check that wallcheck has, with what is known of them."""

import glowmaps

from wallcheck.testing import parametrize_with_checks

KNOWN = {
    "averaged": {"zero_on_unseen": "a channel that matters somewhere is shown everywhere"},
    "contrast": {"zero_on_unseen": "shows the image, not the network"},
}


@parametrize_with_checks([glowmaps.pointwise, glowmaps.averaged, glowmaps.contrast], expected_failures=KNOWN)
def test_checks(explain, check):
    check(explain)
