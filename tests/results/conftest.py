import pytest

from wallcheck.results import writable


@pytest.fixture
def run(tmp_path):
    return writable(tmp_path / "run")
