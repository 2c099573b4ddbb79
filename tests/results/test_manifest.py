"""Manifests: one study each, written once, and what is told when a folder holds another."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from wallcheck.results import MANIFEST, Manifest

STUDY = {"seed": 1, "nets": {"walled": {"weights": "ab" * 32}}, "image_sets": {"mix": {"labels": "a"}}}


def test_a_manifest_comes_back(run):
    manifest = Manifest(config={"methods": ("a",)}, study=STUDY, certificates={"net": {"fingerprint": "f"}})
    manifest.save(run)
    loaded = Manifest.load(run)
    assert not loaded.differences(manifest)
    assert loaded.digest == manifest.digest
    assert loaded.config == {"methods": ["a"]}
    assert loaded.image_sets == {"mix": {"labels": "a"}}
    assert set(loaded.versions) >= {"python", "torch", "numpy", "lightning"}
    assert json.loads((run / MANIFEST).read_text())["started"] == manifest.started


def test_of_many_studies_at_once_one_has_the_folder(run):
    studies = [Manifest(config={}, study={"seed": seed}) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda manifest: manifest.claim(run), studies))
    assert sum(claimed) == 1
    assert Manifest.load(run).study == studies[claimed.index(True)].study


def test_a_study_is_the_same_whatever_the_machine_and_what_is_asked_of_it():
    one = Manifest(config={"count": 3}, study=STUDY)
    other = Manifest(config={"count": 5}, study=dict(reversed(STUDY.items())), device="cuda", versions={}, machine="m")
    assert one.digest == other.digest
    assert one.differences(other) == []


def test_what_differs_is_told_by_field():
    other = {"seed": 2, "nets": {"walled": {"weights": "cd" * 32}, "open": {"weights": "e"}}, "image_sets": {"mix": {}}}
    assert Manifest({}, STUDY).differences(Manifest({}, other)) == [
        "seed: 1 there, 2 here",
        "nets.walled.weights: abababababab... there, cdcdcdcdcdcd... here",
        "image_sets.mix.labels: a there, nothing here",
        "nets.open.weights: nothing there, e here",
    ]


def test_what_was_asked_for_grows():
    grown = Manifest({"methods": {"net": ["b", "a"]}, "count": 9, "seed": 0}).grown(
        {"methods": {"net": ["c", "a"]}, "count": 4}
    )
    assert grown.config == {"methods": {"net": ["b", "a", "c"]}, "count": 9, "seed": 0}
    assert Manifest({"count": None}).grown({"count": 4}).config == {"count": None}


def test_a_folder_without_manifest_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no manifest\.json, so it is no run folder"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    "text", ['{"config": {', "", "[]", "[" * 200_000, '{"format": 2}', '{"format": 2, "strange": 1}']
)
def test_a_damaged_manifest_says_so(run, text):
    (run / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged .*choose another --out"):
        Manifest.load(run)


def test_a_manifest_of_another_version_says_so(run):
    (run / MANIFEST).write_text('{"config": {}, "image_sets": {}}')
    with pytest.raises(ValueError, match="format 1, not 2: another version of wallcheck wrote it"):
        Manifest.load(run)
