"""What every study owes: what is finished is kept, and a run of other settings is refused."""

from dataclasses import replace
from pathlib import Path

import pytest


def keeps_what_is_finished(study, options, page: Path, work=("measured",), told: str = "", **other) -> None:
    """Run again, a finished study writes the same page and does none of its work again (functions of the module study);
    with other settings, where it was, it is refused, and says what differs in words that match told."""

    def fails(*_):
        raise RuntimeError("done again")

    before = page.read_text()
    with pytest.MonkeyPatch.context() as patch:
        for name in work:
            patch.setattr(study, name, fails)
        study.main(options)
        assert page.read_text() == before
        with pytest.raises(FileExistsError, match=rf"run of other settings \(.*{told}.*\); choose another --out"):
            study.main(replace(options, **other))
