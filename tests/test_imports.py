"""Imports point down, and the door is light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wallcheck"

LEVEL = {
    "writing": 0, "defaults": 0, "switches": 0, "terminal": 1, "version": 0, "geometry": 0, "photos": 0, "numerics": 0, "registry": 0, "guided": 0, "statistics": 0, "imputing": 0,
    "graph": 1, "models": 2, "maps": 1, "wall_words": 1, "data": 1, "metrics": 1, "results": 1,
    "comparing": 2, "arithmetic": 3, "certificate": 4, "budgeted": 2, "evidence": 3, "regularisers": 3, "labelled": 2, "attended": 2, "memory": 0, "traced": 2,
    "randomising": 3, "similarity": 2,
    "cams": 4, "masking": 4,
    "keeping": 0, "regions": 3, "handed": 4, "assets": 3, "reading": 7, "leakage_metric": 7,
    "adapters": 5, "checking": 5, "guarding": 5, "measuring": 5,
    "auditing": 6, "plots": 6, "prediction": 6,
    "examples": 7, "identity": 7, "lit": 7, "report": 7, "study": 7,
    "running": 8, "tables": 8,
    "cli": 9, "testing": 9, "pytest_plugin": 10, "__main__": 10,
}  # fmt: skip


def imported(path: Path, package: str) -> Iterator[str]:
    """Modules of `package` that a file imports anywhere, inside functions too, as dotted names below it; "" is itself."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it out"
            names = [node.module if node.module != package else f"{package}.{alias.name}" for alias in node.names]
        yield from (name.partition(".")[2] for name in names if name.partition(".")[0] == package)


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def loaded(statement: str) -> set[str]:
    """Top-level modules in sys.modules after a statement in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_imports_point_strictly_down():
    for path in sources(PACKAGE):
        here = part(path)
        if here == "__init__":
            continue
        for name in imported(path, "wallcheck"):
            there = name.partition(".")[0]
            assert there, f"{path} imports the door; import from the module that defines the name"
            assert there == here or LEVEL[there] < LEVEL[here], f"{path}: {here} must not import {there}"


@pytest.mark.parametrize("package", ["wallcheck", "experiments", "data_gen", "theory"])
def test_no_file_imports_itself_by_way_of_others(package):
    """Each file is left when nothing it imports remains; a cycle would remain for ever."""
    files = {dotted(path): path for path in sources(ROOT / package) if path.name != "__init__.py"}
    needs = {name: {other for other in imported_files(path, package) if other in files} for name, path in files.items()}
    while free := [name for name, wanted in needs.items() if not wanted]:
        needs = {name: wanted - set(free) for name, wanted in needs.items() if name not in free}
    assert not needs, f"these import each other: {needs}"


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported_files(path: Path, package: str) -> Iterator[str]:
    """Dotted names that a file may mean: `from a.b import c` is a.b or a.b.c."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == package:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_module_has_a_level():
    assert {part(path) for path in sources(PACKAGE)} - {"__init__"} <= set(LEVEL)


def test_the_door_is_light():
    heavy = {"torch", "lightning", "numpy", "pandas", "scipy", "matplotlib", "sympy"}
    assert not loaded("import wallcheck; wallcheck.__version__; dir(wallcheck)") & heavy


def test_rows_can_be_read_without_torch():
    assert not loaded("import wallcheck.results") & {"torch", "lightning"}


def test_photographs_can_be_read_without_torch():
    assert not loaded("import wallcheck.photos") & {"torch", "lightning"}


def test_lightning_waits_for_training_and_run_folders():
    assert "lightning" not in loaded("import wallcheck; wallcheck.audit, wallcheck.certify, wallcheck.METHODS")


def test_the_door_draws_no_random_number():
    """rich draws one when it is imported, at the first audit of a process."""
    code = "import random, wallcheck; random.seed(0); wallcheck.audit, wallcheck.plots; print(random.random())"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert float(told) == Random(0).random()


def test_every_name_of_the_door_resolves():
    import wallcheck

    for name in wallcheck.__all__:
        assert getattr(wallcheck, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'gradcam'"):
        wallcheck.gradcam  # noqa: B018


def test_data_gen_knows_geometry_the_reader_of_photographs_and_whole_files_only():
    used = {name for path in sources(ROOT / "data_gen") for name in imported(path, "wallcheck")}
    assert used <= {"geometry", "photos", "writing"}


def test_theory_stands_alone():
    packages = ("wallcheck", "data_gen", "experiments", "tests")
    assert not [(path, name) for path in sources(ROOT / "theory") for p in packages for name in imported(path, p)]


@pytest.mark.parametrize("peer", ["pytorch_grad_cam", "torchcam", "captum", "zennit", "quantus"])
def test_other_libraries_stay_in_adapters(peer):
    using = {part(path) for path in sources(PACKAGE) if list(imported(path, peer))}
    assert using <= {"adapters"}
