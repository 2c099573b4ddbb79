"""The audit: what it finds on a trained net, and that its table depends on nothing but net, images, methods and seed."""

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
import torch
from torch.nn.functional import cross_entropy

from tests.nets import photos, tiny, trained_tiny
from tests.sets import write_photographs, write_set
from wallcheck import models
from wallcheck.auditing import audit
from wallcheck.cams import METHODS, cam_method
from wallcheck.certificate import fingerprint
from wallcheck.data import ImageSet, PhotoFolder
from wallcheck.evidence import Evidence
from wallcheck.registry import Registry
from wallcheck.results import KEY, Manifest, merge, shards, summary
from wallcheck.running import run
from wallcheck.study import Study

ROOT = Path(__file__).parents[1]
LEAKING = ("gradcam", "gradcampp", "scorecam", "eigencam", "xgradcam", "ablationcam")
BLIND = ("hirescam", "layercam")
EXACT = ("constant", "seen_only", "unseen_only")
SOME = ("gradcam", "hirescam", "scorecam", "eigencam", "random")


@pytest.fixture(scope="module")
def walled():
    return trained_tiny()


@pytest.fixture(scope="module")
def unwalled():
    """The twin of `trained_tiny` without a wall, trained on the same images."""
    net = tiny(seed=3, wall=None).train()
    images, labels = photos(256, seed=11)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(120):
        optimiser.zero_grad()
        cross_entropy(net(images), labels).backward()
        optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def held_out():
    return photos(64, seed=77)


@pytest.fixture(scope="module")
def table(walled, held_out):
    return audit(walled, held_out[0], [*LEAKING, *BLIND, *EXACT])


@pytest.fixture(scope="module")
def contrast(walled, unwalled, held_out):
    return audit(unwalled, held_out[0], [*LEAKING, *BLIND, "constant"], contrast=walled)


def values(table: pd.DataFrame, method: str, metric: str, view: str = "rectified", on: str = "grid") -> pd.Series:
    wanted = dict(method=method, metric=metric, view=view, on=on)
    return table.loc[(table[list(wanted)] == pd.Series(wanted)).all(axis=1), "value"]


# What it finds


