"""The command `wallcheck`: certify, layers, audit, compare, report, methods, metrics, demo.

A model is a file that wallcheck.models.save wrote, one that comes with wallcheck (assets:plain), or a name that
wallcheck.models.opened knows (torchvision:resnet50, timm:NAME, small:FAMILY, wallcheck:vit_small, package.module:function), which is
put behind a wall here. Settings are flags, or a YAML file of them: --config FILE.

Exit status: 0 done; 1 the model is not blind, or nothing is unseen (certify), or a method leaks more than --max_leakage (audit);
2 a user's error, in one line; 3 audited, but some methods gave no map for some images: they are named, all other rows stand, and
the same command tries them again; 130 interrupted.
"""

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
    flags: ArgumentParser = parser()
    options = flags.parse_args(arguments)
    command = options.subcommand
    if command is None:
        flags.print_help()
        return WRONG
    try:
        with plain_warnings(f"wallcheck {command}"):
            return _command(command)(options[command])
    except KeyboardInterrupt:
        print(f"wallcheck {command}: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, LookupError) as error:
        print(f"wallcheck {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG


def _command(name: str) -> Callable[[Namespace], int]:
    # Threads of OpenMP wait for each other busily: on a machine with other work a demo of 10 processor seconds took minutes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return getattr(import_module(f"wallcheck.cli.{_COMMANDS[name]}"), name)


@contextmanager
def plain_warnings(name: str) -> Iterator[None]:
    """Warnings as a person at a terminal reads them: one line on stderr, without a place in our code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"{name}: {' '.join(str(message).split())}", file=sys.stderr)
        yield
