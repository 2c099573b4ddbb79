"""What many calls leave behind: freed memory goes back to the system, and what is out of reach is found while it is young."""

import ctypes
import gc
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nets import tiny
from wallcheck import memory
from wallcheck.graph import exported
from wallcheck.memory import handed_back

ROOT = Path(__file__).parents[1]


@pytest.fixture
def collections(monkeypatch) -> Iterator[list[int]]:
    """The generations that Python's collector is asked for, whoever worked before."""
    monkeypatch.setattr(memory, "_garbage", memory._Garbage())
    asked: list[int] = []
    monkeypatch.setattr(memory.gc, "collect", lambda generation=2: asked.append(generation) or 0)
    yield asked


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps what is freed, and can be asked for it"
)
def test_what_was_freed_goes_back_to_the_system():
    """Pieces below glibc's own limit, among others that are held, stay with the process where nobody asks."""
    held = [bytes(60_000) for _ in range(2000)][::40]
    kept = resident()
    with handed_back():
        pass
    assert kept - resident() > 50 and len(held) == 50


def resident() -> float:
    """Memory of this process, MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def test_the_whole_heap_is_looked_through_for_a_thirtieth_of_the_time(collections):
    for _ in range(3):
        memory._garbage.after(2.5)  # a first collection is taken to need 0.2 s
    assert collections == [2]
    memory._garbage.cost = 1.0
    memory._garbage.after(29)
    assert collections == [2]
    memory._garbage.after(2)
    assert collections == [2, 2]


def test_a_collector_that_is_switched_off_stays_off(collections):
    gc.disable()
    try:
        memory._garbage.after(1000)
        exported(tiny(), 3, tiny().image_size)
        assert collections == [] and not gc.isenabled()
    finally:
        gc.enable()


ALONE = """
import gc
from tests.nets import tiny
from wallcheck.graph import exported
net = tiny()
exported(net, 3, net.image_size)
gc.collect()
graph = exported(net, 3, net.image_size)
print(gc.collect(), gc.isenabled())
"""


def test_an_export_leaves_no_garbage_behind():
    """torch.export alone leaves some 3,000 objects that hold each other; of a graph that is let go there are a few hundred. In a
    process of its own: what other tests let go of late would be counted too."""
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True, check=True)
    left, on = done.stdout.split()
    assert int(left) < 300 and on == "True"
