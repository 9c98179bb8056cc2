"""Classifier: a network from `backbones`, its loss, metrics, optimizer and schedule as a LightningModule.

Usable with any `L.Trainer`. What the data decide (classes, channels, image size, normalisation)
is taken from the trainer's datamodule when training starts, unless it is given. Batches are
dictionaries (`types.Batch`); each step takes one log_softmax and reads nothing back from the device.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from litscope.errors import ConfigError, ModelError
from litscope.models.losses import IGNORED, ClassificationLoss, Loss, Target
from litscope.models.measured import Measured
from litscope.models.metrics import NAMES
from litscope.models.networks import backbones
from litscope.models.networks.members import Members, MemberSettings, fuse, member_losses, scale_steps
from litscope.models.networks.nets import WhiteNet
from litscope.models.networks.stems import Stem
from litscope.models.optim import build_optimizer
from litscope.models.schedule import Kind, Schedule
from litscope.models.step_plan import StepPlan
from litscope.models.steps import Steps
from litscope.models.tta import Tta, views
from litscope.types import Batch, StepOutput

WHITENING_IMAGES = 2_000
"""Training images of which `whitenet` takes its first layer: at 32 pixels almost two million patches."""


class Classifier(Measured):
    """An image or table classifier.

    Args:
        arch: any timm or torchvision classifier, `convnet`, `whitenet` or `mlp`; default resnet18, for tables mlp.
        num_classes: C. Default: from the datamodule, like the next four.
        in_channels, image_size: of images.
        num_features: of tables.
        mean, std: of the input, one number per channel (of values in [0, 1]) or feature, or M lists of these, of
            members that see other samples; the network sees (x - mean) / std. Pretrained weights default to the
            normalisation that they were trained with.
        pretrained: True for the hub's weights or an error, None for the hub's weights where they can be had.
        weights: a local weights file to start from; the head is left out where its shape differs.
        dropout_rate: before the head.
        channels_last: memory format of images and weights; default: where the network takes it.
        compile: compile the network when training starts.
        lr, optimizer, weight_decay, momentum: see `optim.build_optimizer`.
        scheduler_type, warmup_epochs: see `schedule.factor`; warm-up defaults to a twentieth of the run,
            at most five epochs.
        loss, label_smoothing, class_weights: see `losses.ClassificationLoss`.
        monitor, mode: the metric that the plateau schedule watches; default val/loss, or train/loss
            without validation.
        stem: the stem for small images; None chooses by the image size.
        num_members: M above 1 trains M MLPs at once, each with weights of its own; what is recorded, measured and
            predicted is their mean probability (see `members`).
        member_lr, member_weight_decay: M numbers each, of members that differ in them; lr and weight_decay are then
            the largest.
        same_start: members start from the same weights, not each from its own.
        tta: how test images are looked at, in `test_step` and `predict_step`; see `tta.views`.

    Attributes:
        net: the network, of normalised input; None until the data are known.
        notes: lines to tell the person, about weights and changes to the network.
        schedule: the live learning-rate schedule (`lr_scale`), once training is set up.
        epoch_batches: (first, stop) -> batches that are expected of each of these epochs, of a run whose epochs
            differ; the first epoch visits all samples. None: every epoch is as long as the one that runs.
        kept_plan: steps in all and of the warm-up, of a run that goes on as it was planned; else worked out.
        steps: trains on stacks of batches, several steps in one call.

    Metrics, logged at the end of each epoch under train/, val/ and test/: loss, accuracy, precision,
    recall, f1, auroc, ap (see `metrics`). train/loss is what is minimised; val/loss and test/loss are the
    plain cross-entropy, whatever the loss, its smoothing and weights, so that runs can be compared.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        arch: str | None = None,
        *,
        num_classes: int | None = None,
        pretrained: bool | None = False,
        weights: str | os.PathLike[str] | None = None,
        dropout_rate: float = 0.0,
        in_channels: int | None = None,
        num_features: int | None = None,
        image_size: int | None = None,
        mean: Sequence[float] | Sequence[Sequence[float]] | None = None,
        std: Sequence[float] | Sequence[Sequence[float]] | None = None,
        channels_last: bool | None = None,
        compile: bool = False,
        lr: float = 1e-3,
        optimizer: str = "adamw",
        weight_decay: float | None = None,
        momentum: float = 0.9,
        scheduler_type: Kind = "cosine",
        warmup_epochs: float | None = None,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        loss: Literal["cross_entropy", "focal"] = "cross_entropy",
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        stem: Stem | None = None,
        num_members: int = 1,
        member_lr: Sequence[float] | None = None,
        member_weight_decay: Sequence[float] | None = None,
        same_start: bool = False,
        tta: Tta = "none",
    ) -> None:
        super().__init__()
        # Plain JSON values only: a checkpoint must load with weights_only=True.
        self.save_hyperparameters(
            {
                "arch": arch,
                "num_classes": num_classes,
                "pretrained": pretrained,
                "weights": None if weights is None else os.fspath(weights),
                "dropout_rate": float(dropout_rate),
                "in_channels": in_channels,
                "num_features": num_features,
                "image_size": image_size,
                "mean": _nested_floats(mean),
                "std": _nested_floats(std),
                "channels_last": channels_last,
                "compile": bool(compile),
                "lr": float(lr),
                "optimizer": optimizer,
                "weight_decay": None if weight_decay is None else float(weight_decay),
                "momentum": float(momentum),
                "scheduler_type": scheduler_type,
                "warmup_epochs": None if warmup_epochs is None else float(warmup_epochs),
                "label_smoothing": float(label_smoothing),
                "class_weights": _floats(class_weights),
                "loss": loss,
                "monitor": monitor,
                "mode": mode,
                "stem": stem,
                "num_members": int(num_members),
                "member_lr": _floats(member_lr),
                "member_weight_decay": _floats(member_weight_decay),
                "same_start": bool(same_start),
                "tta": tta,
            }
        )
        self.net: nn.Module | None = None
        self.objective = ClassificationLoss(loss, float(label_smoothing), class_weights)
        self.notes: list[str] = []
        self.schedule: Schedule | None = None
        self.epoch_batches: Callable[[int, int], list[int]] | None = None
        self.kept_plan: tuple[int | None, int] | None = None
        self.steps = Steps(self)
        self._is_compiled = False
        self._memory_format = torch.contiguous_format
        self.register_buffer("mean", torch.zeros(1), persistent=False)
        self.register_buffer("std", torch.ones(1), persistent=False)
        is_input_known = num_features is not None or (in_channels is not None and image_size is not None)
        if num_classes is not None and is_input_known:
            self._build(from_scratch=False)

    def __setattr__(self, name: str, value: Any) -> None:
        """As of any module; but the name of the hook that runs, which Lightning sets forty times a step, is a plain
        attribute, and need not be looked at as a parameter or a part would.
        """
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    # ---- the network -------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take from the datamodule what was not given, and build the network. Later calls change nothing."""
        trainer = self.trainer
        self._take_facts(getattr(trainer, "datamodule", None))
        if self.net is None:
            # A checkpoint that is about to be loaded makes any other weights superfluous.
            self._build(from_scratch=trainer.ckpt_path is not None)
        self._set_normalization()
        if stage == "fit" and trainer.ckpt_path is None and self.hparams["weights"] is None:
            self._whiten(getattr(trainer, "datamodule", None))
        if stage == "fit" and self.hparams["compile"] and not self._is_compiled:
            self._compile()

    def _whiten(self, data: Any) -> None:
        """Let a network whose first layer is made of the training images see some of them."""
        if isinstance(self.net, WhiteNet) and hasattr(data, "example_images"):
            images = data.example_images(WHITENING_IMAGES).to(self.mean.device)
            self.net.whiten((images - self.mean) / self.std)

    def _compile(self) -> None:
        assert self.net is not None
        self.net.compile()  # in place, so that the names in the state dict stay
        self._is_compiled = True

    def _take_facts(self, data: Any) -> None:
        """Fill the hyperparameters that are None from the datamodule's attributes, and check the others."""
        given = self.hparams["num_classes"]
        found = getattr(data, "num_classes", None)
        if given is not None and found is not None and given != found:
            raise ModelError(f"num_classes is {given}, but the data have {found} classes.")
        is_table = getattr(data, "kind", None) == "table" or self.hparams["num_features"] is not None
        wanted = ["num_classes", "num_features"] if is_table else ["num_classes", "in_channels", "image_size"]
        facts = {name: getattr(data, name, None) for name in wanted if self.hparams[name] is None}
        if self.hparams["mean"] is None and not self._expects_own_normalization():
            mean, std = getattr(data, "normalization", None) or (None, None)
            facts |= {"mean": _nested_floats(mean), "std": _nested_floats(std)}
        self._remember(facts)

    def _expects_own_normalization(self) -> bool:
        """Whether pretrained weights may bring the normalisation, and the network is not built yet."""
        return self.net is None and self.hparams["pretrained"] is not False and self.hparams["weights"] is None

    def _remember(self, facts: Mapping[str, Any]) -> None:
        """Add what is known now to the hyperparameters."""
        self.save_hyperparameters({**self.hparams, **facts})

    def _build(self, *, from_scratch: bool) -> None:
        hparams = self.hparams
        if hparams["num_classes"] is None:
            raise ModelError(
                "The number of classes is not known: pass Classifier(num_classes=...), or train with a "
                "datamodule that has the attribute num_classes."
            )
        arch = hparams["arch"] or ("mlp" if hparams["num_features"] is not None else "resnet18")
        made = backbones.build(
            arch,
            hparams["num_classes"],
            in_channels=hparams["in_channels"] or 3,
            image_size=hparams["image_size"],
            num_features=hparams["num_features"],
            pretrained=False if from_scratch else hparams["pretrained"],
            weights=None if from_scratch else hparams["weights"],
            dropout_rate=hparams["dropout_rate"],
            stem=hparams["stem"],
            channels_last=hparams["channels_last"],
            num_members=hparams["num_members"],
            member_settings=MemberSettings(hparams["member_lr"], hparams["member_weight_decay"]),
            same_start=hparams["same_start"],
        )
        self.net = made.net
        self._memory_format = made.memory_format
        self.notes += made.notes
        facts: dict[str, Any] = {"arch": arch, "stem": made.stem}
        if hparams["mean"] is None:
            facts |= {"mean": made.mean, "std": made.std}
        self._remember(facts)
        self._set_normalization()
        if self._is_compiled:
            self._compile()

    @property
    def is_channels_last(self) -> bool:
        """Whether images and weights are in channels-last memory."""
        return self._memory_format == torch.channels_last

    def use_channels_last(self, wanted: bool) -> None:
        """Bring weights, and from now on images, into channels-last memory or out of it. The values stay."""
        assert self.net is not None
        self._memory_format = torch.channels_last if wanted else torch.contiguous_format
        self.net.to(memory_format=self._memory_format)  # type: ignore[call-overload]
        self._remember({"channels_last": wanted})

    def _set_normalization(self) -> None:
        """Fill the buffers from the hyperparameters; without them the input stays as it is."""
        mean, std = self.hparams["mean"], self.hparams["std"]
        if mean is None:
            return
        self.mean, std = (torch.tensor(values, device=self.mean.device) for values in (mean, std))
        self.std = std.where(std > 0, 1.0)  # a constant channel or feature has no spread to divide by
        pixel = () if self.hparams["num_features"] is not None else (1, 1)
        shape = (-1, *pixel) if self.mean.ndim == 1 else (len(self.mean), 1, self.mean.shape[1], *pixel)
        self.mean, self.std = self.mean.view(shape), self.std.view(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, K, H, W), uint8 or float in [0, 1], or of features (B, F)."""
        return self._fused(self.own_logits(x))

    def _fused(self, logits: Tensor) -> Tensor:
        return fuse(logits) if isinstance(self.net, Members) else logits

    def _tested_logits(self, x: Tensor) -> Tensor:
        """As `own_logits`, of images in evaluation: with test-time augmentation, where it was asked for."""
        if self.hparams["tta"] == "none":
            return self.own_logits(x)
        seen = [weight * self.own_logits(view) for weight, view in views(x, self.hparams["tta"])]
        return torch.stack(seen).sum(0)

    def own_logits(self, x: Tensor) -> Tensor:
        """What the network itself returns: (B, C), or (M, B, C) of M members."""
        if self.net is None:
            raise ModelError("The network is not built: its classes and channels are known once training starts.")
        if x.dtype == torch.uint8:
            x = x.float() / 255
        x = (x - self.mean) / self.std
        logits: Tensor = self.net(x.contiguous(memory_format=self._memory_format))
        return logits

    # ---- steps -------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Lightning optimises on a plain batch; on a stack of batches `steps` does."""
        is_plain = batch["label"].ndim == 1
        if self.automatic_optimization != is_plain:
            self.automatic_optimization = is_plain

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:  # noqa: ARG002
        """The loss of a batch, with what the ledger records; nothing but the loss carries a graph.

        A stack of batches is trained on here, in as many optimizer steps.
        """
        if batch["label"].ndim == 1:
            return self._step("train", batch, Target.of(batch))
        output, log_p, rows = self.steps.run(batch)
        self.phase("train").add(log_p.flatten(0, 1), output["label"].view(-1), rows.view(-1))
        return output

    def validation_step(self, batch: Batch, batch_idx: int) -> StepOutput:  # noqa: ARG002
        """As `training_step`, for validation."""
        return self._step("val", batch, Target(batch["label"]))

    def test_step(self, batch: Batch, batch_idx: int) -> StepOutput:  # noqa: ARG002
        """As `training_step`, for the test set."""
        return self._step("test", batch, Target(batch["label"]))

    def _step(self, phase: str, batch: Batch, target: Target) -> StepOutput:
        label, sample_id = target.label, batch.get("sample_id")
        if sample_id is None:
            sample_id = torch.full_like(label, -1)
        else:
            label = torch.where(sample_id < 0, IGNORED, label)
        own = self._tested_logits(_inputs(batch)) if phase == "test" else self.own_logits(_inputs(batch))
        logits, log_p, loss = self._losses(own, target._replace(label=label))
        if phase != "train" and isinstance(self.net, Members):
            self.phases.add_members(phase, own, label)
        rows = loss.rows if phase == "train" else loss.sample_loss
        self.phase(phase).add(log_p.detach(), label, rows)
        return {
            "loss": loss.mean,
            "logits": logits.detach(),
            "sample_loss": loss.sample_loss,
            "label": label,
            "sample_id": sample_id,
        }

    def losses(self, inputs: Tensor, target: Target) -> tuple[Tensor, Tensor, Loss]:
        """Logits and log-probabilities (B, C) of one batch, and its loss; see `ClassificationLoss` and
        `members.member_losses`.
        """
        return self._losses(self.own_logits(inputs), target)

    def _losses(self, logits: Tensor, target: Target) -> tuple[Tensor, Tensor, Loss]:
        """As `losses`, from what the network itself returned."""
        if isinstance(self.net, Members):
            fused = fuse(logits.detach())
            return fused, fused, member_losses(self.objective, logits, target)
        log_p = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), 1)
        return logits, log_p, self.objective(log_p, target.label, target.soft_label, target.weight)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002
        """probs (B, C) float32 and pred (B,) int64; sample_id (B,) and label (B,) where the batch has them."""
        probs = torch.softmax(self._fused(self._tested_logits(_inputs(batch))).float(), 1)
        output = {"probs": probs, "pred": probs.argmax(1)}
        for name in ("sample_id", "label"):
            if name in batch:
                output[name] = batch[name]
        return output

    # ---- the end of an epoch -----------------------------------------------------------------

    def on_measured(self, phase: str, values: dict[str, float]) -> None:
        """Give a plateau schedule the metric that it watches: of validation where it is one, else after training."""
        if self.schedule is None or self.schedule.kind != "plateau" or phase == "test" or self.trainer.sanity_checking:
            return
        monitor = self._plateau_monitor()
        is_of_validation = sum(self.trainer.num_val_batches) and monitor in {f"val/{name}" for name in NAMES}
        if (phase == "val") == bool(is_of_validation):
            self.schedule.observe(self._monitored(monitor, values))

    def _plateau_monitor(self) -> str:
        monitor: str | None = self.hparams["monitor"]
        return monitor or ("val/loss" if sum(self.trainer.num_val_batches) else "train/loss")

    def _monitored(self, monitor: str, values: Mapping[str, float]) -> float:
        known: dict[str, Any] = {**self.trainer.callback_metrics, **values}
        if monitor not in known:
            raise ConfigError(f"monitor is {monitor!r}, which nobody logs. Logged are: {', '.join(sorted(known))}.")
        return float(known[monitor])

    # ---- optimizer and schedule --------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and a schedule that moves at every step."""
        assert self.net is not None
        hparams = self.hparams
        optimizer = build_optimizer(
            self.net,
            hparams["optimizer"],
            lr=hparams["lr"],
            weight_decay=hparams["weight_decay"],
            momentum=hparams["momentum"],
            # Lightning cannot clip gradients that a fused optimizer would unscale by itself.
            fused=getattr(self.trainer.precision_plugin, "scaler", None) is None,
        )
        if isinstance(self.net, Members):
            scale_steps(optimizer, self.net)
        self.schedule = Schedule(optimizer, hparams["scheduler_type"], self._mode())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule, "interval": "step"}}

    def _mode(self) -> Literal["min", "max"]:
        """Given, or known from the monitor's name: errors and losses fall, everything else rises."""
        if self.hparams["mode"] is not None:
            return "min" if self.hparams["mode"] == "min" else "max"
        name = (self.hparams["monitor"] or "loss").rpartition("/")[2]
        return "max" if name in NAMES and name != "loss" else "min"

    def on_train_start(self) -> None:
        """Plan the schedule, now that the loaders are there (before, asking for them would disturb a resumed one)."""
        if self.schedule is None:
            return
        if self.kept_plan is not None:
            self.schedule.plan(*self.kept_plan)
            return
        fit_loop = self.trainer.fit_loop
        batches_done = fit_loop.epoch_loop.batch_progress.current.ready if fit_loop.restarted_mid_epoch else 0
        run = StepPlan(self.trainer, self.epoch_batches)
        total_steps = run.total(self.trainer.current_epoch, batches_done)
        if total_steps is None and self.schedule.kind in ("cosine", "onecycle", "step"):
            self.notes.append(
                f"the {self.schedule.kind} schedule needs an end: without epochs or steps the rate stays constant"
            )
        self.schedule.plan(total_steps, run.warmup(total_steps, self.hparams["warmup_epochs"]))

    def plan_again(self, epochs_done: int, batches_done: int = 0) -> None:
        """Plan the rest of the run anew, after its epochs or the number of their steps changed. The warm-up stays.

        Args:
            epochs_done: epochs that lie behind.
            batches_done: of the epoch that runs; 0 at its start.
        """
        if self.schedule is not None:
            total_steps = StepPlan(self.trainer, self.epoch_batches).total(epochs_done, batches_done)
            self.schedule.plan(total_steps, self.schedule.warmup_steps)

    # ---- checkpoints -------------------------------------------------------------------------

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take from the checkpoint what belongs to its weights: the normalisation and the stem."""
        saved = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
        facts = {name: saved[name] for name in ("mean", "std", "stem") if saved.get(name) is not None}
        has_other_stem = facts.get("stem", self.hparams["stem"]) != self.hparams["stem"]
        self._remember(facts)
        self._set_normalization()
        if self.net is None or has_other_stem:
            self._build(from_scratch=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint rebuild without a download, a weights file or a compiler: it has all weights."""
        key = self.CHECKPOINT_HYPER_PARAMS_KEY
        checkpoint[key] = {**checkpoint[key], "pretrained": False, "weights": None, "compile": False}


# Lightning asks at every step which parameters it has, and takes a fiftieth of a small step to find out.
Classifier.training_step.__signature__ = inspect.signature(Classifier.training_step)  # type: ignore[attr-defined]


def _inputs(batch: Batch) -> Tensor:
    return batch["image"] if "image" in batch else batch["features"]


def _floats(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [float(v) for v in values]


def _nested_floats(values: Sequence[float] | Sequence[Sequence[float]] | None) -> list[Any] | None:
    return None if values is None else [_floats(v) if isinstance(v, Sequence) else float(v) for v in values]
