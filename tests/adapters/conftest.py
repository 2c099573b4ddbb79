"""Images, and what a trained net makes of the first."""

import pytest

from tests.nets import photos, trained_tiny
from wallcheck.evidence import Evidence


@pytest.fixture(scope="module")
def images():
    return photos(12, seed=9)[0]


@pytest.fixture(scope="module")
def evidence(images):
    return Evidence(trained_tiny(), images[:3])
