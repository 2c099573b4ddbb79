"""Train a blind network, or its twin without a wall.

    python -m experiments.train fit --config experiments/configs/vgg_small.yaml
    python -m experiments.train fit --config experiments/configs/vgg_small.yaml --model.walled false

Every setting of the YAML file is a flag: --trainer.max_epochs 10, --trainer.devices 8, --trainer.num_nodes 2,
--trainer.precision bf16-mixed, --trainer.accelerator gpu, --model.lr 1e-3, --data.batch_size 256. See --help and
fit --help.

Leaves in --out (runs/reproduce/walled, or unwalled, where python -m experiments.audit looks): model.safetensors and model.json (the net), config.yaml, metrics.csv (loss and accuracy by
step and epoch), checkpoints/last.ckpt, and with --snapshots "[0,1,10,100]" the net after those steps. An
interrupted run goes on with --ckpt_path OUT/checkpoints/last.ckpt, in the same order of images as if it had not
been interrupted.
"""

import sys
import warnings
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger

from wallcheck.lit.training import BlindClassifier, SaveNet, Snapshots, TrainingSets, keep_log
from wallcheck.writing import at_home

DEFAULT_OUT = Path("runs/reproduce")  # where python -m experiments.reproduce trains too
EPOCHS = 6  # without a configuration; Lightning's own 1000 would take days


class TrainCLI(LightningCLI):
    """LightningCLI with one more flag, --out, that decides where everything goes."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--out",
            type=str | None,
            default=None,
            help="folder for the net, logs and checkpoints; runs/reproduce/walled, or unwalled, if not given",
        )
        parser.add_argument("--snapshots", type=list[int], default=[], help="steps after which to keep the net too")

    def before_instantiate_classes(self) -> None:
        config = self._settings
        config.out = str(at_home(config.out or DEFAULT_OUT / ("walled" if config.model.walled else "unwalled")))
        config.data.folder = str(at_home(config.data.folder))
        config.trainer.default_root_dir = config.out
        if config.trainer.enable_progress_bar is None:
            config.trainer.enable_progress_bar = sys.stderr.isatty()

    def instantiate_trainer(self, **kwargs):
        trainer = super().instantiate_trainer(**kwargs)
        out = Path(trainer.default_root_dir)
        trainer.loggers = [CSVLogger(out.parent, name=out.name, version="")]
        checkpoint = self._settings.get("ckpt_path")
        if checkpoint and Path(checkpoint).is_file():
            keep_log(trainer.loggers[0], checkpoint)
        # Lightning's own checkpoints, which know no folder, give way to ours.
        trainer.callbacks = [c for c in trainer.callbacks if type(c) is not ModelCheckpoint or c.dirpath]
        trainer.callbacks += [
            # Every epoch's replaces the one before. save_last alone would wait for the end of training.
            ModelCheckpoint(out / "checkpoints", filename="last", enable_version_counter=False),
            SaveNet(),
            Snapshots(self._settings.snapshots),
        ]
        return trainer

    @property
    def _settings(self) -> Namespace:
        return self.config[self.subcommand] if self.subcommand else self.config


def main(arguments: list[str] | None = None) -> None:
    # Arrays in memory need no loading processes; Lightning cannot know that.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    TrainCLI(
        BlindClassifier,
        TrainingSets,
        args=arguments,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={
            "use_distributed_sampler": False,
            "enable_model_summary": False,
            "max_epochs": EPOCHS,
        },
    )


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, LookupError) as error:
        sys.exit(f"experiments.train: {error}")
