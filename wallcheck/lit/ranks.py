"""Several processes of one audit: a lost one ends the others within seconds, so that nothing waits for what will not come."""

import os
import sys
import threading
import time
from datetime import timedelta

import lightning as L
import torch

BEAT, SILENCE = 1.0, 8.0  # seconds between signs of life; seconds without one after which a rank is lost
ENDED, FAILED = b"ended", b"failed"
LOST = 1  # exit status


def wait_for_ranks() -> None:
    """Wait until every process of a distributed run has come this far; nothing in a run of one process."""
    if _distributed():
        torch.distributed.barrier()


def is_first_rank() -> bool:
    """Whether this process is the one that does what is to be done once; true in a run of one process."""
    return not _distributed() or torch.distributed.get_rank() == 0


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class Ranks:
    """The processes of a distributed run watch each other inside the block; nothing in a run of one process.

    Each gives a sign of life every second, in a store that rank 0 keeps. Where one is silent for eight seconds, has failed, or the
    store is gone with rank 0, the others say so on stderr and end at once: every shard is whole, and the same command goes on.
    """

    def __init__(self):
        self.store: torch.distributed.TCPStore | None = None
        self.children: list = []

    def __enter__(self) -> "Ranks":
        return self

    def watch(self, trainer: L.Trainer) -> None:
        """Begin, once, when the processes have met."""
        if self.store is not None or trainer.world_size == 1 or not _distributed():
            return
        self.rank, self.world = trainer.global_rank, trainer.world_size
        self.children = _taken_over(trainer)
        self.store = _store(trainer)
        self.store.set(f"{self.rank}", b"0")
        trainer.strategy.barrier("watch")
        threading.Thread(target=self._watch, daemon=True, name="rank-watch").start()

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.store is not None:
            self.children, store, self.store = [], self.store, None
            try:
                store.set(f"{self.rank}", ENDED if kind is None else FAILED)
            except RuntimeError:  # rank 0 has ended already
                return

    def _watch(self) -> None:
        heard, count = dict.fromkeys(range(self.world), (b"", time.monotonic())), 0
        while (store := self.store) is not None:
            count += 1
            try:
                lost = self._lost(store, heard, str(count).encode())
            except RuntimeError:
                lost = "rank 0 cannot be reached any more"
            time.sleep(BEAT)
            if lost and self.store is not None:  # else this process has ended its part meanwhile
                self._end(lost)

    def _lost(self, store: torch.distributed.TCPStore, heard: dict, sign: bytes) -> str:
        store.set(f"{self.rank}", sign)
        for place, child in enumerate(self.children, 1):
            if child.poll():
                return f"local rank {place} has ended with status {child.returncode}"
        for rank in heard:
            last, now = store.get(f"{rank}"), time.monotonic()
            if last == FAILED:
                return f"rank {rank} has failed"
            if last != heard[rank][0] or last == ENDED:
                heard[rank] = last, now
            elif now - heard[rank][1] > SILENCE:
                return f"rank {rank} has given no sign of life for {SILENCE:.0f} s"
        return ""

    def _end(self, why: str) -> None:
        print(
            f"wallcheck: {why}, so rank {self.rank} ends too; all rows so far are kept, and the same command goes on where it stopped",
            file=sys.stderr,
            flush=True,
        )
        for child in self.children:
            child.kill()
        os._exit(LOST)


def _store(trainer: L.Trainer) -> torch.distributed.TCPStore:
    """One beside the store of the process group, whose calls may wait for each other."""
    host, wait = os.environ["MASTER_ADDR"], dict(wait_for_workers=False, timeout=timedelta(seconds=60))
    if trainer.global_rank == 0:
        store = torch.distributed.TCPStore(host, 0, is_master=True, **wait)
        trainer.strategy.broadcast(store.port)
        return store
    return torch.distributed.TCPStore(host, trainer.strategy.broadcast(0), is_master=False, **wait)


def _taken_over(trainer: L.Trainer) -> list:
    """The processes that Lightning has started, if it has. Its own observer of them kills this one without a word: it ends when
    its list is empty, while the launcher keeps one."""
    launcher = trainer.strategy.launcher
    observed = getattr(launcher, "procs", [])
    children = list(observed)
    if children:
        launcher.procs = list(observed)
        observed.clear()
    return children
