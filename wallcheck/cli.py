"""The command `wallcheck`: methods, metrics, certify, audit.

Exit status: 0 done; 1 the model is not blind (certify); 2 a user's error, in one line; 3 audited, but some methods gave no
map for some images: they are named, all other rows stand, and the same command tries them again; 130 interrupted.
"""

import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jsonargparse import ArgumentParser

from wallcheck.writing import at_home, say

INCOMPLETE = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; user errors become one line on stderr and exit status 2, warnings a line each."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command = options.subcommand
    if command is None:
        parser.print_help()
        return 2
    try:
        commands = {"methods": _methods, "metrics": _metrics, "certify": _certify, "audit": _audit}
        with plain_warnings(f"wallcheck {command}"):
            return commands[command](options[command])
    except KeyboardInterrupt:
        print(f"wallcheck {command}: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, LookupError) as error:
        print(f"wallcheck {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


@contextmanager
def plain_warnings(name: str) -> Iterator[None]:
    """Warnings as a person at a terminal reads them: one line on stderr, without a place in our code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"{name}: {' '.join(str(message).split())}", file=sys.stderr)
        yield


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="wallcheck", description="Does this saliency method light up what the model cannot see?"
    )
    commands = parser.add_subcommands(required=False)

    methods = ArgumentParser(description="List the methods: family, cost, source, expected verdict.")
    methods.add_argument("--json", action="store_true", help="as JSON")
    commands.add_subcommand("methods", methods, help="list the methods")

    metrics = ArgumentParser(description="List the metrics: what each measures, its ends and direction, cost, source.")
    metrics.add_argument("--json", action="store_true", help="as JSON")
    commands.add_subcommand("metrics", metrics, help="list the metrics")

    certify = ArgumentParser(description="Prove or refute that a model is blind; exit status 1 if it is not.")
    certify.add_argument("model", type=str, help="model.safetensors, with model.json beside it")
    certify.add_argument("--out", type=str, default=None, help="keep the certificate here, as JSON")
    commands.add_subcommand("certify", certify, help="prove that a model is blind")

    audit = ArgumentParser(
        description="Measure the leakage of methods on a blind model; an interrupted audit goes on, and a finished one takes "
        "more methods, images and metrics. Exit status 3: a method gave no map for some images; all other rows stand."
    )
    audit.add_argument("model", type=str, help="model.safetensors, with model.json beside it")
    audit.add_argument("--images", type=str, required=True, help="a folder of photographs, or a generated image set")
    audit.add_argument("--out", type=str, required=True, help="run folder: manifest, rows, table")
    audit.add_argument("--methods", type=str, default=None, nargs="+", help="names; all if not given")
    audit.add_argument("--metrics", type=str, default=None, nargs="+", help="leakage metrics; all if not given")
    audit.add_argument("--count", type=int | None, default=None, help="audit the first COUNT images only")
    audit.add_argument(
        "--targets",
        type=str,
        default="predicted",
        help="predicted or label; photographs are labelled by their class folders",
    )
    audit.add_argument(
        "--classes",
        type=str,
        default=None,
        help="names of the net's classes, if its description has none: a tree TREE/CLASS/IMAGE, an image set, or a text file",
    )
    audit.add_argument("--seed", type=int, default=0, help="of every draw by chance")
    audit.add_argument("--batch_size", type=int, default=20, help="images at once")
    audit.add_argument(
        "--certificate", type=str, default=None, help="refuse the model unless it is the one certified here"
    )
    commands.add_subcommand("audit", audit, help="measure leakage")
    return parser


def _methods(options) -> int:
    from wallcheck.cams import METHODS

    return _listed("methods", METHODS.values(), ("name", "family", "cost", "verdict", "grid", "source"), options.json)


def _metrics(options) -> int:
    from wallcheck.metrics import KINDS

    every = [metric for registry in KINDS.values() for metric in registry.values()]
    return _listed("metrics", every, ("name", "kind", "what", "ends", "better", "cost", "source"), options.json)


def _listed(title: str, entries: Iterable, fields: Sequence[str], as_json: bool) -> int:
    """Print a registry's entries, a line each."""
    from rich.table import Table

    from wallcheck.tables import show

    rows = [{name: getattr(entry, name) for name in fields} for entry in entries]
    if as_json:
        say(json.dumps(rows, indent=1))
        return 0
    table = Table(title=f"{len(rows)} {title}")
    for name in fields:
        table.add_column(name)
    for row in rows:
        table.add_row(*row.values())
    show(table, 160)
    return 0


def _certify(options) -> int:
    from wallcheck import models
    from wallcheck.certificate import certify

    net, out = models.load(options.model), at_home(options.out) if options.out else None
    if out:  # told before the proofs
        out.parent.mkdir(parents=True, exist_ok=True)
    certificate = certify(net)
    if out:
        certificate.save(out)
    say(certificate.summary())
    return 0 if certificate.holds else 1


def _audit(options) -> int:
    from wallcheck import models
    from wallcheck.certificate import Certificate
    from wallcheck.running import Study, images_for, run
    from wallcheck.tables import notices_on_stderr, print_leakage, progress_bar

    net = models.load(options.model)
    if options.certificate:
        Certificate.load(at_home(options.certificate)).raise_if_broken().raise_if_other(net)
    with notices_on_stderr("wallcheck audit"):
        images = images_for(net, at_home(options.images), options.classes, options.targets)
    study = Study(
        {Path(options.model).stem: net},
        [images],
        options.methods,
        count=options.count,
        targets=options.targets,
        seed=options.seed,
        batch_size=options.batch_size,
        metrics=options.metrics,
    )
    with progress_bar() as tell:
        rows = run(study, options.out, progress=tell)
    print_leakage(rows)
    say(f"rows, manifest and table are in {options.out}")
    return INCOMPLETE if rows.attrs["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