def test_both_nets_have_learnt(walled, unwalled, held_out):
    images, labels = held_out
    for net in (walled, unwalled):
        assert (net(images).argmax(1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("method", BLIND)
def test_local_methods_are_exactly_blind_on_unseen_cells(table, method):
    for metric in ("leak_l2", "leak_mass", "leak_peak", "leak_area", "leak_pointing", "leak_any"):
        found = values(table, method, metric)
        assert len(found) == 64
        assert (found == 0).all(), metric
    assert (values(table, method, "leak_l2", view="raw") == 0).all()  # nothing negative there either
    assert (values(table, method, "leak_mass", view="displayed", on="image") < 0.2).all()  # bleed alone


@pytest.mark.parametrize("method", LEAKING)
def test_pooling_rescoring_and_subspaces_leak(table, method):
    found = values(table, method, "leak_mass")
    assert found.mean() > 0.4  # a constant map has 7 / 12 = 0.583
    assert (values(table, method, "leak_any") == 1).all()
    seen = summary(table[(table["method"] == method) & (table["metric"] == "leak_l2") & (table["view"] == "displayed")])
    assert seen["low"].item() > 0.3


@pytest.mark.parametrize("method", [*LEAKING, *BLIND])
def test_without_a_wall_every_method_looks_there(contrast, method):
    """In the same region, which this net sees, attribution is no leakage; local methods have some there as well."""
    assert values(contrast, method, "leak_mass").mean() > 0.1
    assert (values(contrast, method, "leak_any") == 1).mean() > 0.9


def test_controls_stand_at_the_marks_of_the_scale(table, walled):
    for method, mass, peak, pointing in (
        ("constant", 7 / 12, 1, 7 / 12),
        ("seen_only", 0, 0, 0),
        ("unseen_only", 1, 1, 1),
    ):
        for metric, value in (("leak_mass", mass), ("leak_peak", peak), ("leak_pointing", pointing)):
            np.testing.assert_allclose(values(table, method, metric), value, rtol=1e-6)
    rows = walled.regions.unseen.mean()
    np.testing.assert_allclose(values(table, "constant", "leak_l2", "displayed", "image"), rows**0.5, rtol=1e-6)


# What its table depends on


def test_two_runs_with_one_seed_give_identical_tables(walled, held_out):
    one, two = (audit(walled, held_out[0][:20], SOME, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_another_seed_changes_the_methods_that_draw_alone(walled, held_out):
    one, two = (audit(walled, held_out[0][:4], SOME, seed=seed) for seed in (0, 1))
    changed = one.loc[one["value"] != two["value"], "method"].unique().tolist()
    assert changed == ["random"]


@pytest.mark.parametrize("batch_size", [1, 5, 24])
def test_another_batch_size_gives_the_table_up_to_rounding(walled, held_out, batch_size):
    """Measured: 5e-7 at most, in shares between 0 and 1, in float32."""
    one = audit(walled, held_out[0][:24], SOME, batch_size=16)
    two = audit(walled, held_out[0][:24], SOME, batch_size=batch_size)
    pd.testing.assert_frame_equal(one.drop(columns="value"), two.drop(columns="value"))
    np.testing.assert_allclose(two["value"], one["value"], rtol=0, atol=5e-6)


def test_the_memory_budget_gives_the_table_up_to_rounding(walled, held_out):
    one, two = (audit(walled, held_out[0][:6], SOME, budget_mb=budget) for budget in (0.05, 256))
    np.testing.assert_allclose(two["value"], one["value"], rtol=0, atol=5e-6)


def test_the_order_of_methods_does_not_matter(walled, held_out):
    one, two = (audit(walled, held_out[0][:6], order) for order in (SOME, SOME[::-1]))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_methods_do_not_disturb_each_other(walled, held_out):
    together = audit(walled, held_out[0][:6], SOME)
    alone = [audit(walled, held_out[0][:6], [name]) for name in SOME]
    for name, table in zip(SOME, alone, strict=True):
        assert np.array_equal(together.loc[together["method"] == name, "value"], table["value"])


def test_a_row_is_the_metric_of_the_view_of_the_map(walled, held_out):
    """One row by hand: the share of Grad-CAM's positive part that lies on unseen cells, for image 5."""
    raw = METHODS["gradcam"](Evidence(walled, held_out[0][5:6]))[0].clamp(min=0).double()
    table = audit(walled, held_out[0][:8], ["gradcam"], net_name="n", image_set="s", indices=range(100, 108))
    key = dict(net="n", images="s", image=105, method="gradcam", view="rectified", on="grid", metric="leak_mass")
    row = table.loc[(table[list(key)] == pd.Series(key)).all(axis=1)]
    assert row["value"].item() == pytest.approx((raw[5:].sum() / raw.sum()).item(), rel=1e-5)
    assert row["target"].item() == walled(held_out[0])[5].argmax().item()


def test_targets_are_explained_and_recorded(walled, held_out):
    images, labels = held_out
    wrong = (labels + 1) % 4
    table = audit(walled, images[:10], ["gradcam"], targets=wrong[:10], batch_size=3)
    assert (table.groupby("image")["target"].first() == wrong[:10].numpy()).all()
    raw = METHODS["gradcam"](Evidence(walled, images[9:10], wrong[9:10]))[0].clamp(min=0)
    mass = values(table[table["image"] == 9], "gradcam", "leak_mass").item()
    assert mass == pytest.approx((raw[5:].sum() / raw.sum()).item(), rel=1e-4)


def test_a_method_of_ones_own_is_audited(walled, held_out):
    @cam_method(family="local", source="mine", cost="0", verdict="zero", registry=Registry("method"))
    def top_left(evidence):
        return torch.zeros(len(evidence.images), 12, 12).index_put((torch.tensor([0]),), torch.eye(12))

    table = audit(walled, held_out[0][:2], [top_left, "constant"])
    assert set(table["method"].unique()) == {"top_left", "constant"}
    mass = table[(table["method"] == "top_left") & (table["metric"] == "leak_mass") & (table["on"] == "grid")]
    # image 0: a diagonal of 12 cells of which 7 are unseen; image 1: an empty map, which is not clean but undefined
    np.testing.assert_allclose(mass[mass["view"] == "rectified"]["value"], [7 / 12, np.nan], rtol=1e-6)


# Run folders


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
