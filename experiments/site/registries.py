"""Pages made from the registries: methods by family, each with its picture, and metrics by kind."""

from html import escape

from experiments.site.pictures import Picture
from wallcheck.cams import FAMILIES, METHODS, VERDICTS, Method
from wallcheck.metrics import KINDS, Metric
from wallcheck.plots.pictures import called

INTRO = (
    "The image is one that the wheel ships; its hatched part is what the net provably cannot see. Each picture shows the positive part of "
    "the map, enlarged over the image, on a scale of its own. Dashed is the wall between cells, and below the solid line lie the "
    "unseen pixels. The share under a picture is positive attribution that is unseen: one image on one net, not a result; "
    "[these are](../methods.md)."
)


def of_families() -> dict[str, list[Method]]:
    """Our methods by family, in order; a family without any is left out."""
    found = {family: [m for m in METHODS.values() if m.family == family] for family in FAMILIES if family != "peer"}
    return {family: methods for family, methods in found.items() if methods}


def gallery_pages(methods: dict[str, list[Method]], pictures: dict[str, Picture], usual: str) -> dict[str, str]:
    """All pictures on one page, and one page for each family. usual: the net that goes without saying."""
    pages = {"gallery/index.md": _all_pictures(methods, pictures, usual)}
    for family, each in methods.items():
        told = f"{_sentence(FAMILIES[family])} {len(each)} methods, drawn on {usual} unless said otherwise."
        entries = [_entry(method, pictures[method.name], usual) for method in each]
        pages[f"gallery/{family}.md"] = "\n\n".join([f"# {family.capitalize()}", told, *entries]) + "\n"
    return pages


def _all_pictures(methods: dict[str, list[Method]], pictures: dict[str, Picture], usual: str) -> str:
    count = sum(map(len, methods.values()))
    parts = ["# Every method, drawn", f"{count} methods on {usual}, or on another net where they need one. {INTRO}"]
    parts.append("![The image, its unseen part hatched](image.png){ .map }")
    for family, each in methods.items():
        tiles = [_tile(method, pictures[method.name], family) for method in each]
        parts += [
            f"## [{family.capitalize()}]({family}.md)",
            _sentence(FAMILIES[family]),
            '<div class="maps" markdown>',
            *tiles,
            "</div>",
        ]
    return "\n\n".join(parts) + "\n"


def _tile(method: Method, picture: Picture, family: str) -> str:
    return f"[![{_alternative(method, picture)}]({picture.path}){{ loading=lazy }}<br>{called(method.name)}<br>{picture.unseen}]({family}.md#{method.name})"


def _entry(method: Method, picture: Picture, usual: str) -> str:
    facts = {
        "name": f"`{method.name}`",
        "verdict": f"`{method.verdict}`: {VERDICTS[method.verdict]}",
        "unseen in the picture": picture.unseen,
        "drawn on": "" if picture.net == usual else picture.net,
        "cost": f"`{method.cost}`",
        "map of": method.grid,
        "repairs": f"`{method.repairs}`" if method.repairs else "",
        "source": escape(method.source, quote=False),
    }
    image = f"![{_alternative(method, picture)}]({picture.path}){{ .map loading=lazy }}"
    return f"## {called(method.name)} {{ #{method.name} }}\n\n{image}\n\n{preformatted(method.body.__doc__)}{listed_facts(facts)}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _alternative(method: Method, picture: Picture) -> str:
    return f"Map of {called(method.name)}, unseen: {picture.unseen}"


def metrics_page() -> str:
    """Every metric by kind."""
    parts = [
        "# Metrics",
        "What each metric asks of a map, its ends, and which way is better. `wallcheck metrics` prints the same list. "
        "[Read the numbers](numbers.md) says what the figures of an audit mean.",
    ]
    for kind, registry in KINDS.items():
        parts += [f"## {kind.capitalize()}", *(_metric(metric) for metric in registry.values())]
    return "\n\n".join(parts) + "\n"


def _metric(metric: Metric) -> str:
    facts = {
        "ends": metric.ends,
        "better": metric.better,
        "cost": metric.cost,
        "source": escape(metric.source, quote=False),
    }
    return f"### {metric.name}\n\n{preformatted(metric.body.__doc__)}{listed_facts(facts)}"


def preformatted(text: str | None) -> str:
    """A docstring as it is, for its formulas are no Markdown; nothing where there is none."""
    if not text:
        return ""
    lines = text.strip().splitlines()
    margin = min((len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()), default=0)
    whole = "\n".join([lines[0], *(line[margin:] for line in lines[1:])]).rstrip()
    return f"```text\n{whole}\n```\n\n"


def listed_facts(facts: dict[str, str]) -> str:
    return "\n".join(f"* {name}: {fact}" for name, fact in facts.items() if fact)
