"""The report says what the rows say, of runs of any kind, in one file that asks for nothing."""

import re

import numpy as np
import pandas as pd
import pytest

from tests.nets import trained_tiny
from tests.report.folders import BROKEN, certificate, write_run
from tests.sets import write_photographs
from wallcheck import models, report
from wallcheck.cams import METHODS, called
from wallcheck.cli import main
from wallcheck.report._pictures import PICTURES, how_many, marker, region
from wallcheck.report._reading import Contents
from wallcheck.report._verdicts import pairs_of
from wallcheck.results import EXAMPLES, Header, Manifest, shards, write_shard


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def page(run):
    return report.write(run).read_text()


def standings(run, net="walled", images="stack_mix"):
    (pair,) = [one for one in pairs_of(Contents.read(run)) if (one.net, one.images) == (net, images)]
    return {one.name: one for one in pair.standings}


def test_each_method_gets_the_verdict_that_its_rows_give(run):
    verdicts = {name: one.verdict for name, one in standings(run).items()}
    assert verdicts == dict(
        gradcam="uniform", gradcampp="lit", hirescam="dark", eigencam="empty", inputxgradient="dark", scorecam="no map",
        constant="uniform", seen_only="dark",
    )  # fmt: skip
    assert standings(run)["scorecam"].error == BROKEN


def test_the_constant_map_is_known_without_being_audited(tmp_path):
    """Its share of the cells is counted, so that what leaks as much is told from what leaks less."""
    found = standings(write_run(tmp_path, ("gradcam", "gradcampp"), failing=None))
    assert {name: one.flat for name, one in found.items()} == dict(gradcam=0.5, gradcampp=0.5)
    assert {name: one.verdict for name, one in found.items()} == dict(gradcam="uniform", gradcampp="lit")


def test_a_method_that_must_be_dark_and_is_not_is_accused_on_blind_nets_alone(tmp_path):
    write_run(tmp_path, ("hirescam", "gradcam"), failing=None, sets=("stack_mix",))
    for path in shards(tmp_path):  # as if HiResCAM had leaked
        table, kept = pd.read_parquet(path), Contents.read(tmp_path).manifest.digest
        path.unlink()
        table.loc[table["method"] == "hirescam", "value"] = 0.25
        write_shard(tmp_path, table, Header(kept))
    html = report.write(tmp_path).read_text()
    assert re.findall(r"On (\w+) and STACK-MIX these are not zero although", html) == ["walled"]


def test_contrasts_come_last_and_are_no_verdict(run, page):
    assert [pair.net for pair in pairs_of(Contents.read(run))] == ["walled", "walled", "unwalled", "unwalled"]
    assert "2 of 6 methods light up what walled provably cannot see" in " ".join(page.split())
    assert "contrast: it sees what walled cannot" in page


def test_the_page_holds_all_it_shows_and_runs_nothing_of_others(page):
    assert BROKEN not in page and "&lt;b&gt;NaN&lt;/b&gt; &amp; nothing else" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page) and "http:" not in page and "https:" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize("said", ["wallcheck audit net.safetensors --out run", "torch ", "cccccccccccc", "the rules leave no path between them",
                                  "leak_mass", "positive part on cells: method leakage", "3..5 of 6"])  # fmt: skip
def test_certificate_words_versions_and_command_are_told(page, said):
    assert said in (page)


def test_methods_are_called_by_their_published_names(page):
    assert ">Grad-CAM++<code>gradcampp</code>" in page and ">HiResCAM<code>hirescam</code>" in page


def test_a_run_without_maps_says_so(tmp_path):
    html = report.write(write_run(tmp_path, examples=0)).read_text()
    assert "The run kept no maps" in html and not (tmp_path / EXAMPLES).exists()


def test_an_unfinished_run_tells_what_is_missing(tmp_path):
    write_run(tmp_path, ("gradcam",), nets=("walled",), sets=("stack_mix",), failing=None)
    kept = Manifest.load(tmp_path)
    kept.config["methods"]["walled"].append("layercam")
    kept.study["image_sets"]["stack_mix"]["count"] = 8
    kept.save(tmp_path)
    html = report.write(tmp_path).read_text()
    assert "Layer-CAM</b> (<code>layercam</code>) on walled and STACK-MIX: not measured yet" in " ".join(html.split())


