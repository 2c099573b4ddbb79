"""What all tests of the command line call."""

import pytest

from wallcheck.cli import main


@pytest.fixture
def wallcheck(capsys):
    """wallcheck(*arguments) -> exit status, what it printed, what it said on stderr."""

    def command(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return command
