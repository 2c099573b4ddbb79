"""The benchmark's own parts, on tiny nets; no time is asserted."""

import contextlib
import itertools
import math
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import duels, peak, timing
from experiments.benchmark import pages as benchmark_pages
from experiments.benchmark.__main__ import Benchmark
from experiments.benchmark.duels import Duel, Setting
from experiments.benchmark.kept import FILE, Found, Kept, Terms, processor
from experiments.disagreements.comparisons import Comparison
from tests.nets import photos, tiny
from wallcheck import adapters, evidence
from wallcheck.cams import METHODS
from wallcheck.graph import BlindGraph
from wallcheck.registry import Registry

for library in adapters.LIBRARIES:
    pytest.importorskip(library)

CPU = torch.device("cpu")


@pytest.fixture
def setting():
    return Setting(tiny(), photos(3)[0], rounds=2, seconds=60)


# -- timing ---------------------------------------------------------------------------------------


def test_works_alternate_in_both_orders_and_the_first_round_is_dropped():
    ran = []
    took = timing.alternate([lambda: ran.append("a"), lambda: ran.append("b")], rounds=2, seconds=60, device=CPU)
    assert ran == list("ab") + list("ba") + list("ab")
    assert [len(times) for times in took] == [2, 2]


def test_what_makes_ready_runs_before_each_and_is_not_counted():
    ran = []

    def ready():
        ran.append("ready")
        time.sleep(0.05)

    (took,) = timing.alternate([lambda: ran.append("work")], rounds=1, seconds=60, device=CPU, ready=ready)
    assert ran == ["ready", "work"] * 2 and max(took) < 0.04


def test_no_round_is_begun_that_would_not_end_in_time():
    ran = []
    took = timing.alternate([lambda: ran.append(0)], rounds=9, seconds=0, device=CPU)
    assert len(ran) == 1 and len(took[0]) == 1


def test_processor_time_does_not_count_waiting():
    (took,) = timing.alternate([lambda: time.sleep(0.05)], 1, 5, CPU, timing.CLOCKS["processor"])
    assert took[0] < 0.04 < timing.seconds_of(lambda: time.sleep(0.05), CPU)


def test_ratio_is_taken_within_rounds():
    assert timing.ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == (3, 2, 4)
    assert str(timing.Ratio(250.4, 2.0, 3.456)) == "250 (2-3.46)"


def test_operations_are_two_per_multiply_add():
    net = tiny()  # 24 x 24 x 6 x 3 x 9, then 12 x 12 x 8 x 6 x 9
    assert timing.operations(net, photos(2)[0]) == 2 * (24 * 24 * 6 * 27 + 12 * 12 * 8 * 54)
    assert timing.matrix_rate(CPU, size=64) > 0


HOLDING = """
import torch
from experiments.benchmark import timing

held = []

def work():
    held.append(torch.ones(64, 2**20 // 4))  # 64 MiB
    torch.ones(32, 2**20 // 4)

timing.peak_mb(lambda: torch.ones(2**20), torch.device("cpu"))
print(timing.peak_mb(work, torch.device("cpu")))
"""


def test_peak_is_what_a_work_holds_at_most():
    """In a process that has done little else: memory that others gave back would be taken again unseen."""
    done = subprocess.run([sys.executable, "-c", HOLDING], capture_output=True, text=True, check=True)
    assert 90 < float(done.stdout) < 140
    assert timing.resident_mb("VmRSS") > 64


def test_peak_is_measured_in_a_process_of_its_own():
    found = timing.peak_apart("experiments.benchmark.peak", net="vgg_small", what="cheap suite", batch=1, threads=1)
    assert 0 < found["mb"] < 500
    with pytest.raises(RuntimeError, match=r"unknown_net.*no preset"):
        timing.peak_apart("experiments.benchmark.peak", net="unknown_net", what="gradcam", batch=1)


# -- duels ----------------------------------------------------------------------------------------


