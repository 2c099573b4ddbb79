"""The command `wallcheck`: methods, metrics, layers, certify, audit.

A model is a file that wallcheck.models.save wrote, or a name that wallcheck.models.opened knows (torchvision:resnet50, timm:NAME,
small:FAMILY, wallcheck:vit_small, package.module:function), which is put behind a wall here.

Exit status: 0 done; 1 the model is not blind, or nothing is unseen (certify); 2 a user's error, in one line; 3 audited, but some methods gave no
map for some images: they are named, all other rows stand, and the same command tries them again; 130 interrupted.
"""

import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
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
        commands = {"methods": _methods, "metrics": _metrics, "layers": _layers, "certify": _certify, "audit": _audit}
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

    layers = ArgumentParser(
        description="List where a model can be cut, and the pixels that each kind of wall hides there."
    )
    _add_named(layers)
    layers.add_argument("--json", action="store_true", help="as JSON")
    commands.add_subcommand("layers", layers, help="list where a model can be cut")

    certify = ArgumentParser(
        description="Prove or refute that a model is blind; exit status 1 if it is not, or if its wall hides nothing."
    )
    _add_model(certify)
    certify.add_argument("--out", type=str, default=None, help="keep the certificate here, as JSON")
    commands.add_subcommand("certify", certify, help="prove that a model is blind")

    audit = ArgumentParser(
        description="Measure the leakage of methods on a blind model; an interrupted audit goes on, and a finished one takes "
        "more methods, images and metrics. Exit status 3: a method gave no map for some images; all other rows stand."
    )
    _add_model(audit)
    _add_study(audit)
    commands.add_subcommand("audit", audit, help="measure leakage")
    return parser


def _add_study(audit: ArgumentParser) -> None:
    """What is audited, and where it is kept."""
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
        "--precision", type=str, default="exact", help="exact, or fast: TF32 on a GPU, bfloat16 for rescored images"
    )
    audit.add_argument(
        "--certificate", type=str, default=None, help="refuse the model unless it is the one certified here"
    )


def _add_named(parser: ArgumentParser, what: str = "") -> None:
    """A model by its name, and what builds it. What is not given is None, so that a file can refuse what is."""
    parser.add_argument(
        "model",
        type=str,
        help=f"{what}torchvision:NAME, timm:NAME, small:FAMILY, wallcheck:vit_small or package.module:function",
    )
    parser.add_argument(
        "--weights", type=str | None, help="of a named model: a .safetensors file, or a state dict by torch"
    )
    parser.add_argument("--model_args", type=str | None, help="of its constructor, as JSON: '{\"num_classes\": 5}'")
    parser.add_argument("--image_size", type=str | None, help="a side in pixels, or HxW; 224 if not given")
    parser.add_argument("--wall", type=str | None, help="side:cells or side:share; bottom:1/2 if not given")


def _add_model(parser: ArgumentParser) -> None:
    """A model that was saved, or one that is named and put behind a wall here."""
    _add_named(parser, "model.safetensors with model.json beside it; or a name: ")
    parser.add_argument(
        "--layer", type=str | None, help="where the map is taken (wallcheck layers); the last if not given"
    )
    parser.add_argument("--kind", type=str | None, help="head or trunk; head if not given")
    parser.add_argument("--own_code", action="store_true", help="run the function of yours that a saved model names")


def _net(options):
    """The blind net that the flags tell of."""
    from wallcheck import models

    if models.is_name(options.model):
        wall = dict(layer=options.layer, wall=options.wall or "bottom:1/2", kind=options.kind or "head")
        net = models.blind(_opened(options), _size(options.image_size), **wall)
        if net.note:
            print(f"wallcheck: wall {net.note}", file=sys.stderr)
        return net
    given = [f"--{name}" for name in ("weights", "model_args", "image_size", "wall", "layer", "kind") if options[name]]
    if given:
        raise ValueError(
            f"{given[0]} is for models by name (torchvision:resnet50); {options.model} tells its own, leave it out"
        )
    return models.load(options.model, own_code=options.own_code)


def _called(model: str) -> str:
    """The net's name in tables.

    >>> _called("runs/walled.safetensors"), _called("torchvision:resnet50"), _called("mine.nets:small")
    ('walled', 'resnet50', 'small')
    """
    return Path(model).stem if model.endswith(".safetensors") else model.rpartition(":")[2]


def _opened(options):
    from wallcheck import models

    sys.path[:] = list(
        dict.fromkeys(["", *sys.path])
    )  # a user's own package lies where the command is run, as for python -m
    try:
        told = json.loads(options.model_args or "{}")
    except ValueError as error:
        raise ValueError(f"model_args is no JSON ({error}); write '{{\"num_classes\": 5}}'") from None
    if not isinstance(told, dict):
        raise ValueError(
            f"model_args is {options.model_args}, expected names with values; write '{{\"num_classes\": 5}}'"
        )
    return models.opened_with(options.model, told, options.weights)


def _size(text: str | None) -> tuple[int, int]:
    """Height and width.

    >>> _size("224"), _size("96x128")
    ((224, 224), (96, 128))
    """
    parts = (text or "224").split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"image_size is {text!r}; write a side in pixels, 224, or height x width, 96x128")
    return int(parts[0]), int(parts[-1])


def _layers(options) -> int:
    """A line for each layer where the model can be cut; loud where no wall hides anything."""
    from wallcheck import models
    from wallcheck.tables import print_layers

    if not models.is_name(options.model):
        raise ValueError(f"{options.model} is cut already; layers are of models by name, such as torchvision:resnet50")
    wall = options.wall or "bottom:1/2"
    found = models.layers(_opened(options), _size(options.image_size), wall)
    if options.json:
        say(json.dumps([asdict(one) for one in found], indent=1))
    else:
        print_layers(found, f"{options.model} behind {wall}")
    if not any(one.head or one.trunk for one in found):
        raise ValueError(
            f"NO WALL {wall} HIDES A PIXEL at any of {len(found)} layers: nothing can be audited; try another wall"
        )
    return 0


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
    from wallcheck.certificate import certify

    net, out = _net(options), at_home(options.out) if options.out else None
    if out:  # told before the proofs
        out.parent.mkdir(parents=True, exist_ok=True)
    certificate = certify(net)
    if out:
        certificate.save(out)
    say(certificate.summary())
    if not certificate.holds:
        print(f"wallcheck certify: the wall is broken: {'; '.join(certificate.problems)}", file=sys.stderr)
    return 0 if certificate.holds else 1


def _audit(options) -> int:
    from wallcheck.certificate import Certificate
    from wallcheck.running import Study, images_for, run
    from wallcheck.tables import print_leakage, progress_bar

    net = _net(options)
    if options.certificate:
        Certificate.load(at_home(options.certificate)).raise_if_broken().raise_if_other(net)
    images = images_for(net, at_home(options.images), options.classes, options.targets)
    study = Study(
        {_called(options.model): net},
        [images],
        options.methods,
        count=options.count,
        targets=options.targets,
        seed=options.seed,
        batch_size=options.batch_size,
        metrics=options.metrics,
        precision=options.precision,
    )
    with progress_bar() as tell:
        rows = run(study, options.out, progress=tell)
    print_leakage(rows)
    say(f"rows, manifest and table are in {options.out}")
    return INCOMPLETE if rows.attrs["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
