"""Every command in README and docs: its flags are those of the program, and the cheap ones are run."""

import runpy
import shlex
import tomllib
import warnings
from contextlib import redirect_stdout
from io import StringIO

import pytest
import yaml

from experiments import flags
from tests.docs.collecting import EVERY, ROOT, commands, settings

FOUND = sorted({command for page in EVERY for command in commands(page)})
# Run, in this order, in one empty folder; each must end with status 0.
RUN = [
    "wallcheck methods",
    "wallcheck metrics",
    "wallcheck layers small:resnet --image_size 64",
    "wallcheck certify small:resnet --image_size 64 --layer layer4 --kind trunk",
    "wallcheck audit assets:plain --images assets:stack_mix --methods hirescam layercam --out RUN --max_leakage 0.01 --markdown",
    "wallcheck report RUN",
]


def test_commands_are_found():
    assert len(FOUND) > 40 and set(RUN) <= set(FOUND)


@pytest.mark.parametrize("command", FOUND)
def test_the_flags_are_those_of_the_program(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in settings().items():
        (tmp_path / name).write_text(text)
    read(command)


def read(command: str) -> None:
    """By the program's own parser. A flag cut short is still understood today, with a warning: here it is an error."""
    program, *given = shlex.split(command)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "all")
        warnings.filterwarnings("error", r"\s*Option .* was expanded")
        CHECKS[program](given)


def test_the_workflow_hands_the_action_what_it_takes():
    steps = yaml.safe_load(settings()["workflow.yml"])["jobs"]["saliency"]["steps"]
    ours = [step for step in steps if step["uses"] == "./wallcheck"]
    assert ours and set(ours[0]["with"]) <= set(yaml.safe_load((ROOT / "action.yml").read_text())["inputs"])


@pytest.mark.filterwarnings("ignore")
def test_the_cheap_ones_run(tmp_path, monkeypatch, capsys):
    from wallcheck.cli import main

    monkeypatch.chdir(tmp_path)
    for command in RUN:
        assert main(shlex.split(command)[1:]) == 0, command
        assert capsys.readouterr().out.strip(), command
    assert (tmp_path / "RUN/report.html").is_file()


def wallcheck(given: list[str]) -> None:
    """All that is given; of a command that is only named, that there is one."""
    from wallcheck.cli import main

    if len(given) == 1:
        with pytest.raises(SystemExit) as ended, redirect_stdout(StringIO()):
            main([*given, "--help"])
        assert not ended.value.code
        return
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
        patch.setattr("wallcheck.cli._command", _stop)
        patch.setenv("WALLCHECK_TRACEBACK", "1")  # or what stops it would be a line on stderr
        main(given)


class Parsed(Exception):
    """The flags were read; nothing more is asked."""


def _stop(*_: object) -> None:
    raise Parsed


def python(given: list[str]) -> None:
    assert given[0] == "-m"
    _, module, *rest = given
    if module.startswith("experiments."):
        _experiment(module, rest)
    elif module == "experiments":
        pytest.fail(f"{module} is no program")
    else:
        PROGRAMS[module](rest)


def _experiment(module: str, given: list[str]) -> None:
    """Its own parser reads what is given, and it ends there."""
    if module == "experiments.train":
        from experiments import train

        with pytest.raises(SystemExit) as ended, redirect_stdout(StringIO()):
            train.main([*given, "--print_config"])
        assert not ended.value.code
    elif module == "experiments.figures":
        from experiments import figures

        figures.parser().parse_args(given)
    else:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
            patch.setattr(flags, "script", lambda name, main, cls: _stop(flags.read(cls, given, name)))
            runpy.run_module(module, run_name="__main__")


def theory(given: list[str]) -> None:
    from theory.__main__ import parser

    parser().parse_args(given)


def data_gen(given: list[str]) -> None:
    from data_gen.__main__ import parser

    parser().parse_args(given)


def zensical(given: list[str]) -> None:
    from zensical.main import cli

    with pytest.raises(SystemExit) as ended:  # click reads all flags before it shows its help
        cli([*given, "--help"])
    assert not ended.value.code


PROGRAMS = {"theory": theory, "data_gen": data_gen, "zensical": zensical}


def make(given: list[str]) -> None:
    targets = {line.partition(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if ":" in line[:20]}
    assert given and set(given) <= targets


def pip(given: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    verb, *names = given
    assert verb == "install" and names
    for one in names:
        package, _, extra = one.rstrip("]").partition("[")
        assert package in ("wallcheck", "-e", ".") and (not extra or set(extra.split(",")) <= set(extras))


def pytest_(given: list[str]) -> None:
    from _pytest.config.argparsing import Parser

    from wallcheck import pytest_plugin

    parser = Parser(_ispytest=True)
    pytest_plugin.pytest_addoption(parser)
    known, unknown = parser.parse_known_and_unknown_args(given)
    assert not [one for one in unknown if one.startswith("--wall")] and known


def srun(given: list[str]) -> None:
    """SLURM's own flags are SLURM's; what it starts is ours."""
    python(given[given.index("python") + 1 :])


def torchrun(given: list[str]) -> None:
    from torch.distributed.run import get_args_parser

    read = get_args_parser().parse_args(given)
    assert read.module
    python(["-m", read.training_script, *read.training_script_args])


CHECKS = {
    "wallcheck": wallcheck,
    "python": python,
    "make": make,
    "pip": pip,
    "pytest": pytest_,
    "srun": srun,
    "torchrun": torchrun,
}


def test_a_wrong_flag_is_found():
    for command in (
        "wallcheck audit m.safetensors --images a --out b --leakage 0.1",
        "wallcheck audit m.safetensors --images a --out b --max_leak 0.1",
        "wallcheck prove",
        "python -m experiments.zoo --seeds one",
        "torchrun --procs 2 -m experiments.audit",
        "srun -N 2 python -m experiments.audit --gpus 8",
        "python -m theory --fast",
        "make everything",
        "pip install 'wallcheck[all]'",
        "pytest --wall-network x",
    ):
        with pytest.raises((SystemExit, AssertionError, DeprecationWarning)):
            read(command)
