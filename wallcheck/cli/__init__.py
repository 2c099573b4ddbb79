"""The command `wallcheck`: certify, layers, audit, compare, report, methods, metrics, demo.

A model is a file that wallcheck.models.save wrote, one that comes with wallcheck (assets:plain), or a name that
wallcheck.models.opened knows (torchvision:resnet50, timm:NAME, small:FAMILY, wallcheck:vit_small, package.module:function), which is
put behind a wall here. Settings are flags, or a YAML file of them: --config FILE.

Exit status: 0 done; 1 the model is not blind, or nothing is unseen (certify), or a method leaks more than --max_leakage (audit);
2 a user's error, in one line; 3 audited, but some methods gave no map for some images: they are named, all other rows stand, and
the same command tries them again; 130 interrupted.
"""

import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from jsonargparse import ArgumentParser, Namespace

from wallcheck.cli._flags import parser
from wallcheck.cli._status import INCOMPLETE, INTERRUPTED, WRONG

__all__ = ["INCOMPLETE", "main", "plain_warnings"]

TRACEBACK = "WALLCHECK_TRACEBACK"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Where each command is; imported when it is called.
_COMMANDS = {
    "methods": "_lists",
    "metrics": "_lists",
    "layers": "_nets",
    "certify": "_nets",
    "audit": "_auditing",
    "compare": "_comparing",
    "report": "_reporting",
    "demo": "_demo",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; user errors become one line on stderr and exit status 2, warnings a line each."""
    _take_all_letters()
    flags: ArgumentParser = parser()
    try:
        options = flags.parse_args(arguments)
    except (ValueError, OSError) as error:  # a file of settings that is no text
        print(f"wallcheck: the flags cannot be read ({' '.join(str(error).split())}); check --config", file=sys.stderr)
        return WRONG
    command = options.subcommand
    if command is None:
        flags.print_help()
        return WRONG
    try:
        with plain_warnings(f"wallcheck {command}"), _answer_alone(options[command].json):
            return _command(command)(options[command])
    except KeyboardInterrupt:
        print(f"wallcheck {command}: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, LookupError) as error:
        full = isinstance(error, OSError) and error.errno in FULL
        more = "; make room, and the same command goes on where it stopped" if full else ""
        print(f"wallcheck {command}: {' '.join(str(error).split())}{more}", file=sys.stderr)
    except Exception as error:  # nobody foresaw it: a library's, or a fault here
        if os.environ.get(TRACEBACK):
            raise
        said = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"wallcheck {command}: {said}; {TRACEBACK}=1 in the environment shows where", file=sys.stderr)
    return WRONG


def _take_all_letters() -> None:
    """Somewhere to print where a process was started without (a service, >&-), and no error for a letter that a terminal lacks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, for as long as the process lives
        elif stream is getattr(sys, f"__{name}__") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _answer_alone(is_wanted: bool) -> Iterator[None]:
    """What an explainer's compiled library prints goes to stderr, so that stdout holds the answer and nothing else."""
    stdout = sys.__stdout__
    if not is_wanted or stdout is None or sys.stdout is not stdout or stdout.fileno() != 1:
        yield
        return
    stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding=stdout.encoding, errors=stdout.errors) as sys.stdout:
            yield
    finally:
        sys.stdout = stdout
        os.dup2(kept, 1)
        os.close(kept)


def _command(name: str) -> Callable[[Namespace], int]:
    # Threads of OpenMP wait for each other busily: on a machine with other work a demo of 10 processor seconds took minutes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return getattr(import_module(f"wallcheck.cli.{_COMMANDS[name]}"), name)


@contextmanager
def plain_warnings(name: str) -> Iterator[None]:
    """Warnings as a person at a terminal reads them: one line on stderr, without a place in our code."""
    told = set()

    def tell(message: Warning | str, *_: object, **__: object) -> None:
        line = " ".join(str(message).split())
        if line not in told:  # batch by batch the same
            told.add(line)
            print(f"{name}: {line}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield
