"""What a report shows of a run folder: manifest, the rows it needs and no others, failures, kept maps, prediction."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wallcheck.certificate import Certificate
from wallcheck.plots import Examples
from wallcheck.results import Manifest, Rows, examples_of, open_rows
from wallcheck.writing import at_home

# Of the first of these that was measured, 0 is darkness, and the constant map's value is known.
LEAKAGE = ("leak_mass", "leak_l2", "leak_peak", "leak_any")
BESIDE = ("leak_any", "leak_l2", "missed", "bright_area")
VIEWS = ("rectified", "displayed", "raw")
PREDICTION = "prediction.parquet"


@dataclass(frozen=True)
class Contents:
    """A run folder as far as a report shows it.

    rows: of `measure`, and of what stands beside it; none is read before it is asked for. certificates: name of a net -> of the
    net in whose unseen region it is measured. examples: (net, images) -> kept maps. predicted: as experiments.prediction
    leaves it, or None.
    """

    run: Path
    manifest: Manifest
    measure: str
    rows: Rows
    certificates: dict[str, Certificate]
    examples: dict[tuple[str, str], Examples]
    predicted: pd.DataFrame | None

    @classmethod
    def read(cls, run: str | Path) -> "Contents":
        """Raises FileNotFoundError where `run` is no run folder or holds no rows, ValueError for what is damaged in it."""
        run = at_home(run)
        manifest = Manifest.load(run)
        asked = manifest.config.get("metrics") or LEAKAGE
        measure = next((name for name in LEAKAGE if name in asked), None)
        if measure is None:
            raise ValueError(
                f"{run} holds none of {', '.join(LEAKAGE)}, only {', '.join(asked)}; "
                f"audit into it again with --metrics leak_mass, which adds it"
            )
        rows = open_rows(run).select(metric=[measure, *BESIDE], view=list(VIEWS))
        kept = {pair: examples_of(run, *pair) for pair in _pairs_in(rows)}
        return cls(
            run,
            manifest,
            measure,
            rows,
            _certificates(run, manifest),
            {pair: Examples.load(path) for pair, path in kept.items() if path.is_file()},
            _predicted(run / PREDICTION),
        )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(net, images) that have rows; nets as the study names them, contrasts last."""
        nets, sets = list(self.manifest.config.get("methods", {})), list(self.manifest.image_sets)
        found = _pairs_in(self.rows)
        return sorted(found, key=lambda p: (self.twin(p[0]) is not None, _place(nets, p[0]), _place(sets, p[1])))

    def twin(self, net: str) -> str | None:
        """Of a net without a wall, the walled one in whose unseen region it is measured."""
        return self.manifest.config.get("contrasts", {}).get(net)


def _pairs_in(rows: Rows) -> list[tuple[str, str]]:
    return sorted({measure[:2] for measure in rows.measures})


def _place(names: list[str], name: str) -> tuple[int, str]:
    return (names.index(name) if name in names else len(names), name)


def _certificates(run: Path, manifest: Manifest) -> dict[str, Certificate]:
    try:
        return {net: Certificate.from_dict(kept) for net, kept in manifest.certificates.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"a certificate in the manifest of {run} is damaged ({error!r}); audit into another --out"
        ) from None


def _predicted(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path, columns=["step", "image", "method", "metric", "measured", "predicted"])
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); remove it, or write it again with python -m experiments.prediction of the source repository"
        ) from None