def test_the_cheap_suite_is_read_off_the_methods():
    names = {method.name for method in duels.cheap_suite(tiny())}
    assert {"gradcam", "hirescam", "eigencam", "dff", "conceptor_gradcam"} <= names
    assert not names & {"scorecam", "ablationcam", "cam", "constant", "sealed_eigencam", "fullgrad"}
    assert "cam" in {method.name for method in duels.cheap_suite(tiny(hidden=(), pooled=True))}


def test_suite_is_measured_against_a_forward_and_against_pytorch_grad_cam(setting):
    every, same, against, both = duels.suite_duels(setting)
    assert every.name == f"cheap suite, {len(duels.cheap_suite(setting.net))} methods"
    assert same.theirs == every.theirs and against.ours == same.ours and both.theirs == against.theirs
    assert all(len(d.ours) == 2 and d.images == 3 and min(d.ours + d.theirs) > 0 for d in (every, same, against, both))


@pytest.mark.parametrize(
    "name, library", [("gradcam", "captum"), ("layercam", "torchcam"), ("scorecam", "pytorch_grad_cam")]
)
def test_duel_compares_time_and_maps(name, library, setting):
    found = duels.duel(pair_of(name, library, setting.net), setting)
    assert found.images == (1 if name == "scorecam" else 3)
    assert found.difference < 1e-3 and len(found.ours) == len(found.theirs) == 2
    assert found.speedup.low <= found.speedup.middle <= found.speedup.high


def pair_of(name, library, net):
    (found,) = [one for one in duels.pairs(net) if (one.ours, one.library) == (name, library)]
    return found


def test_each_explainer_of_a_library_is_met_once_by_the_nearest_method():
    met = list(duels.pairs(tiny()))
    explainers = [(one.library, one.explainer) for one in met]
    assert len(set(explainers)) == len(met) == len({(one.library, one.ours) for one in met})
    assert ("torchcam", "ScoreCAM") in explainers and pair_of("scorecam_torchcam", "torchcam", tiny())
    assert "cam" not in {one.ours for one in met}
    assert pair_of("cam", "torchcam", tiny(hidden=(), pooled=True))


def test_what_would_take_too_long_is_left_out_and_told(setting, monkeypatch):
    pair = pair_of("iscam", "torchcam", setting.net)
    assert duels.duel(pair, setting).ours
    monkeypatch.setattr(duels, "seconds_of", lambda work, device: 4.0)
    found = duels.duel(pair, setting)  # 10 scales of 8 channels, four images in 4 s
    assert found.note == "left out: 80 s a call, see --full" and not found.ours


def test_a_peer_that_fails_is_told(setting):
    lrp = Comparison("gradcam", "captum", "LRP", "equal", adapters.captum("LRP"), "as it is")
    found = duels.duel(lrp, setting)
    assert found.note == "does not run: TypeError" and not found.ours


def test_lift_is_measured_from_the_layer_on(setting):
    (lift,) = duels.lift_duel(setting)
    assert lift.against == "two head passes and one head-backward"
    refusing = tiny()
    refusing.head.append(torch.nn.Softmax(1))
    assert not duels.lift_duel(Setting(refusing, photos(2)[0]))


