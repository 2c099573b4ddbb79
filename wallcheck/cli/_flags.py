"""The flags of every command. Nothing heavy is imported for --help."""

import yaml
from jsonargparse import ArgumentParser

from wallcheck.version import __version__

MODEL = (
    "model.safetensors with its model.json beside it; assets:plain, assets:pooled or assets:residual, which come with wallcheck "
    "(assets:plain-unwalled for the twin without a wall); or a name: "
)
NAMES = "torchvision:NAME, timm:NAME, small:FAMILY, wallcheck:vit_small or package.module:function"


class Flags(ArgumentParser):
    """jsonargparse's parser, to which one value in a file of settings is a list of one where a flag takes several: `methods: gradcam`."""

    def parse_string(self, content: str, *args, **kwargs):
        several = {action.dest for action in self._actions if action.nargs in ("*", "+")}
        try:
            told = yaml.safe_load(content)
        except yaml.YAMLError:
            told = None  # the parser itself says where
        if isinstance(told, dict) and (
            alone := {n: [v] for n, v in told.items() if n in several and isinstance(v, str)}
        ):
            content = yaml.safe_dump(told | alone)
        return super().parse_string(content, *args, **kwargs)


def parser() -> Flags:
    """The command and its subcommands."""
    whole = Flags(
        prog="wallcheck",
        description="Does this saliency method light up what the model cannot see?",
        version=__version__,
    )
    commands = whole.add_subcommands(required=False)
    for name, (make, about) in _COMMANDS.items():
        commands.add_subcommand(name, make(), help=about)
    return whole


def _methods() -> Flags:
    flags = Flags(description="List the methods: family, cost, source, expected verdict.")
    flags.add_argument(
        "--peers", action="store_true", help="other libraries' explainers that are installed here, instead"
    )
    return _with_output(flags)


def _metrics() -> Flags:
    about = "List the metrics: what each measures, its ends and direction, cost, source."
    return _with_output(Flags(description=about))


def _layers() -> Flags:
    flags = Flags(description="List where a model can be cut, and the pixels that each kind of wall hides there.")
    _add_named(flags)
    return _with_output(flags)


def _certify() -> Flags:
    flags = Flags(
        description="Prove or refute that a model is blind; exit status 1 if it is not, or if its wall hides nothing."
    )
    _add_model(flags)
    flags.add_argument("--out", type=str | None, default=None, help="keep the certificate here, as JSON")
    return _with_output(flags, markdown=True)


def _audit() -> Flags:
    flags = Flags(
        description="Measure the leakage of methods on a blind model; an interrupted audit goes on, and a finished one takes "
        "more methods, images and metrics. Exit status 1: a method leaks more than --max_leakage. 3: a method gave no map for some "
        "images; all other rows stand."
    )
    _add_model(flags)
    _add_study(flags)
    flags.add_argument(
        "--max_leakage",
        "--max-leakage",
        type=float | None,
        default=None,
        help="exit with status 1 if the mean share of positive attribution on unseen cells of a method is larger, or all its maps "
        "are empty; controls do not count unless they are named in --methods",
    )
    return _with_output(flags, markdown=True)


def _compare() -> Flags:
    flags = Flags(
        description="What differs, image by image, between two audits of the same images: two run folders, or two nets in one. "
        "First less second, with 95 % intervals and p values corrected for the number of methods (Holm)."
    )
    flags.add_argument("first", type=str, help="a run folder: the --out of an audit")
    flags.add_argument("second", type=str | None, nargs="?", help="another; the first itself if not given")
    flags.add_argument(
        "--nets",
        type=str,
        nargs=2,
        default=None,
        help="the net of the first and of the second, where there are several",
    )
    flags.add_argument("--metric", type=str, default="leak_mass", help="what is compared")
    flags.add_argument("--methods", type=str, nargs="+", default=None, help="names; all that both have if not given")
    return _with_output(flags, markdown=True)


def _report() -> Flags:
    flags = Flags(description="Write a run folder as one HTML file that needs nothing beside it.")
    flags.add_argument("run", type=str, help="a run folder: the --out of an audit")
    flags.add_argument("--out", type=str | None, default=None, help="the file; RUN/report.html if not given")
    return _with_output(flags)


