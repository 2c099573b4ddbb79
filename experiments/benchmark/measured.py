"""What a benchmark found on one net and device."""

from dataclasses import dataclass, field

from experiments.benchmark.duels import Duel


@dataclass(frozen=True)
class Measured:
    """Everything measured on one net and device in one precision; memory in MiB above the loaded model; budget_mb: of what is
    computed at once, None where it followed the device."""

    net: str
    device: str
    batch: int
    threads: int
    rate: float
    operations: int
    duels: list[Duel] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)
    budget_mb: float | None = None
    precision: str = "exact"

    @property
    def limit(self) -> float:
        """Seconds one forward to the target layer would take at the rate of a large matrix product."""
        return self.operations / self.rate