def test_a_brief_run_sends_a_few_portions_through_the_features(monkeypatch):
    net, calls = tiny(), []
    seen = net.graph.seen
    monkeypatch.setattr(
        BlindGraph, "seen_lean", lambda graph, spare_mb: lambda part: calls.append(len(part)) or seen(part)
    )
    portions = {}
    for kind in (peak.Brief, evidence.Evidence):
        calls.clear()
        METHODS["scorecam"](kind(net, photos(1)[0], budget_mb=0.02))
        portions[kind] = list(calls)
    assert portions[peak.Brief] == portions[evidence.Evidence][: peak.Brief.RUN]
    assert len(portions[evidence.Evidence]) > peak.Brief.RUN


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Runs the command on a tiny net beside few explainers; flags -> the sections kept."""
    presets = Registry("preset")
    presets["tiny"] = tiny
    monkeypatch.setattr(benchmark.models, "PRESETS", presets)
    some = tuple(one for one in duels.COMPARISONS if one.ours in ("gradcam", "hirescam", "eigencam"))
    monkeypatch.setattr(duels, "COMPARISONS", some)
    monkeypatch.setattr(benchmark, "peak_apart", lambda *_, what, **__: {"mb": len(what)})
    monkeypatch.setattr(benchmark, "matrix_rate", partial(timing.matrix_rate, size=64))

    def run(**flags):
        about = dict(nets=["tiny"], devices=["cpu"], batch=2, rounds=1, out=str(tmp_path))
        benchmark.main(Benchmark(**about | flags))
        return Kept(tmp_path).shown

    return run


def test_command_leaves_numbers_page_and_bars(few, tmp_path, capsys):
    (one,) = few()
    assert one.terms.versions["torch"] and one.terms.batch == 2 and one.terms.machine == processor()
    assert len(one.duels) == 4 + 1 + 6 and one.memory["cheap suite"] == len("cheap suite") and not one.missing
    page = (tmp_path / "benchmark.md").read_text()
    assert "| `gradcam` | captum.LayerGradCam |" in page and "GFLOP/s" in page and "budget 256 MiB" in page
    assert (tmp_path / "benchmark.png").stat().st_size > 5000 and (tmp_path / "benchmark.pdf").is_file()
    assert "LayerGradCam" in capsys.readouterr().out
    (other,) = few(only=["hirescam", "suite"])
    changed = {d.name.partition(",")[0] for d, e in zip(one.duels, other.duels, strict=True) if d != e}
    assert changed == {"hirescam", "cheap suite", next(d.name for d in one.duels if d.name.startswith("the "))}
    assert other.memory == one.memory
    with pytest.raises(ValueError, match=r"--only hirescan is no work of this benchmark; it has suite, lift, gradcam"):
        few(only=["hirescan"])
    with pytest.raises(ValueError, match=r"--clock is 'sun'; give one of wall, processor"):
        few(clock="sun")
    page = (tmp_path / "benchmark.md").read_text()
    (tmp_path / "benchmark.md").unlink()
    assert few(redraw=True) == [other]
    assert (tmp_path / "benchmark.md").read_text() == page
    with pytest.raises(FileNotFoundError, match=r"holds no benchmark\.jsonl to draw; leave out --redraw first"):
        few(redraw=True, out=str(tmp_path / "none"))


def test_what_is_measured_stays_when_the_command_is_ended_and_the_next_goes_on(few, tmp_path, monkeypatch):
    """SIGTERM while the second pair is measured: file, page and bars hold the works before it, and say what is missing."""
    real, met = duels.duel, []

    def ended(pair, setting):
        met.append(pair.ours)
        if len(met) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return real(pair, setting)

    monkeypatch.setattr(benchmark, "duel", ended)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        few()
    assert signal.getsignal(signal.SIGTERM) is before
    (half,) = Kept(tmp_path).shown
    assert list(half.found) == ["suite", "lift", next(work for work in half.works if "beside" in work)]
    page = (tmp_path / "benchmark.md").read_text()
    assert f"**Not measured yet**, {len(half.missing)} of {len(half.works)}: {half.missing[0]}, " in page
    assert (tmp_path / "benchmark.png").stat().st_size > 5000

    met += ["", ""]
    (whole,) = few()
    assert not whole.missing and whole.rate == half.rate
    assert {work: whole.found[work] for work in half.found} == half.found
    assert few() == [whole]  # nothing left to do
    (more,) = few(rounds=2)  # more is asked for than was measured
    assert all(found.rounds == 2 for found in more.found.values() if found.mb is None)
    assert more.memory == whole.memory


def test_after_the_minutes_given_nothing_more_is_begun(few, tmp_path, monkeypatch):
    clock = itertools.count(0, 25.0)
    monkeypatch.setattr(benchmark.time, "monotonic", lambda: next(clock))
    (one,) = few(minutes=1)
    assert list(one.found) == ["suite", "lift"]
    assert "**Not measured yet**" in (tmp_path / "benchmark.md").read_text()


def test_the_bar_counts_works_of_all_sections(few, monkeypatch):
    told = []
    monkeypatch.setattr(benchmark, "progress_bar", lambda: contextlib.nullcontext(lambda *one: told.append(one)))
    (one,) = few(memory=False)
    total = len(one.works)
    assert [done for done, of, _ in told] == [*range(total), total] and {of for _, of, _ in told} == {total}
    assert told[-2][2] == f"tiny, cpu, exact: {one.works[-1]}"


def test_numbers_of_other_terms_never_meet(few, tmp_path, monkeypatch):
    (one,) = few(memory=False)
    (longer,) = few(memory=False, batch=3)
    assert longer.terms.batch == 3 and {d.images for d in longer.duels} == {3}
    page = (tmp_path / "benchmark.md").read_text()
    assert "3 images at once" in page and "2 images at once" not in page and "not shown: 1." in page
    assert few(memory=False) == [one]  # kept beside, and back
    monkeypatch.setattr(benchmark, "processor", lambda: "another machine, 64 cores")
    both = few(memory=False)
    assert {found.terms.machine for found in both} == {processor(), "another machine, 64 cores"}
    assert "another machine, 64 cores, load" in (tmp_path / "benchmark.md").read_text()
    (tmp_path / FILE).write_text("[1]\n")
    with pytest.raises(ValueError, match=r"benchmark\.jsonl is no benchmark's .*choose another --out"):
        few()


def test_two_processes_may_keep_in_one_file(tmp_path):
    def terms(net):
        return Terms(net, "cpu", "exact", 8, 1, "wall", None, False, "a machine", None, {"torch": "2"})

    first, second = Kept(tmp_path), Kept(tmp_path)
    one = first.begin(terms("one"), ["a", "b"], lambda: (1.0, 1))
    first.keep(one, "a", Found(1, 1.0, 0.0, mb=1.0))
    other = second.begin(terms("two"), ["a"], lambda: (1.0, 1))
    second.keep(other, "a", Found(1, 1.0, 0.0, mb=2.0))
    first.keep(one, "a", Found(1, 1.0, 0.0, mb=3.0))  # measured again
    second.keep(other, "a", Found(1, 1.0, 0.0, mb=4.0))
    found = {section.terms.net: section.memory for section in Kept(tmp_path).sections.values()}
    assert found == {"one": {"a": 3.0}, "two": {"a": 4.0}}


@pytest.mark.parametrize("note", ["does not run: TypeError", "left out: 300 s a call, see --full"])
def test_page_tells_what_did_not_run(note, tmp_path):
    failed = Duel("lrp_epsilon", "captum.LRP", 8, note=note)
    terms = Terms("tiny", "cpu", "exact", 8, 1, "processor", None, False, "a machine", None, {"torch": "2"})
    kept = Kept(tmp_path)
    one = kept.begin(terms, ["lrp"], lambda: (1e9, 10**9))
    kept.keep(one, "lrp", Found(5, 60.0, 1.0, [failed]))
    page = benchmark_pages.markdown(kept)
    assert f"| `lrp_epsilon` | captum.LRP | 8 | | | | | | | {note} |" in page
    assert "a machine, load 1.0 to 1.0; torch 2. Seconds are those of the processor" in page
    assert math.isclose(one.limit, 1.0)
    assert benchmark_pages.chart([one]) is None
    assert benchmark_pages.library_of(failed) == "captum"
    assert benchmark_pages.library_of(Duel("cheap", "pytorch-grad-cam, one after another", 8)) == "pytorch_grad_cam"
    assert benchmark_pages.library_of(Duel("cheap", duels.FORWARD, 8)) is None


def test_no_two_libraries_share_a_hatch():
    assert len(set(benchmark_pages.HATCHES.values())) == len(benchmark_pages.COLOURS)
