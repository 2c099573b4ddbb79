"""The page of the API: the door's names, each documented by its docstring (mkdocstrings)."""

import inspect
from importlib import import_module

import wallcheck

PARTS = {
    "Build and prove": ["blind", "layers", "certify", "BlindNet", "Wall", "Certificate", "BrokenWall"],
    "Ask and audit": ["leakage", "Reading", "LeakageMetric", "audit", "Evidence", "cam_method", "predict_leakage"],
}
MODULES = {
    "adapters": "other libraries' explainers",
    "maps": "how a raw map is altered, and what that is called",
    "data": "image sets and folders of photographs",
    "models": "presets, files and models by name",
    "results": "rows, run folders and summaries",
}


def api_page() -> str:
    """One entry for each callable of the door, by what it is for, and for each module that users call."""
    parts = [
        "# API",
        "What `import wallcheck as wc` offers. Names resolve on first use, so the import itself loads neither torch nor lightning.",
    ]
    for title, names in (PARTS | _others()).items():
        parts += [f"## {title}", *(_entry(name) for name in names)]
    parts.append("## Modules")
    for name, told in MODULES.items():
        parts += [f"### wallcheck.{name}", f"{told.capitalize()}.", *_members(name)]
    return "\n\n".join(parts) + "\n"


def _others() -> dict[str, list[str]]:
    """Callables of the door that no part names: a new one is shown before anybody thinks of it."""
    named = {name for names in PARTS.values() for name in names}
    others = [n for n in wallcheck.__all__ if n not in named and callable(getattr(wallcheck, n)) and not n.isupper()]
    return {"More": others} if others else {}


def _entry(name: str, level: int = 3) -> str:
    return _documented(getattr(wallcheck, name), f"wc.{name}", level)


def _members(module: str) -> list[str]:
    """The functions and classes of a module that the door does not offer itself."""
    home = import_module(f"wallcheck.{module}")
    names = getattr(home, "__all__", None) or [n for n, each in vars(home).items() if _own(each, home)]
    found = [n for n in names if n not in wallcheck.__all__ and callable(getattr(home, n)) and getattr(home, n).__doc__]
    return [_documented(getattr(home, n), f"wallcheck.{module}.{n}", 4) for n in found]


def _own(each: object, home: object) -> bool:
    return callable(each) and getattr(each, "__module__", "") == home.__name__ and not each.__name__.startswith("_")


def _documented(each: object, shown: str, level: int) -> str:
    """The directive that puts a docstring and signature on the page, under the name that a user types."""
    path = f"{inspect.getmodule(each).__name__}.{each.__qualname__}"
    return f"::: {path}\n    options:\n      heading: {shown}\n      heading_level: {level}\n      toc_label: {shown}"
