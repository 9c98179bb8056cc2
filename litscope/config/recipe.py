"""The configuration of a run: one tree of five sections, and the checks between them.

Each section is a dataclass in a file of its own (`model.py`, `data.py`, `training.py`, `hardware.py`, `logging.py`)
with a docstring under every field and the check of a field beside it. From this tree come the flags, the YAML keys and
the table in the docs. `None` means "choose from the data"; `training/choosing/choices.py` fills it in and says so, and
`recipe.yaml` in the run's folder holds what was chosen, and that it was (`chosen.py`).

No torch here: `litscope fit --help` reads these files.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from litscope.config.chosen import RESTS_ON, outdated
from litscope.config.data import DataConfig
from litscope.config.hardware import HardwareConfig
from litscope.config.logging import LoggingConfig
from litscope.config.model import ModelConfig
from litscope.config.section import Section, refuse
from litscope.config.training import TrainingConfig
from litscope.defaults import OPTIMIZERS_OF_TORCH, Direction
from litscope.errors import ConfigError

WEIGHTS_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
"""How files of weights end; no name of weights does."""


@dataclass
class Recipe:
    """Everything that a run depends on.

    Attributes:
        chosen: keys (`training.lr`) of the values that nobody gave: litscope chose them.
        metrics: names of the caller's own metrics of validation and test -> whether less or more of each is better,
            None where it does not say so. The metrics themselves only a call can bring (`litscope.fit(metrics=...)`).
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    chosen: frozenset[str] = frozenset()
    metrics: Mapping[str, Direction | None] = field(default_factory=dict)

    def check(self) -> None:
        """Check each section, and the combinations of their values that cannot work.

        Raises:
            ConfigError: naming the flag, its value and what is allowed.
        """
        for section in self.sections():
            section.check()
        self.training.check_monitor(self.metrics)
        self._check_weights()
        self._check_members()
        self._check_member_settings()
        self._check_folds()
        self._check_sampler()
        if self.training.canaries and not self.logging.ledger:
            raise refuse("canaries", self.training.canaries, "without the ledger there is no ranking to measure.")

    def check_kind(self, kind: Literal["image", "table"]) -> None:
        """Once the data are open: refuse what only images have, when they are a table.

        Raises:
            ConfigError: naming the flag.
        """
        if kind == "image":
            return
        arch, augment = self.model.arch, self.data.augment
        if arch is not None and arch.lower() != "mlp":
            raise refuse("arch", arch, "the data are a table, and only mlp takes tables. Use mlp.")
        for section in self.sections():
            for known in section.fields():
                value = getattr(section, known.name)
                if known.is_for_images and value is not False and value != known.default:
                    raise _for_images(known.name, value)
        if augment in ("strong", "autoaugment"):
            raise _for_images("augment", augment)

    def sections(self) -> tuple[Section, ...]:
        """Its five parts, in their order."""
        return (self.model, self.data, self.training, self.hardware, self.logging)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The tree as plain nested dictionaries (numbers, strings, lists), for YAML and JSON."""
        return {section.group: copy.deepcopy(vars(section)) for section in self.sections()}

    def put(self, values: Mapping[str, Any]) -> None:
        """Give settings these values, by their keys (`training.lr`); what was chosen by other values is open again."""
        changed = {key for key, value in values.items() if self._value(key) != value}
        open_again = outdated(self.chosen, changed) - set(values)
        for key, value in {**dict.fromkeys(open_again), **values}.items():
            group, name = key.split(".")
            setattr(getattr(self, group), name, value)
        self.chosen -= {*open_again, *values}

    def note_chosen(self, before: Recipe) -> None:
        """Note as chosen what has a value here and was open (None, auto) before."""
        self.chosen |= {key for key in RESTS_ON if before._is_open(key) and not self._is_open(key)}

    def _is_open(self, key: str) -> bool:
        """Whether a setting that may be chosen is not."""
        return self._value(key) in ((1,) if key == "model.num_members" else (None, "auto", []))

    def _value(self, key: str) -> Any:
        group, name = key.split(".")
        return getattr(getattr(self, group), name)

    def _check_weights(self) -> None:
        """A run that goes on does not need what it once started from. What may be a name is looked up later."""
        weights = self.model.weights
        if weights is None or self.training.resume is not None or Path(weights).exists():
            return
        if Path(weights).suffix.lower() in WEIGHTS_SUFFIXES or weights.startswith((".", "~", "/")):
            raise refuse("weights", weights, "there is no such file.")

    def check_members(self) -> None:
        """Once it is chosen what the members are: refuse what does not leave each as it would be alone.

        Raises:
            ConfigError: naming the flag.
        """
        self._check_members()
        self._check_member_settings()
        self._check_folds()

    def _check_members(self) -> None:
        count, optimizer = self.model.count, self.training.optimizer
        if count == 1:
            return
        if optimizer.lower() not in OPTIMIZERS_OF_TORCH:
            alone = f"each member must be changed as it would be alone, which {', '.join(OPTIMIZERS_OF_TORCH)} do."
            raise refuse("num_members", count, f"{alone} Leave --optimizer {optimizer} out.")
        if self.training.robust in ("elr", "small_loss"):
            alone = f"--robust {self.training.robust} follows what one network says of each sample."
            raise refuse("num_members", count, f"{alone} Leave one out, or use --robust gce.")
        if self.training.gradient_clip_val is not None and self.model.is_surely_stacked:
            one_norm = "--gradient-clip-val clips one norm over all of them, so a member would depend on the others."
            raise refuse("num_members", count, f"{one_norm} Leave one out.")

    def _check_member_settings(self) -> None:
        model, training = self.model, self.training
        for name, flag, values, base in (
            ("member_lr", "--lr", model.member_lr, training.lr),
            ("member_weight_decay", "--weight-decay", model.member_weight_decay, training.weight_decay),
        ):
            if values and base not in (None, max(values)):
                raise refuse(name, values, f"{flag} {base:g} is not the largest. Leave {flag} out.")
        if model.member_weight_decay and training.optimizer.lower() != "adamw":
            allowed = f"with --optimizer {training.optimizer} the decay is a part of the gradient; it is for adamw."
            raise refuse("member_weight_decay", model.member_weight_decay, allowed)

    def _check_folds(self) -> None:
        """Without --fold each member leaves a fold out."""
        count = self.data.num_folds
        if count is None or self.data.fold is not None:
            return
        if self.model.archs:
            allowed = "the batch norms of whole networks see the samples that a member is to leave out."
            raise refuse("num_folds", count, f"{allowed} Give --fold, or `litscope cv --folds {count}`.")
        if self.model.num_members != count:
            allowed = "without --fold each of as many --num-members leaves one out."
            raise refuse("num_folds", count, f"{allowed} Give --fold, or `litscope cv --folds {count}`.")
        if self.training.mixup:
            allowed = "--mixup would blend a sample into others that its member trains on."
            raise refuse("num_folds", count, f"{allowed} Give --fold, or leave --mixup out.")

    def _check_sampler(self) -> None:
        """An epoch that draws its samples lets nothing else decide which come, or count rare classes twice."""
        sampler, training = self.data.sampler, self.training
        if sampler == "uniform":
            return
        if training.prune != "none":
            allowed = f"--prune {training.prune} decides which samples an epoch has. Give one of the two."
        elif training.overfit_batches:
            allowed = "--overfit-batches trains on the same few samples in each epoch. Give one of the two."
        elif sampler == "balanced" and training.class_weights != "none":
            counted = f"with --class-weights {training.class_weights} the loss would count rare classes a second time."
            allowed = f"{counted} Give one of the two."
        elif sampler == "balanced" and training.logit_adjustment:
            allowed = (
                "--logit-adjustment makes up for classes of unequal size, and no class is drawn more often than "
                "another. Give one of the two."
            )
        else:
            return
        raise refuse("sampler", sampler, allowed)


def _for_images(name: str, value: Any) -> ConfigError:
    return refuse(name, value, "the data are a table, and this is for images. Leave it out.")
