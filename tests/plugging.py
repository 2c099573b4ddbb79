"""wallcheck as another project finds it installed: its entry points, whatever is installed here."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def installed(folder: Path) -> Path:
    """A folder that, on the path, makes pyproject.toml's entry points found."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = folder / "wallcheck-0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: wallcheck\nVersion: 0\n")
    lines = [
        f"[{group}]\n" + "\n".join(f"{n} = {v}" for n, v in points.items())
        for group, points in project["entry-points"].items()
    ]
    (told / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def pytest_in(project: Path, path: Path, *arguments: str) -> subprocess.CompletedProcess:
    """pytest in a project of its own, with this wallcheck installed by `installed`."""
    shared = os.pathsep.join([str(path), str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    settings = {**os.environ, "PYTHONPATH": shared, "COLUMNS": "160", "PYTHONDONTWRITEBYTECODE": "1"}
    settings.pop("PYTEST_ADDOPTS", None)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--rootdir",
        str(project),
        *arguments,
    ]
    return subprocess.run(command, cwd=project, env=settings, capture_output=True, text=True)
