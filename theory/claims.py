"""The claims in order, and the verdict on each: all identities proved, all simulations in agreement."""

import time
from dataclasses import dataclass
from types import ModuleType

from theory import (
    any_backbone,
    attention_walls,
    before_relu,
    beyond,
    blind_metrics,
    exact_expectation,
    families,
    half_of_unseen,
    pooling_routes_gradient,
    predicted_class,
)
from theory.proofs import Check
from theory.runs import Outcome, Run

# a claim's module has TITLE, prove() -> list[Check] and simulate(run) -> Outcome
CLAIMS: dict[str, ModuleType] = {
    "T1": pooling_routes_gradient,
    "T2": exact_expectation,
    "T3": any_backbone,
    "T4": half_of_unseen,
    "T5": predicted_class,
    "T6": before_relu,
    "T7": families,
    "T8": blind_metrics,
    "T9": attention_walls,
    "beyond": beyond,
}


@dataclass(frozen=True)
class Verdict:
    """What was found about one claim."""

    claim: str
    title: str
    proofs: tuple[Check, ...]
    outcome: Outcome
    seconds: float

    @property
    def holds(self) -> bool:
        """Every identity, every exact check, and z-scores that look standard normal."""
        return all(check.holds for check in (*self.proofs, *self.outcome.checks)) and self.outcome.z.agree

    def record(self) -> dict:
        """Plain values for results.json."""
        checks = [{"name": c.name, "holds": c.holds, "detail": c.detail} for c in (*self.proofs, *self.outcome.checks)]
        z = self.outcome.z
        scores = {**z.row(), "surprise": z.surprise, "values": z.values.tolist()}
        return {
            "claim": self.claim, "title": self.title, "holds": self.holds, "seconds": round(self.seconds, 2),
            "checks": checks, "z": scores, "data": self.outcome.data,
        }  # fmt: skip


def judge(claim: str, run: Run) -> Verdict:
    """Prove and simulate one claim."""
    if claim not in CLAIMS:
        raise LookupError(f"no claim named {claim!r}; there are {', '.join(CLAIMS)}")
    module, start = CLAIMS[claim], time.perf_counter()
    proofs = tuple(module.prove())
    outcome = module.simulate(run)
    return Verdict(claim, module.TITLE, proofs, outcome, time.perf_counter() - start)
