"""A frozen dataclass as command line: its fields are the flags, its docstring their help, --config a YAML file of them."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import TypeVar, get_args, get_origin

from docstring_parser import parse

from wallcheck.cli import plain_warnings
from wallcheck.cli._flags import Flags
from wallcheck.writing import at_home, say

T = TypeVar("T")


def read(cls: type[T], arguments: Sequence[str] | None = None, name: str | None = None) -> T:
    """An instance of cls from flags; a list takes its values one after another: --methods gradcam hirescam.

    What a dataclass inherits is helped by the docstring of the one it is from. A text that begins with ~ is a path below the home folder: no shell expands --out=~/runs.
    """
    about = parse(cls.__doc__)
    bases = [parse(base.__doc__) for base in reversed(cls.__mro__) if is_dataclass(base)]
    parser = Flags(prog=f"python -m {name or cls.__module__}", description=about.short_description)
    parser.add_argument("--config", action="config", help="a YAML file of flags")
    helps = {field.arg_name: field.description for base in bases for field in base.params}
    for field in fields(cls):
        default = field.default if field.default is not MISSING else field.default_factory()
        parser.add_argument(f"--{field.name}", default=default, help=helps[field.name], **values(field.type))
    options = parser.parse_args(arguments)
    return cls(**{field.name: home(options[field.name]) for field in fields(cls)})


def values(kind: type) -> dict[str, object]:
    """How a flag of this type is read: a list takes several values, a truth value none or one."""
    if get_origin(kind) is list:
        return {"nargs": "*", "type": get_args(kind)[0]}
    return {"nargs": "?", "const": True, "type": bool} if kind is bool else {"type": kind}


def home(value: object) -> object:
    """A text, or each of several, with ~ as the home folder; anything else as it is."""
    if isinstance(value, list):
        return [home(one) for one in value]
    return str(at_home(value)) if isinstance(value, str) and value.startswith("~") else value


def script(name: str, main: Callable[[T], int | None], cls: type[T]) -> None:
    """Run main on the flags and end with the status it returns; a user's error becomes one line and exit status 1.

    A reader of its output who has left (`| head`) is no error.
    """
    try:
        with plain_warnings(name):
            status = main(read(cls, name=name))
            sys.stdout.flush()
        sys.exit(status)
    except BrokenPipeError:
        say("")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; the same command goes on where it stopped")
    except (ValueError, OSError, LookupError, RuntimeError) as error:
        sys.exit(f"{name}: {error}")