def test_the_theory_stands_beside_what_was_measured(tmp_path):
    steps = pd.DataFrame(dict(step=[0, 0, 9, 9], image=[0, 1, 0, 1], method="gradcam", metric="leak_mass",
                              measured=[0.5, 0.7, 0.25, np.nan], predicted=[0.6, 0.64, 0.5, 0.5]))  # fmt: skip
    run = write_run(tmp_path)
    assert 'id="theory"' not in report.write(run).read_text()
    steps.to_parquet(run / "prediction.parquet")
    section = re.search(r'id="theory".*?</section>', report.write(run).read_text(), re.DOTALL)[0]
    assert re.findall(r"\d\.\d{3}", section) == ["0.620", "0.500", "0.600", "0.250"]


def test_every_method_there_is_stays_a_page_to_be_sent(tmp_path):
    """100 images on two nets and two sets: measured 3.3 MB, most of it pictures, which a test above bounds."""
    one = dict(nets=("walled",), sets=("stack_mix",), failing=None)
    path = report.write(write_run(tmp_path, tuple(METHODS), count=6, examples=1, **one))
    assert path.stat().st_size < 1e6
    assert all(f'data-method="{name}"' in path.read_text() for name in METHODS)


def test_pictures_are_fewer_where_there_are_many_methods():
    assert how_many(methods=8, kept=8, pairs=2) == 8
    assert 179 * 4 * how_many(methods=179, kept=8, pairs=4) <= PICTURES
    assert how_many(methods=5000, kept=8, pairs=4) == 1


def test_regions_of_any_shape_are_drawn_whole():
    mask = np.array([[1, 0, 1], [1, 0, 1], [0, 1, 0]], bool)
    drawn = np.zeros_like(mask)
    for left, top, width, height in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)", region(mask)):
        drawn[int(top) : int(top) + int(height), int(left) : int(left) + int(width)] = True
    assert np.array_equal(drawn, mask) and region(np.zeros((2, 2), bool)) == ""


def test_markers_are_those_of_the_figures():
    assert marker("hirescam") == "M-0.5 0.5 L0.5 0.5 L0.5 -0.5 L-0.5 -0.5 Z"


def test_no_two_methods_are_called_the_same():
    names = [called(name) for name in METHODS]
    assert len(set(names)) == len(names)


def test_the_command_makes_the_page_of_an_audit(tmp_path, capsys):
    """From a net and photographs to the page, through the commands alone."""
    model = models.save(trained_tiny(), tmp_path / "net.safetensors")
    photographs = write_photographs(tmp_path / "photographs", 6)
    command = [
        "audit",
        str(model),
        "--images",
        str(photographs),
        "--out",
        str(tmp_path / "run"),
        "--methods",
        "gradcam",
        "hirescam",
    ]
    assert main(command) == 0
    assert main(["report", str(tmp_path / "run")]) == 0
    assert str(tmp_path / "run" / "report.html") in capsys.readouterr().out
    html = (tmp_path / "run" / "report.html").read_text()
    assert "1 of 2 methods light up what net provably cannot see" in " ".join(html.split())
    assert "no path from" in html and len(Manifest.load(tmp_path / "run").config["commands"]) == 1
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "sent.html")]) == 0
    assert (tmp_path / "sent.html").read_text() == html


@pytest.mark.parametrize("damage, told", [
    (lambda run: (run / "manifest.json").unlink(), "holds no manifest.json"),
    (lambda run: [path.unlink() for path in shards(run)], "holds no rows"),
    (lambda run: shards(run)[0].write_bytes(b"PAR1"), "is damaged"),
    (lambda run: next((run / EXAMPLES).iterdir()).write_bytes(b"no"), "is damaged"),
    (lambda run: (run / "prediction.parquet").write_text("no"), "prediction.parquet is damaged"),
    (lambda run: (run / "report.html").mkdir(), "is a folder; name a file"),
])  # fmt: skip
def test_what_cannot_be_read_is_told_in_a_line_and_nothing_is_left(tmp_path, capsys, damage, told):
    run = write_run(tmp_path / "run", ("gradcam",), nets=("walled",), sets=("stack_mix",), failing=None)
    damage(run)
    assert main(["report", str(run)]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert not (run / "report.html").is_file() and not list(run.glob(".*partial"))


def test_without_a_measure_of_leakage_it_says_how_to_get_one(tmp_path):
    run = write_run(tmp_path, ("gradcam",))
    kept = Manifest.load(run)
    kept.config["metrics"] = ["leak_area"]
    kept.save(run)
    with pytest.raises(ValueError, match="only leak_area; audit into it again with --metrics leak_mass"):
        report.write(run)


def test_a_certificate_comes_back_from_the_manifest_as_it_was():
    kept = certificate().to_dict()
    assert type(certificate()).from_dict(kept).to_dict() == kept
