"""The shared nets, and the audit command on files of the tests' own."""

from pathlib import Path

import pytest
import torch

from tests.nets import trained_open, trained_tiny
from tests.sets import write_photographs
from wallcheck import models
from wallcheck.cli import main


@pytest.fixture(autouse=True, scope="module")
def shared_nets_stay_as_they_were():
    """Tests of one process share `trained_tiny` and its twin: the file that changes one is the one that fails."""
    yield
    for shared in (trained_tiny, trained_open):
        if shared.cache_info().currsize:
            assert {(p.dtype, p.requires_grad) for p in shared().parameters()} == {(torch.float32, True)}
            assert not shared().training


@pytest.fixture(scope="module")
def walled():
    return trained_tiny()


@pytest.fixture(scope="module")
def unwalled():
    return trained_open()


@pytest.fixture
def photographs(tmp_path):
    return write_photographs(tmp_path / "photographs", 5)


@pytest.fixture
def model(tmp_path):
    return models.save(trained_tiny(), tmp_path / "model.safetensors")


@pytest.fixture
def wallcheck(model, photographs, tmp_path, capsys):
    """The audit command on a folder; returns status, the one line on stderr, and the run folder."""

    def command(*more, images=photographs, out=tmp_path / "run", methods=("gradcam", "hirescam")):
        arguments = ["audit", str(model), "--images", str(images), "--out", str(out), "--methods", *methods]
        status = main([*arguments, "--batch_size", "2", *more])
        return status, capsys.readouterr().err, Path(out)

    return command
