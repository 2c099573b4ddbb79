"""Train a blind network, or its twin without a wall.

    python -m experiments.train fit --config experiments/configs/vgg_small.yaml
    python -m experiments.train fit --config experiments/configs/vgg_small.yaml --model.walled false

    python -m experiments.train fit --data.folder photos --model.preset vgg_small --model.image_size 128 --model.wall left:1/2
    python -m experiments.train fit --config experiments/configs/vgg_small.yaml \\
        --model.regulariser interpretable_gradients --model.regulariser.weight 7.5e-3 --model.regulariser.error cosine
    python -m experiments.train fit --config experiments/configs/vgg16_walls.yaml --data.folder imagenet  # the paper's recipe

--data.folder holds train/ and val/, each an image set of python -m data_gen or a folder of photographs for each class,
or CIFAR's files as torchvision lays them out. Every setting of the YAML file is a flag: --trainer.max_epochs 10, --trainer.devices 8, --trainer.num_nodes 2,
--trainer.precision bf16-mixed, --trainer.accelerator gpu, --model.lr 1e-3, --data.batch_size 256. See --help and
fit --help.

Prints the wall and, at the end, where the net is and how good. Leaves in --out (runs/reproduce/walled, or unwalled, where
python -m experiments.audit looks): model.safetensors and model.json
(the net), config.yaml, metrics.csv (loss, accuracy and top-5 accuracy by step and epoch), checkpoints/last.ckpt, and with --snapshots "[0,1,10,100]" the net after those steps. An
interrupted run goes on with --ckpt_path OUT/checkpoints/last.ckpt, in the same order of images as if it had not
been interrupted.
"""

import sys
import warnings
from pathlib import Path

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger

from wallcheck.labelled import class_names
from wallcheck.lit.sets import TrainingSets
from wallcheck.lit.training import BlindClassifier, SaveNet, Snapshots, keep_log
from wallcheck.wall_words import in_words
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
        parser.add_argument("--checkpoint_every", type=int, default=1, help="epochs between checkpoints")

    def before_instantiate_classes(self) -> None:
        config = self._settings
        config.out = str(at_home(config.out or DEFAULT_OUT / ("walled" if config.model.walled else "unwalled")))
        config.data.folder = str(at_home(config.data.folder))
        config.trainer.default_root_dir = config.out
        if config.trainer.enable_progress_bar is None:
            config.trainer.enable_progress_bar = sys.stderr.isatty()
        if config.model.num_classes is None:
            config.model.num_classes = len(class_names(config.data.folder)) or None

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
            # Each replaces the one before. save_last alone would wait for the end of training.
            ModelCheckpoint(
                out / "checkpoints",
                filename="last",
                enable_version_counter=False,
                every_n_epochs=self._settings.checkpoint_every,
            ),
            SaveNet(),
            Snapshots(self._settings.snapshots),
        ]
        return trainer

    def before_fit(self) -> None:
        if self.trainer.is_global_zero:
            print(in_words(self.model.net.wall, self.model.net.regions))

    def after_fit(self) -> None:
        if self.trainer.is_global_zero:
            print(outcome(self.trainer))

    @property
    def _settings(self) -> Namespace:
        return self.config[self.subcommand] if self.subcommand else self.config


def outcome(trainer: L.Trainer) -> str:
    """Where the trained net is and how good."""
    measured = trainer.callback_metrics
    named = {"top-1": "val_accuracy", "top-5": "val_top5"}
    found = ", ".join(f"{name} {measured[key]:.1%}" for name, key in named.items() if key in measured)
    images = len(trainer.datamodule.val)
    return (
        f"the net is {Path(trainer.default_root_dir) / 'model.safetensors'}; after epoch {trainer.current_epoch} of "
        f"{trainer.max_epochs}, on {images} validation images: {found or 'not measured'}"
    )


def main(arguments: list[str] | None = None) -> None:
    # An optimiser among the settings takes the place of the classifier's own: that is what it is for.
    warnings.filterwarnings("ignore", message=".*will be overridden by.*configure_optimizers.*")
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
