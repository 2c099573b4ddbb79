"""The audit as a run folder: it goes on where it stopped, counts every image once, and any number of ranks gives one table."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.nets import SOME
from tests.sets import write_photographs, write_set
from wallcheck import models
from wallcheck.auditing import audit
from wallcheck.certificate import fingerprint
from wallcheck.data import ImageSet, PhotoFolder
from wallcheck.results import KEY, Manifest, merge, shards
from wallcheck.running import run
from wallcheck.study import Study

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return [ImageSet(write_set(folder / name, 17, seed)) for seed, name in enumerate(("mix", "gen"))]


@pytest.fixture(scope="module")
def study(walled, unwalled, sets):
    nets, contrasts = {"walled": walled, "unwalled": unwalled}, {"unwalled": "walled"}
    return Study(nets, sets, SOME, contrasts, count=15, batch_size=5, examples=2)


@pytest.fixture(scope="module")
def uninterrupted(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, run(study, out)


def same(one: pd.DataFrame, two: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one.drop(columns="value"), two.drop(columns="value"))
    np.testing.assert_allclose(two["value"], one["value"], rtol=0, atol=5e-6)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_run_folder_holds_the_audit(uninterrupted, walled, unwalled, sets):
    out, table = uninterrupted
    assert set(contents(out)) >= {
        "manifest.json",
        "leakage.csv",
        "examples/walled--mix.npz",
        "examples/unwalled--gen.npz",
    }
    direct = [
        audit(net, images.images(slice(15)), SOME, contrast=twin, net_name=name, image_set=images.name, batch_size=5)
        for name, net, twin in (("walled", walled, None), ("unwalled", unwalled, walled))
        for images in sets
    ]
    direct = pd.concat(direct).sort_values(KEY, ignore_index=True)
    assert len(direct) == len(table)
    pd.testing.assert_frame_equal(
        table.astype({"value": float}),
        direct.astype(table.dtypes.to_dict()),
        check_categorical=False,
        rtol=0,
        atol=2e-5,
    )
    manifest = Manifest.load(out)
    assert manifest.config["weights"] == {"walled": fingerprint(walled), "unwalled": fingerprint(unwalled)}
    assert set(manifest.image_sets) == {"mix", "gen"}


def test_a_finished_run_is_not_repeated(uninterrupted, study, monkeypatch):
    out, table = uninterrupted
    before = contents(out)
    monkeypatch.setattr("wallcheck.running._predict", None)
    pd.testing.assert_frame_equal(run(study, out), table, check_exact=True)
    assert contents(out) == before


@pytest.mark.parametrize(("error", "batches"), [(RuntimeError, 1), (KeyboardInterrupt, 8)])
def test_an_interrupted_audit_goes_on_where_it_stopped(uninterrupted, study, tmp_path, error, batches):
    seen, handler = [], signal.getsignal(signal.SIGINT)

    def stop(done, total, what):
        seen.append((done, total))
        if len(shards(tmp_path)) == batches:
            raise error("stop")

    with pytest.raises(error):
        run(study, tmp_path, progress=stop)
    assert signal.getsignal(signal.SIGINT) is handler
    kept = contents(tmp_path / "rows")
    assert len(kept) == batches
    assert not list(tmp_path.rglob("*.partial"))
    same(run(study, tmp_path, progress=lambda *told: seen.append(told[:2])), uninterrupted[1])
    assert kept.items() <= contents(tmp_path / "rows").items()
    assert seen[-1] == (60, 60)
    assert contents(tmp_path).keys() >= {"leakage.csv", "manifest.json"}
    assert json.loads((tmp_path / "manifest.json").read_text())["config"]["count"] == 15


def test_a_net_is_audited_on_the_sets_named_for_it_and_on_the_others_later(study, tmp_path):
    few = replace(study, methods=["gradcam"], metrics=["leak_mass"], count=2, examples=0)
    rows = run(replace(few, only={"unwalled": ["gen"]}), tmp_path)
    assert set(zip(rows["net"], rows["images"], strict=True)) == {
        ("walled", "mix"), ("walled", "gen"), ("unwalled", "gen")
    }  # fmt: skip
    asked = json.loads((tmp_path / "manifest.json").read_text())["config"]["image_sets"]
    assert asked == {"walled": ["mix", "gen"], "unwalled": ["gen"]}
    whole = run(few, tmp_path)
    assert len(whole) == 4 * len(rows) // 3
    with pytest.raises(ValueError, match=r"only asks for unwalled on \['noise'\]; there are nets"):
        replace(few, only={"unwalled": ["noise"]})


def test_progress_counts_every_image_once(study, tmp_path):
    seen = []
    run(study, tmp_path, progress=lambda done, total, what: seen.append((done, total, what)))
    counts = [done for done, _, _ in seen]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 60)
    assert {total for _, total, _ in seen} == {60}
    assert list(dict.fromkeys(what for *_, what in seen)) == [
        f"{net} on {images}" for net in ("walled", "unwalled") for images in ("mix", "gen")
    ]  # fmt: skip


def test_two_ranks_give_the_same_table(walled, tmp_path):
    """Two processes through the script, as several devices or nodes would run it."""
    photographs = write_photographs(tmp_path / "photographs", 11)
    model = models.save(walled, tmp_path / "model.safetensors")
    command = [sys.executable, "-m", "experiments.audit", "--walled", str(model), "--untrained", "false", "--images"]
    command += [str(photographs), "--methods", *SOME, "--batch_size", "3", "--out", str(tmp_path / "two")]
    command += ["--devices", "2", "--accelerator", "cpu"]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("walled on photographs") == 1
    study = Study({"walled": walled}, [PhotoFolder(photographs, 24)], SOME, batch_size=20)
    same(merge(tmp_path / "two"), run(study, tmp_path / "one"))
    parts = [set(pd.read_parquet(path)["image"]) for path in shards(tmp_path / "two")]
    assert sum(map(len, parts)) == 11
    assert len(parts) == 4  # 6 and 5 images in threes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for the second process in /proc")
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_rank_ends_the_other_within_seconds_and_the_audit_goes_on(walled, tmp_path, lost):
    photographs = write_photographs(tmp_path / "photographs", 60)
    model, out = models.save(walled, tmp_path / "model.safetensors"), tmp_path / "two"
    command = [sys.executable, "-m", "experiments.audit", "--walled", str(model), "--untrained", "false", "--images"]
    command += [str(photographs), "--methods", *SOME, "--batch_size", "1", "--out", str(out), "--devices", "2"]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    first = subprocess.Popen(
        [*command, "--accelerator", "cpu"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    while not shards(out) and first.poll() is None:
        time.sleep(0.02)
    (second,) = map(int, Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split())
    os.kill((first.pid, second)[lost], signal.SIGKILL)
    begun = time.monotonic()
    while any(runs(process) for process in (first.pid, second)):
        first.poll()
        assert time.monotonic() - begun < 20  # a second where nothing else runs
        time.sleep(0.1)
    told = first.communicate()[0]
    why = "local rank 1 has ended with status -9" if lost else "rank 0 cannot be reached any more"
    assert f"wallcheck: {why}, so rank {1 - lost} ends too; all rows so far are kept" in told
    assert 1 <= len({image for path in shards(out) for image in pd.read_parquet(path)["image"]}) < 60
    study = Study({"walled": walled}, [PhotoFolder(photographs, 24)], SOME, batch_size=20)
    same(run(study, out), run(study, tmp_path / "one"))


def runs(process: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
