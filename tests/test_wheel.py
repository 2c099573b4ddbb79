"""The wheel as a stranger gets it: what is in it, what it asks for, and its demo where nothing but its dependencies is."""

import os
import re
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from wallcheck import assets, version

ROOT = Path(__file__).parents[1]
# What only extras bring, or only the source repository has. (sympy, of the extra theory, comes with torch.)
ABSENT = (
    "captum",
    "data_gen",
    "docstring_parser",
    "experiments",
    "pytorch_grad_cam",
    "theory",
    "timm",
    "torchcam",
    "typeshed_client",
)


def built(folder, **environment):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def metadata(wheel):
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [one for one in packed.namelist() if one.endswith("METADATA")]
        return message_from_string(packed.read(name).decode())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    return built(folder)


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.fixture(scope="module")
def told(wheel):
    return metadata(wheel)


def test_it_holds_the_package_its_assets_and_its_types_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as packed:
        sizes = {one.filename: one.file_size for one in packed.infolist()}
    info = f"wallcheck-{version.__version__}.dist-info/"
    assert all(name.startswith(("wallcheck/", info)) for name in sizes)
    assert {f"wallcheck/assets/{name}" for name in (*assets.manifest()["files"], assets.MANIFEST)} <= set(sizes)
    assert "wallcheck/py.typed" in sizes and max(sizes.values()) < 1e6
    assert sum(size for name, size in sizes.items() if name.startswith("wallcheck/assets/")) < 1.5e6


def test_its_metadata_says_what_an_index_shows(told):
    assert told["Version"] == version.__version__ and told["License-Expression"] == "MIT"
    assert told["Author"] == "The wallcheck developers"
    assert set(told.get_all("Provides-Extra")) >= {"train", "theory", "peers", "timm", "dev"}
    bare = " ".join(one for one in told.get_all("Requires-Dist") if "extra ==" not in one)
    assert "sympy" not in bare and "signatures" not in bare and "torch" in bare


def test_where_it_is_published_its_links_are_absolute(tmp_path):
    address = "https://example.org/someone/wallcheck"
    told = metadata(built(tmp_path, WALLCHECK_ADDRESS=address))
    assert f"Source, {address}" in told.get_all("Project-URL")
    text = told.get_payload()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 20 and all(link.startswith("https://") for link in links)
    assert f"({address}/raw/main/docs/main.png)" in text and f"({address}/blob/main/docs/method.md)" in text
    for link in links:
        assert (ROOT / link.removeprefix(f"{address}/raw/main/").removeprefix(f"{address}/blob/main/")).is_file(), link


def test_it_tells_pytest_and_the_shell_where_to_find_it(unpacked):
    (points,) = unpacked.glob("*.dist-info/entry_points.txt")
    text = points.read_text()
    assert "[console_scripts]\nwallcheck = wallcheck.cli:main" in text
    assert "[pytest11]\nwallcheck = wallcheck.pytest_plugin" in text


def test_the_demo_runs_where_only_the_dependencies_are(unpacked, tmp_path):
    """From an empty folder, every package of an extra hidden: a table, a picture, a run folder."""
    code = (
        f"import sys\nfor name in {ABSENT!r}:\n    sys.modules[name] = None\n"
        "import wallcheck\nassert not {'torch', 'lightning'} & set(sys.modules)\n"
        "from wallcheck.cli import main\nsys.exit(main(['demo', '--out', 'demo', '--markdown']))"
    )
    settings = {**os.environ, "PYTHONPATH": str(unpacked), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cells = {
        line.split(" | ")[0].strip("| "): line.split(" | ")
        for line in done.stdout.splitlines()
        if line.startswith("| ")
    }
    assert done.stdout.startswith("**plain on stack_mix**")
    assert cells["hirescam"][2].startswith("0.000") and cells["layercam"][2].startswith("0.000")
    assert cells["constant"][2].startswith("0.750 [0.750, 0.750]") and float(cells["gradcam"][2].split()[0]) > 0.3
    assert (tmp_path / "demo" / "demo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert {"manifest.json", "rows", "leakage.csv", "examples"} <= {path.name for path in (tmp_path / "demo").iterdir()}
