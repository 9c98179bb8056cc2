"""Classifier: a network from `backbones`, its loss, metrics, optimizer and schedule as a LightningModule.

Usable with any `L.Trainer`. What the data decide (classes, channels, image size, normalisation)
is taken from the trainer's datamodule when training starts, unless it is given. Batches are
dictionaries (`types.Batch`); each step takes one log_softmax and reads nothing back from the device.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self, Unpack

import torch
from torch import Tensor
from torchmetrics import Metric

from litscope.errors import ModelError
from litscope.models.given_metrics import GivenMetrics
from litscope.models.keywords import ClassifierKeywords
from litscope.models.losses import IGNORED, ClassificationLoss, Loss, Target
from litscope.models.networks import backbones, heads
from litscope.models.networks.members import Members, MemberSettings, fuse, member_losses
from litscope.models.networks.nets import WhiteNet
from litscope.models.scheduled import Scheduled
from litscope.models.settings import ClassifierSettings
from litscope.models.steps import Steps
from litscope.models.tta import views
from litscope.settings import by_own_names
from litscope.types import Batch, StepOutput

SAMPLE_FACTS = "litscope_samples"
"""Where a checkpoint holds what it takes to predict, beside the weights and the settings."""

WHITENING_IMAGES = 2_000
"""Training images from which `whitenet` computes its first layer: at 32 pixels almost two million patches."""


class Classifier(Scheduled):
    """An image or table classifier.

    Args: the fields of `settings.ClassifierSettings`, also by their further names (`learning_rate`); and
        metrics: torchmetrics of your own, by name, measured on validation and test; see `given_metrics`.

    Attributes:
        net: the network, which takes normalised input; None until the data are known.
        notes: lines to tell the person, about weights and changes to the network.
        schedule, epoch_batches, kept_plan: the plan of the learning rate; see `Scheduled`.
        steps: trains on stacks of batches, several steps in one call.
        sample_facts: what the data say of their samples, as plain values: class names, and how bytes become input. A
            checkpoint holds them under `SAMPLE_FACTS`, with the precision. None where the data say nothing.
        asked_precision: what was asked for, which may be "auto"; None: the trainer's own.

    Metrics, logged at the end of each epoch under train/, val/ and test/: loss, accuracy, precision,
    recall, f1, auroc, ap (see `metrics`); those of `metrics=` under val/ and test/. train/loss is what is minimised;
    val/loss and test/loss are the plain cross-entropy, whatever the loss, its smoothing and weights, so that runs can
    be compared.

    Raises:
        ConfigError: for an unknown setting, a value out of range, or metrics that do not fit.
        ModelError: for an architecture that there is not; where the data's shape is given, for weights that cannot be
            used.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        arch: str | None = None,
        *,
        metrics: Mapping[str, Metric] | None = None,
        **given: Unpack[ClassifierKeywords],
    ) -> None:
        super().__init__()
        self.given = GivenMetrics(metrics)
        words = {**given, **({} if arch is None else {"arch": arch})}
        settings = ClassifierSettings(**by_own_names(ClassifierSettings, words, "Classifier"))
        if settings.arch is not None:
            backbones.resolve(settings.arch)
        if settings.num_classes is not None:
            self.given.try_out(settings.num_classes)
        self._remember(**vars(settings))
        self.objective = ClassificationLoss(settings.loss, settings.label_smoothing, settings.class_weights)
        self.steps = Steps(self)
        self.sample_facts: dict[str, Any] | None = None
        self.asked_precision: str | None = None
        self._is_compiled = False
        self._memory_format = torch.contiguous_format
        self.register_buffer("mean", torch.zeros(1), persistent=False)
        self.register_buffer("std", torch.ones(1), persistent=False)
        has_shape = settings.in_channels is not None and settings.image_size is not None
        if settings.num_classes is not None and (has_shape or settings.num_features is not None):
            self._build(from_scratch=False)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute as any module does, with a shortcut for the name of the running hook: Lightning sets it
        forty times a step, and torch would check each time whether it is a parameter or a submodule.
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
        settings = self.settings
        if stage == "fit" and trainer.ckpt_path is None and settings.weights is None:
            self._whiten(getattr(trainer, "datamodule", None))
        if stage == "fit" and settings.compile and not self._is_compiled:
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
        """Fill the settings that are None from the datamodule's attributes, and check the others."""
        settings = self.settings
        self.sample_facts = getattr(data, "sample_facts", None) or self.sample_facts
        given, found = settings.num_classes, getattr(data, "num_classes", None)
        if given is not None and found is not None and given != found:
            raise ModelError(f"num_classes is {given}, but the data have {found} classes.")
        is_table = getattr(data, "kind", None) == "table" or settings.num_features is not None
        wanted = ["num_classes", "num_features"] if is_table else ["num_classes", "in_channels", "image_size"]
        facts = {name: getattr(data, name, None) for name in wanted if getattr(settings, name) is None}
        if (num_classes := facts.get("num_classes")) is not None:
            self.given.try_out(num_classes)
        # Pretrained weights may bring the normalisation, where the network is not built yet.
        brings_own = self.net is None and settings.pretrained is not False and settings.weights is None
        if settings.mean is None and not brings_own:
            facts["mean"], facts["std"] = getattr(data, "normalization", None) or (None, None)
        self._remember(**facts)

    def _remember(self, **known: Any) -> None:
        """Add what is known now to the hyperparameters: plain JSON values, as a checkpoint must load with
        weights_only=True.
        """
        hparams = {**self.hparams, **known}  # those of a subclass too
        settings = ClassifierSettings(**{field.name: hparams[field.name] for field in fields(ClassifierSettings)})
        self.save_hyperparameters({**hparams, **vars(settings)})

    def _build(self, *, from_scratch: bool) -> None:
        settings = self.settings
        if settings.num_classes is None:
            raise ModelError(
                "The number of classes is not known: pass Classifier(num_classes=...), or train with a "
                "datamodule that has the attribute num_classes."
            )
        arch = settings.arch or ("mlp" if settings.num_features is not None else "resnet18")
        made = backbones.build(
            arch,
            settings.num_classes,
            in_channels=settings.in_channels or 3,
            image_size=settings.image_size,
            num_features=settings.num_features,
            pretrained=False if from_scratch else settings.pretrained,
            weights=None if from_scratch else settings.weights,
            dropout_rate=settings.dropout_rate,
            hidden=settings.hidden,
            stem=settings.stem,
            channels_last=settings.channels_last,
            num_members=settings.num_members,
            member_settings=MemberSettings(settings.member_lr, settings.member_weight_decay),
            same_start=settings.same_start,
        )
        self.net = made.net
        self._memory_format = made.memory_format
        self.notes += made.notes
        self._find_head(settings)
        facts: dict[str, Any] = {"arch": arch, "stem": made.stem}
        if settings.mean is None:
            facts |= {"mean": made.mean, "std": made.std}
        self._remember(**facts)
        self._set_normalization()
        if self._is_compiled:
            self._compile()

    def _find_head(self, settings: ClassifierSettings) -> None:
        """Tell the head from the body, where they are trained in different ways."""
        assert self.net is not None
        assert settings.num_classes is not None
        head = heads.head_of(self.net, settings.num_classes)
        if settings.finetune != "full" and head is None:
            raise ModelError(
                f"finetune={settings.finetune!r}: it trains the last linear layer first, and {settings.arch} ends in "
                "another. Use 'full', or another network."
            )
        self._heads = [] if head is None else [head]
        if settings.finetune == "head" and head is not None:
            heads.freeze_body(self.net, head)

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; a body that is not trained, or its norms, stay in evaluation mode."""
        super().train(mode)
        settings = self.settings
        if mode and self.net is not None:
            if settings.finetune == "head":
                self.net.eval()
            elif settings.freeze_norms:
                heads.keep_statistics(self.net)
        return self

    @property
    def is_channels_last(self) -> bool:
        """Whether images and weights are in channels-last memory."""
        return self._memory_format == torch.channels_last

    def use_channels_last(self, wanted: bool) -> None:
        """Bring weights, and from now on images, into channels-last memory or out of it. The values stay."""
        assert self.net is not None
        self._memory_format = torch.channels_last if wanted else torch.contiguous_format
        self.net.to(memory_format=self._memory_format)  # type: ignore[call-overload]
        self._remember(channels_last=wanted)

    def _set_normalization(self) -> None:
        """Fill the buffers from the hyperparameters; without them the input stays as it is."""
        settings = self.settings
        if settings.mean is None:
            return
        self.mean, std = (torch.tensor(values, device=self.mean.device) for values in (settings.mean, settings.std))
        self.std = std.where(std > 0, 1.0)  # a constant channel or feature has no spread to divide by
        pixel = () if settings.num_features is not None else (1, 1)
        shape = (-1, *pixel) if self.mean.ndim == 1 else (len(self.mean), 1, self.mean.shape[1], *pixel)
        self.mean, self.std = self.mean.view(shape), self.std.view(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, K, H, W), uint8 or float in [0, 1], or of features (B, F)."""
        return self._fused(self.own_logits(x))

    def _fused(self, logits: Tensor) -> Tensor:
        return fuse(logits) if isinstance(self.net, Members) else logits

    def _tested_logits(self, x: Tensor) -> Tensor:
        """`own_logits` of a test batch, averaged over the views of test-time augmentation where it was asked for."""
        tta = self.settings.tta
        if tta == "none":
            return self.own_logits(x)
        seen = [weight * self.own_logits(view) for weight, view in views(x, tta)]
        return torch.stack(seen).sum(0)

    @staticmethod
    def _float(x: Tensor) -> Tensor:
        return x.float() / 255 if x.dtype == torch.uint8 else x

    def own_logits(self, x: Tensor) -> Tensor:
        """What the network itself returns: (B, C), or (M, B, C) for M members."""
        if self.net is None:
            raise ModelError("The network is not built: its classes and channels are known once training starts.")
        x = self._float(x)
        if x.ndim == 2 and self.settings.num_features is None and self.head is not None:
            return self._of_features(x)
        x = (x - self.mean) / self.std
        logits: Tensor = self.net(x.contiguous(memory_format=self._memory_format))
        return logits

    def _of_features(self, features: Tensor) -> Tensor:
        """(B, C) from what the head is given, (B, F): the same as from the images themselves."""
        head, rate = self.head, self.settings.dropout_rate
        assert head is not None
        features = features.to(head.weight.dtype)
        if not isinstance(head, backbones.DropoutLinear):  # that one has its own
            features = torch.nn.functional.dropout(features, rate, self.training)
        logits: Tensor = head(features)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """(B, F) what the head is given for images (B, K, H, W), uint8 or float in [0, 1]; in evaluation mode.

        Raises:
            ModelError: if the network has no linear head.
        """
        if self.net is None or self.head is None:
            raise ModelError("There are no features: the network does not end in a linear layer.")
        x = (self._float(x) - self.mean) / self.std
        return heads.features_of(self.net, self.head, x.contiguous(memory_format=self._memory_format))

    # ---- steps -------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Leave the optimizer step of a plain batch to Lightning; for a stack of batches, `steps` takes them."""
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
        self.given.add(phase, log_p.detach(), label)
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

    # ---- checkpoints -------------------------------------------------------------------------

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take from the checkpoint what belongs to its weights: the normalisation and the stem."""
        saved = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
        facts = {name: saved[name] for name in ("mean", "std", "stem") if saved.get(name) is not None}
        has_other_stem = facts.get("stem", self.settings.stem) != self.settings.stem
        self._remember(**facts)
        self._set_normalization()
        self.sample_facts = checkpoint.get(SAMPLE_FACTS, self.sample_facts)
        if self.net is None or has_other_stem:
            self._build(from_scratch=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoint load without a download, a weights file or a compiler, and predict without its data: it
        holds all weights itself, and what is to be known of samples.
        """
        key = self.CHECKPOINT_HYPER_PARAMS_KEY
        checkpoint[key] = {**checkpoint[key], "pretrained": False, "weights": None, "compile": False}
        if self.sample_facts is not None:
            checkpoint[SAMPLE_FACTS] = {
                **self.sample_facts,
                "precision": self.asked_precision or str(self.trainer.precision),
            }


# For `help` and notebooks.
_METRICS = inspect.signature(Classifier.__init__).parameters["metrics"]
Classifier.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [*inspect.signature(ClassifierSettings).parameters.values(), _METRICS]
)

# Lightning looks up this signature at every step; working it out each time takes a fiftieth of a small step.
Classifier.training_step.__signature__ = inspect.signature(Classifier.training_step)  # type: ignore[attr-defined]


def _inputs(batch: Batch) -> Tensor:
    return batch["image"] if "image" in batch else batch["features"]
