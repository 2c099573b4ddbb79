"""Several threads of one process: each has what it would have alone, and the process is as it was."""

import multiprocessing
import sys
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from tests.nets import SIZE, photos, tiny
from wallcheck.auditing import audit
from wallcheck.graph import exported
from wallcheck.graph._meanwhile import ANNOUNCED
from wallcheck.keeping import alone
from wallcheck.reading import leakage


@pytest.fixture
def often():
    """Threads take turns ten times as often as Python lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-4)
    yield
    sys.setswitchinterval(before)


def in_threads(tasks, workers=4):
    with ThreadPoolExecutor(workers) as pool:
        return [future.result() for future in [pool.submit(task) for task in tasks]]


def test_audits_of_threads_are_those_of_one(often):
    images, nets = photos(2)[0], [tiny(seed=seed) for seed in range(3)]
    asked = [net for net in nets for _ in range(2)]  # each net by two at once
    alone_in_turn = [audit(net, images, ["gradcam", "random"], metrics=["leak_mass"]) for net in asked]
    found = in_threads([lambda net=net: audit(net, images, ["gradcam", "random"], metrics=["leak_mass"]) for net in asked])  # fmt: skip
    assert all(one.equals(two) for one, two in zip(alone_in_turn, found, strict=True))
    assert {getattr(torch.compiler, name).__module__ for name in ANNOUNCED if hasattr(torch.compiler, name)} == {"torch.compiler"}  # fmt: skip


def test_modules_that_another_thread_calls_are_no_part_of_what_is_traced():
    """torch's tracer stands in the place of torch.nn.Module's methods for all threads while it traces."""
    served, given, done = (
        nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3))).eval(),
        torch.ones(1, 3, 8, 8),
        threading.Event(),
    )
    wanted = served(given)

    class Waiting(nn.Module):
        """Lets the other thread run in the midst of each call."""

        def forward(self, maps):
            for _ in range(20):
                time.sleep(1e-3)
            return maps.relu()

    def serve():
        answers = []
        while not done.is_set():
            answers.append(torch.equal(served(given), wanted) and type(served.conv) is nn.Conv2d)
        return answers

    def trace():
        try:
            net = tiny()
            net.features[1] = Waiting()
            return exported(net, 3, (SIZE, SIZE))
        finally:
            done.set()

    graph, answers = in_threads([trace, serve])
    assert all(answers) and len(answers) > 10
    paths = {path for node in graph.fx.nodes for path, _ in (node.meta.get("nn_module_stack") or {}).values()}
    assert "features.1" in paths and "conv" not in paths


def test_what_explainers_of_threads_print_is_kept_off_and_what_others_print_is_not(often, recwarn):
    net, images, out = tiny(), photos(1)[0], sys.stdout

    def explain(model, images, targets):
        time.sleep(2e-3)
        return images.abs().sum(1)

    in_threads([lambda: leakage(explain, net, images)] * 6)
    assert sys.stdout is out and [str(each.message) for each in recwarn] == []


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no processes by fork here")
def test_a_child_does_not_wait_for_a_thread_of_its_parents():
    held, leave = threading.Event(), threading.Event()

    def hold():
        with alone():
            held.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    child = multiprocessing.get_context("fork").Process(target=_enter)
    child.start()
    child.join(10)
    leave.set()
    thread.join()
    assert child.exitcode == 0


def _enter():
    with alone():
        pass
