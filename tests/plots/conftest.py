"""The made audit, for every file here."""

import numpy as np
import pandas as pd
import pytest

from tests.plots.made import made_examples, made_rows
from wallcheck import plots


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return made_rows()


@pytest.fixture
def examples(tmp_path) -> plots.Examples:
    np.savez(tmp_path / "walled--stack_mix.npz", **made_examples())
    return plots.Examples.load(tmp_path / "walled--stack_mix.npz")
