"""Two audits at once on one folder, killed again and again at moments drawn by chance: what the test of that runs.

python -m tests.killing FOLDER KILLS SEED       FOLDER holds model.safetensors and photographs/
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from wallcheck import running  # noqa: F401  loaded once, here, so that its forks begin at once
from wallcheck.cli import main

METHODS = ("gradcam", "hirescam", "random")


def audit(folder: Path, out: str, batch_size: int) -> int:
    arguments = [str(folder / "model.safetensors"), "--images", str(folder / "photographs"), "--out", str(folder / out)]
    return main(["audit", *arguments, "--methods", *METHODS, "--batch_size", str(batch_size)])


def forked(work: Callable[[], int]) -> int:
    """The process that does it, silent."""
    process = os.fork()
    if process:
        return process
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    try:
        os._exit(work())
    finally:
        os._exit(9)


def kill_again_and_again(folder: Path, kills: int, seed: int) -> None:
    """Two audits of other batch sizes; each time one of them is killed and started again, at last both end."""
    draw = random.Random(seed)
    begun = time.perf_counter()
    assert os.waitpid(forked(lambda: audit(folder, "whole", 2)), 0)[1] == 0
    whole = time.perf_counter() - begun
    sizes, running_now = (2, 3), {}
    while kills or running_now:
        for size in sizes if kills else ():
            running_now.setdefault(size, forked(lambda size=size: audit(folder, "killed", size)))
        if kills:
            time.sleep(draw.uniform(0, whole))
            one = draw.choice(sizes)
            os.kill(running_now[one], signal.SIGKILL)
            kills -= 1
        else:
            one = next(iter(running_now))
        status = os.waitpid(running_now.pop(one), 0)[1]
        assert status in (0, signal.SIGKILL), status
        for size, process in list(running_now.items()):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                assert status == 0, status
                del running_now[size]
    assert audit(folder, "killed", 2) == 0


if __name__ == "__main__":
    kill_again_and_again(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
