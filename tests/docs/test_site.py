"""How the site is put together: formulas, links, pages of the registries, pictures; and that every page is listed."""

import re
from xml.etree import ElementTree

import markdown
import pytest
from PIL import Image

from experiments.readme import replaced
from experiments.site.docstrings import fenced
from experiments.site.listing import check_listed, listed
from experiments.site.mathml import MathML
from experiments.site.pictures import SIDE, Picture, Shown, draw
from experiments.site.registries import gallery_pages, metrics_page, of_families
from experiments.site.written import MOVED, with_links, written_pages
from tests.docs.collecting import ROOT
from tests.nets import photos, trained_tiny
from wallcheck.cams import METHODS
from wallcheck.metrics import KINDS

MADE = {"metrics.md", "api.md", "gallery/index.md"}


def test_formulas_become_mathml_and_nothing_in_them_is_read_as_markdown():
    text = "The norm $`|A_v(u)|_2 * b_w`$ of *one*.\n\n```math\n\\frac{a}{b}\n```\n\n`a $x$`"
    page = markdown.markdown(text, extensions=[MathML(), "pymdownx.superfences"])
    inline, block = (ElementTree.fromstring(found) for found in re.findall(r"<math.*?</math>", page))
    assert "".join(inline.itertext()) == "|Av(u)|2*bw" and block.get("display") == "block"
    assert page.count("<em>") == 1 and "<code>a $x$</code>" in page


def test_every_formula_of_the_theory_is_converted():
    text = (ROOT / "theory/README.md").read_text()
    page = markdown.markdown(text, extensions=[MathML(), "pymdownx.superfences", "tables"])
    assert page.count("<math") == len(re.findall(r"\$`[^`]+`\$", text)) + text.count("```math")
    assert "\\frac" not in page and "```" not in page


def test_links_lead_to_the_pages_they_meant(tmp_path):
    docs, out = ROOT / "docs", tmp_path

    def link(target, source, place):
        return with_links(f"[x]({target})", source, out / place, ROOT, out)

    assert link("../theory/README.md#t2", docs / "idea.md", "idea.md") == "[x](theory/index.md#t2)"
    assert link("../methods.md", docs / "results/index.md", "results/index.md") == "[x](../methods.md)"
    assert link("figures/a.png", ROOT / "theory/README.md", "theory/index.md") == "[x](figures/a.png)"
    assert link("docs/ci.md", ROOT / "CONTRIBUTING.md", "contributing.md") == "[x](ci.md)"
    assert link("https://a.example/b.md", docs / "ci.md", "ci.md") == "[x](https://a.example/b.md)"


def test_every_link_of_a_written_page_leads_somewhere(tmp_path):
    written_pages(ROOT, tmp_path)
    made = {*MADE, *(f"gallery/{family}.md" for family in of_families())}
    for page in tmp_path.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            goes = (page.parent / target).resolve()
            assert "://" in target or goes.is_file() or goes.relative_to(tmp_path.resolve()).as_posix() in made, (
                page,
                target,
            )


def test_every_page_is_listed_once():
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    check_listed(
        ROOT / "mkdocs.yml",
        sorted({*written, *MOVED.values(), *MADE, *(f"gallery/{family}.md" for family in of_families())}),
    )


def test_a_page_that_is_not_listed_is_told(tmp_path):
    config = tmp_path / "mkdocs.yml"
    config.write_text("nav:\n  - a.md\n  - Part:\n      - Two: b.md\n")
    assert listed(config) == ["a.md", "b.md"]
    check_listed(config, ["a.md", "b.md"])
    with pytest.raises(ValueError, match=r"c\.md is not listed"):
        check_listed(config, ["a.md", "b.md", "c.md"])
    with pytest.raises(ValueError, match=r"b\.md is listed, but there is no such page"):
        check_listed(config, ["a.md"])


def test_every_method_has_its_entry_with_verdict_source_and_formula():
    methods = of_families()
    every = [method for each in methods.values() for method in each]
    assert {m.name for m in every} == {m.name for m in METHODS.values() if m.family != "peer"}
    pictures = {m.name: Picture(f"{m.name}.png", "a net", "12%") for m in every}
    pages = gallery_pages(methods, pictures, "a net")
    assert set(pages) == {"gallery/index.md", *(f"gallery/{family}.md" for family in methods)}
    for family, each in methods.items():
        for method in each:
            assert f"({family}.md#{method.name})" in pages["gallery/index.md"]
    pooled = pages["gallery/pooled.md"].split("## Grad-CAM { #gradcam }")[1].split("\n## ")[0]
    assert (
        "```text\nsum_k mean_u G_k(u) A_k." in pooled
        and "name: `gradcam`" in pooled
        and "`may_leak`" in pooled
        and "`1F+1b`" in pooled
    )
    assert "](gradcam.png)" in pooled and METHODS["gradcam"].source in pooled


def test_every_metric_has_its_entry():
    page = metrics_page()
    for registry in KINDS.values():
        for metric in registry.values():
            assert f"### {metric.name}\n" in page and metric.ends in page


def test_pictures_are_small_and_say_what_is_unseen(tmp_path):
    shown = [Shown(trained_tiny(), photos(1)[0], "tiny")]
    drawn = draw(shown, [METHODS["gradcam"], METHODS["hirescam"], METHODS["gradient"]], tmp_path)
    assert drawn["hirescam"].unseen == "0" and drawn["gradcam"].unseen.endswith("%")
    for name in ("gradcam", "hirescam", "gradient", "image"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size == (SIDE, SIDE) and picture.mode == "P"
        assert (tmp_path / f"{name}.png").stat().st_size < 40_000
    with pytest.raises(ValueError, match="raw_attention is defined on none of 1 nets"):
        draw(shown, [METHODS["raw_attention"]], tmp_path)


def test_examples_of_docstrings_become_code():
    assert fenced("Two.\n\n>>> 1 + 1\n2\n\nMore.") == "Two.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore."
    assert fenced("No example: a >> b.") == "No example: a >> b."


def test_the_lines_on_speed_have_their_place():
    page = (ROOT / "docs/results/index.md").read_text()
    assert replaced(page, "speed", "* fast") != page
