"""Every block of Python in README and docs, as a reader would run it: page by page, from top to bottom."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.docs.collecting import PAGES, ROOT, Block, blocks
from wallcheck.cams import METHODS
from wallcheck.cli import main

pytest_plugins = "pytester"

# What a page takes for granted: a command that is run before its blocks.
BEFORE = {
    "docs/clusters.md": "audit assets:plain --images assets:stack_mix --count 6 --methods gradcam --out runs/big",
}
WITH_CODE = [page for page in PAGES if blocks(page)]
FILES = {block.code: block for page in WITH_CODE for block in blocks(page) if block.title}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def own_folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty folder to run in; methods that a page registers are forgotten after it."""
    monkeypatch.chdir(tmp_path)
    before = dict(METHODS)
    yield tmp_path
    METHODS.clear()
    METHODS.update(before)


@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_the_blocks_of_a_page_run_one_after_another(page, own_folder):
    if name(page) in BEFORE:
        assert main(BEFORE[name(page)].split()) == 0
    torch.manual_seed(0)
    namespace: dict[str, object] = {"__name__": "__page__"}
    for block in blocks(page):
        code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
        if block.is_run and block.title is None:
            exec(code, namespace)


@pytest.mark.parametrize("block", FILES.values(), ids=lambda block: block.title)
def test_a_file_of_tests_does_what_its_page_says(block: Block, pytester):
    pytester.makepyfile(**{block.title.removesuffix(".py"): block.code})
    outcomes = pytester.runpytest_inprocess(*plugin(pytester), "-p", "no:cacheprovider").parseoutcomes()
    assert set(outcomes) <= {"passed", "xfailed", "warnings", "warning"} and outcomes["passed"], outcomes
    assert ("xfailed" in outcomes) == ("expected_failures" in block.code)


def plugin(pytester) -> tuple[str, ...]:
    """The plugin, where this environment was installed before wallcheck had one."""
    from importlib.metadata import entry_points

    installed = any(point.name == "wallcheck" for point in entry_points(group="pytest11"))
    return () if installed else ("-p", "wallcheck.pytest_plugin")


def test_what_is_not_run_is_rare_and_says_why():
    kept_back = [block for page in WITH_CODE for block in blocks(page) if not block.is_run]
    assert len(kept_back) <= 2, "run it, or make it cheap enough to be run"