def _demo() -> Flags:
    flags = Flags(
        description="Audit eight methods on a net and images that come with wallcheck: a table, a picture, a run folder."
    )
    flags.add_argument("--out", type=str, default="wallcheck-demo", help="the run folder, with demo.png in it")
    flags.add_argument("--net", type=str, default="assets:plain", help="assets:plain, assets:pooled or assets:residual")
    flags.add_argument("--images", type=str, default="assets:stack_mix", help="assets:stack_mix or assets:stack_gen")
    return _with_output(flags, markdown=True)


def _with_output(flags: Flags, markdown: bool = False) -> Flags:
    """What every command has: settings from a file, and answers for machines."""
    flags.add_argument("--json", action="store_true", help="answer as JSON")
    if markdown:
        flags.add_argument(
            "--markdown", action="store_true", help="answer as Markdown, for the summary of a pull request"
        )
    flags.add_argument("--config", action="config", help="a YAML file of these settings")
    return flags


def _add_study(flags: Flags) -> None:
    """What is audited, and where it is kept."""
    flags.add_argument(
        "--images",
        type=str,
        required=True,
        help="a folder of photographs, a generated image set, or assets:stack_mix or assets:stack_gen, which come with wallcheck",
    )
    flags.add_argument("--out", type=str, required=True, help="run folder: manifest, rows, table")
    flags.add_argument(
        "--methods",
        type=str,
        default=None,
        nargs="+",
        help="names (wallcheck methods, wallcheck methods --peers) or package.module:function; all of ours if not given",
    )
    flags.add_argument("--metrics", type=str, default=None, nargs="+", help="leakage metrics; all if not given")
    flags.add_argument("--count", type=int | None, default=None, help="audit the first COUNT images only")
    flags.add_argument(
        "--targets",
        type=str,
        default="predicted",
        help="predicted or label; photographs are labelled by their class folders",
    )
    flags.add_argument(
        "--classes",
        type=str | None,
        default=None,
        help="names of the net's classes, if its description has none: a tree TREE/CLASS/IMAGE, an image set, or a text file",
    )
    flags.add_argument("--seed", type=int, default=0, help="of every draw by chance")
    flags.add_argument("--batch_size", type=int, default=20, help="images at once")
    flags.add_argument("--device", type=str, default="cpu", help="cpu; cuda, cuda:1 or mps for a GPU")
    flags.add_argument(
        "--precision", type=str, default="exact", help="exact, or fast: TF32 on a GPU, bfloat16 for rescored images"
    )
    flags.add_argument(
        "--certificate", type=str | None, default=None, help="refuse the model unless it is the one certified here"
    )


def _add_named(flags: Flags, what: str = "") -> None:
    """A model by its name, and what builds it. What is not given is None, so that a file can refuse what is."""
    flags.add_argument("model", type=str, help=f"{what}{NAMES}")
    flags.add_argument(
        "--weights", type=str | None, help="of a named model: a .safetensors file, or a state dict by torch"
    )
    flags.add_argument("--model_args", type=str | None, help="of its constructor, as JSON: '{\"num_classes\": 5}'")
    flags.add_argument("--image_size", type=str | None, help="a side in pixels, or HxW; 224 if not given")
    flags.add_argument("--wall", type=str | None, help="side:cells or side:share; bottom:1/2 if not given")


def _add_model(flags: Flags) -> None:
    """A model that was saved or comes with wallcheck, or one that is named and put behind a wall here."""
    _add_named(flags, MODEL)
    flags.add_argument(
        "--layer", type=str | None, help="where the map is taken (wallcheck layers); the last if not given"
    )
    flags.add_argument("--kind", type=str | None, help="head or trunk; head if not given")
    flags.add_argument("--own_code", action="store_true", help="run the function of yours that a saved model names")


_COMMANDS = {
    "certify": (_certify, "prove that a model is blind"),
    "layers": (_layers, "list where a model can be cut"),
    "audit": (_audit, "measure leakage"),
    "compare": (_compare, "what differs between two audits"),
    "report": (_report, "write an audit as one HTML file"),
    "methods": (_methods, "list the methods"),
    "metrics": (_metrics, "list the metrics"),
    "demo": (_demo, "an audit of what comes with wallcheck"),
}
