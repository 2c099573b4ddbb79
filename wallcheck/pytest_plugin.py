"""The pytest plugin: a fixture `wall`, and what a failure shows. It imports nothing but pytest until the fixture is asked for.

def test_my_method_is_blind(wall):
    assert wall.leakage(my_cam) <= 0.01

pytest --wall-net nets/mine.safetensors --wall-images photographs --wall-seed 3
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wallcheck.reading import Reading
    from wallcheck.testing import Wall

REVERSED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
OPENED = pytest.StashKey["Wall"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("wallcheck", "does a saliency method light up what a model cannot see?")
    group.addoption(
        "--wall-net",
        default="assets:plain",
        help="the blind net: assets:plain, assets:pooled, assets:residual, a file of wallcheck.models.save, or package.module:function",
    )
    group.addoption(
        "--wall-images",
        default="assets:stack_mix",
        help="the images: assets:stack_mix, assets:stack_gen, an image set, or a folder of photographs",
    )
    group.addoption("--wall-seed", type=int, default=0, help="of every draw by chance")
    group.addoption("--wall-pictures", default="wallcheck-failures", help="folder for pictures of what failed")


@pytest.fixture(scope="session")
def wall(request: pytest.FixtureRequest) -> Wall:
    """A network that provably cannot see a part of its images: assert wall.leakage(method) <= 0.01"""
    from wallcheck.testing import Wall

    config = request.config
    found = Wall.opened(
        config.getoption("--wall-net"),
        config.getoption("--wall-images"),
        config.getoption("--wall-seed"),
        config.rootpath / config.getoption("--wall-pictures"),
    )
    config.stash[OPENED] = found
    return found


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """What a failed comparison of a reading shows: value, interval, images, worst image and cell, the constant map's value."""
    module = sys.modules.get("wallcheck.reading")  # where nobody imported it, there is no reading
    if module is None:
        return None
    if isinstance(right, module.Reading):  # 0.01 >= reading
        left, op, right = right, REVERSED.get(op, op), left
    if not isinstance(left, module.Reading) or not isinstance(right, int | float):
        return None
    lines = [f"leakage of {left.method} {op} {right:g}", *left.describe().splitlines()]
    opened = config.stash.get(OPENED, None)
    if opened is not None:
        lines.append(_picture(opened, left))
    return lines


def _picture(opened: Wall, reading: Reading) -> str:
    try:
        return f"picture: {opened.picture(reading)}"
    except Exception as error:  # the failure itself must be told, whatever a method does when it is asked again
        return f"no picture: {type(error).__name__}: {error}"
