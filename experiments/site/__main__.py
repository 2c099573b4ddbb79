"""Put the pages of the docs site together; `make docs` builds them.

    python -m experiments.site
    python -m zensical build --strict

Pages come from docs/, theory/README.md, CONTRIBUTING.md and CHANGELOG.md. Those of methods, metrics and of the API are made
from the registries and from the door. mkdocs.yml lists all of them: a page that it does not name is an error, and so is a name
without a page.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments import flags
from experiments.site.api import api_page
from experiments.site.listing import check_listed
from experiments.site.nets import shown_nets
from experiments.site.pictures import draw
from experiments.site.registries import gallery_pages, metrics_page, of_families
from experiments.site.written import written_pages
from wallcheck.writing import say, write_text


@dataclass(frozen=True)
class Site:
    """Put the pages of the docs site together.

    Args:
        root: the repository.
        out: folder of the pages, emptied first; docs_dir of mkdocs.yml.
    """

    root: str = "."
    out: str = "build/pages"


def main(options: Site) -> None:
    root, out = Path(options.root), Path(options.out)
    files = written_pages(root, out)
    nets, methods = shown_nets(), of_families()
    pictures = draw(nets, [method for each in methods.values() for method in each], out / "gallery")
    pages = {"metrics.md": metrics_page(), "api.md": api_page(), **gallery_pages(methods, pictures, nets[0].told)}
    for name, text in pages.items():
        write_text(out / name, text)
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.md"))
    check_listed(root / "mkdocs.yml", names)
    say(f"{out}: {len(names)} pages, {files} files as they are, {len(pictures)} pictures of methods")


if __name__ == "__main__":
    flags.script("experiments.site", main, Site)
