"""Rows of a small audit that never was, for the tests of what is done with rows."""

import pandas as pd

from wallcheck.results import COLUMNS


def rows(numbers=range(6), net="net", images="mix", methods=("b", "a"), seed=0) -> pd.DataFrame:
    """One view and two metrics of each image and method; values follow from the key alone."""
    table = pd.DataFrame(
        [
            (
                net,
                images,
                image,
                method,
                "raw",
                "grid",
                metric,
                image % 3,
                hash((image, len(method + metric))) % 97 / 97,
            )
            for image in numbers
            for method in methods
            for metric in ("leak_mass", "leak_any")
        ],
        columns=COLUMNS,
    )
    return table.sample(frac=1, random_state=seed)
