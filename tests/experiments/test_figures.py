"""The command that draws a run folder: all that its inputs allow, training logs and theory among them."""

import numpy as np
import pytest

from experiments import figures
from tests.plots.made import made_examples, made_rows
from wallcheck import plots
from wallcheck.results import Manifest, write_shard


@pytest.fixture
def audited(tmp_path):
    """A run folder with rows, manifest and examples."""
    run = tmp_path / "audit"
    (run / "rows").mkdir(parents=True)
    for (_net, _images), part in made_rows().groupby(["net", "images"], observed=True):
        write_shard(run, part)
    Manifest(config={}).save(run)
    (run / "examples").mkdir()
    np.savez(run / "examples" / "walled--stack_mix.npz", **made_examples())
    return run


def log(path, columns="epoch,step,train_accuracy_step,train_loss_step,val_accuracy,val_loss"):
    path.mkdir(parents=True)
    lines = ["0,19,0.1,2.3,,", "0,39,0.4,1.5,,", "0,39,,,0.5,1.2", "1,59,0.9,0.4,,", "1,79,,,0.97,0.1"]
    (path / "metrics.csv").write_text("\n".join([columns, *lines]) + "\n")
    return path


def test_training_logs_are_read_with_their_gaps(tmp_path):
    read = plots.read_training(log(tmp_path / "walled"))
    assert read["train_loss"].count() == 3
    assert read["val_accuracy"].dropna().tolist() == [0.5, 0.97]
    accuracy = plots.training({"walled": read}).axes[1]
    assert accuracy.get_legend().get_texts()[0].get_text() == "walled: 97.0%"
    with pytest.raises(FileNotFoundError, match="no training log"):
        plots.read_training(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no column val_loss"):
        plots.read_training(log(tmp_path / "other", "epoch,step,train_accuracy,train_loss,val_accuracy,what"))
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match="is no CSV log"):
        plots.read_training(tmp_path / "empty.csv")


def test_one_command_draws_all_that_the_inputs_allow(audited, tmp_path, capsys):
    theory = tmp_path / "theory" / "figures"
    theory.mkdir(parents=True)
    (theory / "map.png").touch()
    flags = [
        "--training",
        str(log(tmp_path / "walled")),
        "--theory",
        str(theory.parent),
        "--out",
        str(tmp_path / "figures"),
    ]
    figures.main(["--run", str(audited), *flags])
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    for name in ("main", "gallery", "leakage", "leakage_displayed", "controls", "sources", "families", "training"):
        assert {f"{name}.pdf", f"{name}.png"} <= names
    assert "theory_map.png" in names
    assert "families.pdf" in capsys.readouterr().out


def test_without_kept_maps_the_rows_are_still_drawn(audited, tmp_path, capsys):
    (audited / "examples" / "walled--stack_mix.npz").unlink()
    inputs = figures.Inputs.read(str(audited), 0)
    assert figures.figures_of_examples(inputs) == {}
    assert "no main figure" in capsys.readouterr().out
    assert "leakage" in figures.figures_of_rows(inputs)


def test_a_folder_that_is_no_run_is_refused(tmp_path, audited):
    with pytest.raises(FileNotFoundError, match="so it is no run folder"):
        figures.main(["--run", str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="python -m theory"):
        figures.copy_theory(str(tmp_path), tmp_path)
    with pytest.raises(ValueError, match="image 9 was not kept"):
        figures.main(["--run", str(audited), "--image", "9", "--out", str(tmp_path / "figures")])
