"""Classifier: a network from `backbones`, its loss, metrics, optimizer and schedule as a LightningModule.

Usable with any `L.Trainer`. What the data decide (classes, channels, image size, normalisation)
is taken from the trainer's datamodule when training starts, unless it is given. Batches are
dictionaries (`types.Batch`); each step takes one log_softmax and reads nothing back from the device.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self, Unpack

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from litscope.errors import ConfigError, ModelError
from litscope.models.forward import FUSION, SAMPLE_FACTS, inputs_of
from litscope.models.given_metrics import GivenMetrics
from litscope.models.keywords import ClassifierKeywords
from litscope.models.learning.losses import IGNORED, ClassificationLoss, Loss, Target
from litscope.models.learning.scheduled import Scheduled
from litscope.models.learning.steps import Steps
from litscope.models.networks import architectures, heads
from litscope.models.networks.blocks import blocks_of, in_words
from litscope.models.networks.fusion import mean_of_passes
from litscope.models.networks.members import member_losses
from litscope.models.networks.nets import WhiteNet
from litscope.models.networks.recomputed import recompute
from litscope.models.over_ranks import OverRanks, mean_over_ranks, num_ranks, same_statistics
from litscope.models.readout import READOUT
from litscope.models.settings import ClassifierSettings
from litscope.models.shards import has_shares
from litscope.settings import by_own_names
from litscope.types import Batch, StepOutput

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

WHITENING_IMAGES = 2_000
"""Training images from which `whitenet` computes its first layer: at 32 pixels almost two million patches."""

OBJECTIVE = "litscope_objective"
"""Where a checkpoint keeps what the loss has learned of classes and samples."""


class Classifier(Scheduled):
    """An image or table classifier.

    Args: the fields of `settings.ClassifierSettings`, also by their further names (`learning_rate`); and
        metrics: torchmetrics of your own, by name, measured on validation and test; see `given_metrics`.

    Attributes:
        net, notes, sample_facts, ...: the network and what stands around it; see `Forward`.
        schedule, epoch_batches, kept_plan: the plan of the learning rate; see `Scheduled`.
        steps: trains on stacks of batches, several steps in one call.
        asked_precision: what was asked for, which may be "auto"; None: the trainer's own.
        divide: divides the network over the processes of a mesh, under a strategy that has one; None: it stays whole.

    Metrics, logged at the end of each epoch under train/, val/ and test/: loss, accuracy, precision,
    recall, f1, auroc, ap (see `metrics`); those of `metrics=` under val/ and test/. train/loss is what is minimised;
    val/loss and test/loss are the plain cross-entropy, whatever the loss, its smoothing and weights, so that runs can
    be compared.

    Raises:
        ConfigError: for an unknown setting, a value out of range, or metrics that do not fit.
        ModelError: for an architecture that there is not; where the data's shape is given, for weights that cannot be
            used.
    """

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
        for name in (settings.arch, *(settings.archs or ())):
            if name is not None:
                architectures.resolve(name)
        if settings.num_classes is not None:
            self.given.try_out(settings.num_classes)
        self._remember(**vars(settings))
        self.objective = objective_of(settings)
        self.steps = Steps(self)
        self.asked_precision: str | None = None
        self.divide: Callable[[nn.Module, DeviceMesh], None] | None = None
        self._is_compiled = False
        if self.has_shape:
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
        self.meet(getattr(trainer, "datamodule", None))
        settings = self.settings
        if stage == "fit" and trainer.ckpt_path is None and settings.weights is None:
            self._whiten(getattr(trainer, "datamodule", None))
        if stage == "fit":
            self._start_objective(getattr(trainer, "datamodule", None))
        if stage == "fit" and settings.compile and not self._is_compiled:
            self._compile()

    def _start_objective(self, data: Any) -> None:
        """Let the loss make room for what it keeps of classes and samples.

        Raises:
            ConfigError: if the data do not tell what it needs.
        """
        settings = self.settings
        if not (settings.logit_adjustment or settings.robust == "elr"):
            return
        what = "robust='elr'" if settings.robust == "elr" else f"logit_adjustment={settings.logit_adjustment:g}"
        if not hasattr(data, "class_shares"):
            raise ConfigError(f"{what}: it needs a datamodule that knows its samples. Train on ClassificationData.")
        given = data.settings
        if settings.robust == "elr" and (given.mixup or given.cutmix):
            raise ConfigError(f"{what}: with mixup or cutmix no sample has a prediction of its own. Leave them out.")
        if settings.robust == "elr" and given.sampler != "uniform" and num_ranks() > 1:
            raise ConfigError(
                f"{what}: with --sampler {given.sampler} two devices may visit one sample in an epoch, and each would "
                "have another target for it. Train on one device, or leave --sampler out."
            )
        assert settings.num_classes is not None
        self.objective.start(len(data.manifest), settings.num_classes)
        self._tell_shares()

    def _tell_shares(self) -> None:
        if self.objective.adjustment is not None:
            data: Any = getattr(self.trainer, "datamodule", None)
            self.objective.set_shares(data.class_shares())

    def on_train_epoch_start(self) -> None:
        """Tell the loss how often each class comes, after what people decided since; within an epoch that stays."""
        data: Any = getattr(self.trainer, "datamodule", None)
        if self.objective.adjustment is not None and not data.position()["batches_done"]:
            self._tell_shares()

    def configure_model(self) -> None:
        """Divide the network, once: Lightning comes here before each fit, validation and test."""
        if self.divide is None or self.device_mesh is None or has_shares(self.net):
            return
        assert self.net is not None
        self.divide(self.net, self.device_mesh["data_parallel"])

    def lost_members(self) -> list[str]:
        """The members of an ensemble of whole networks that have weights which are not finite; none where all are, or
        none is different. Waits for the device.
        """
        whole, archs = self.whole_members, self.settings.archs
        if whole is None or archs is None:
            return []
        is_lost = [not all(bool(p.isfinite().all()) for p in net.parameters()) for net in whole.nets]
        names = [f"{number} ({arch})" for number, arch in enumerate(archs) if is_lost[number]]
        return names if len(names) < len(archs) else []

    def _whiten(self, data: Any) -> None:
        """Let networks whose first layer is made of the training images see some of them."""
        whole = self.whole_members
        nets = [self.net] if whole is None else list(whole.nets)
        if not hasattr(data, "example_images") or not any(isinstance(net, WhiteNet) for net in nets):
            return
        images = data.example_images(WHITENING_IMAGES).to(self.mean.device)
        seen = (images - self.mean) / self.std
        for net, view in zip(nets, [seen] if whole is None else whole.views(seen), strict=True):
            if isinstance(net, WhiteNet):
                net.whiten(view)

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
        self._remember(**facts)

    def _remember(self, **known: Any) -> None:
        """Add what is known now to the hyperparameters: plain JSON values, as a checkpoint must load with
        weights_only=True.
        """
        hparams = {**self.hparams, **known}  # those of a subclass too
        settings = ClassifierSettings(**{field.name: hparams[field.name] for field in fields(ClassifierSettings)})
        self.save_hyperparameters({**hparams, **vars(settings)})

    def _build(self, *, from_scratch: bool) -> None:
        """Make the network, and say what of it is trained."""
        super()._build(from_scratch=from_scratch)
        assert self.net is not None
        settings, head = self.settings, self.head
        if settings.finetune != "full" and head is None:
            raise ModelError(
                f"finetune={settings.finetune!r}: it trains the last linear layer first, and {settings.name} "
                f"{'are several networks' if settings.archs else 'ends in another'}. Use 'full', or another network."
            )
        if settings.finetune == "head" and head is not None:
            heads.freeze_body(self.net, head)
        if settings.activation_checkpointing:
            self._recompute_blocks(self.net)
        self.train(self.training)  # the Trainer calls it only where something was in evaluation mode
        if self._is_compiled:
            self._compile()

    def _recompute_blocks(self, net: nn.Module) -> None:
        blocks = {} if self.whole_members is not None else blocks_of(net)
        if not blocks:
            raise ModelError(
                f"activation_checkpointing: {self.settings.name} has no repeated blocks, whose inside could be "
                "computed again. Leave it out."
            )
        recompute(blocks.values())
        self.notes.append(f"computed again in the backward pass: {in_words(blocks)}")

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

    # ---- steps -------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Plan the schedule, and forget what was learned from answers of earlier weights: a fusion is its mere rule
        again, and logits are read as they are.
        """
        super().on_train_start()
        self.fusion = None
        self.readout = None

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

    def on_validation_epoch_start(self) -> None:
        """Every rank validates what the first one would save."""
        super().on_validation_epoch_start()
        self._share_statistics()

    def on_test_epoch_start(self) -> None:
        """As in validation."""
        super().on_test_epoch_start()
        self._share_statistics()

    def _share_statistics(self) -> None:
        if self.net is not None:
            same_statistics(self.net)

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
        own = self._answers(phase, inputs_of(batch))
        over_ranks = mean_over_ranks if phase == "train" and num_ranks() > 1 else None
        logits, log_p, loss = self._losses(own, target._replace(label=label), over_ranks)
        if phase != "train" and self.members is not None:
            self.phases.add_members(phase, own if own.ndim == 3 else mean_of_passes(own), label)
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

    def _answers(self, phase: str, inputs: Tensor) -> Tensor:
        """What the network says in a phase, (B, C) or (M, B, C); with passes of dropout (T, M, B, C), which only the
        evaluation of a run's end can afford.
        """
        if phase == "test" or (phase == "val" and self.fusion is not None):
            return self.parts(inputs)
        return self.own_logits(inputs)

    def losses(self, inputs: Tensor, target: Target) -> tuple[Tensor, Tensor, Loss]:
        """Logits and log-probabilities (B, C) of one batch, and its loss; see `ClassificationLoss` and
        `members.member_losses`.
        """
        return self._losses(self.own_logits(inputs), target)

    def _losses(
        self, logits: Tensor, target: Target, over_ranks: OverRanks | None = None
    ) -> tuple[Tensor, Tensor, Loss]:
        """As `losses`, from what the network itself returned."""
        if self.members is not None:
            fused = self._fused(logits.detach())
            logits = logits if logits.ndim == 3 else mean_of_passes(logits)
            return fused, fused, member_losses(self.objective, logits, target, over_ranks, fused)
        log_p = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), 1)
        label, soft_label, weight, _, sample_id = target
        return logits, log_p, self.objective(log_p, label, soft_label, weight, over_ranks, sample_id)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002
        """probs (B, C) float32 and pred (B,) int64; sample_id (B,) and label (B,) where the batch has them."""
        probs = self.probabilities(batch)
        output = {"probs": probs, "pred": probs.argmax(1)}
        for name in ("sample_id", "label"):
            if name in batch:
                output[name] = batch[name]
        return output

    # ---- checkpoints -------------------------------------------------------------------------

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take from the checkpoint what belongs to its weights; see `take_from`."""
        self.take_from(checkpoint)
        self.objective.load_state(checkpoint.get(OBJECTIVE, {}))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoint load without a download, a weights file or a compiler, and predict without its data: it
        holds all weights itself, and what is to be known of samples.
        """
        key = self.CHECKPOINT_HYPER_PARAMS_KEY
        of_training = {"pretrained": False, "weights": None, "compile": False, "activation_checkpointing": False}
        checkpoint[key] = {**checkpoint[key], **of_training}
        if self.fusion is not None:
            checkpoint[FUSION] = self.fusion.plain()
        if kept := self.objective.state():
            checkpoint[OBJECTIVE] = kept
        if self.sample_facts is not None:
            checkpoint[SAMPLE_FACTS] = {
                **self.sample_facts,
                "precision": self.asked_precision or str(self.trainer.precision),
            }
        if self.readout is not None:
            checkpoint[READOUT] = self.readout.to_dict()


def objective_of(settings: ClassifierSettings) -> ClassificationLoss:
    """The loss that the settings ask for."""
    named = ("focal_gamma", "logit_adjustment", "robust", "gce_q", "elr_lambda", "elr_beta")
    given = {name: value for name in named if (value := getattr(settings, name)) is not None}
    return ClassificationLoss(settings.loss, settings.label_smoothing, settings.class_weights, **given)


# For `help` and notebooks.
_METRICS = inspect.signature(Classifier.__init__).parameters["metrics"]
Classifier.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [*inspect.signature(ClassifierSettings).parameters.values(), _METRICS]
)

# Lightning looks up this signature at every step; working it out each time takes a fiftieth of a small step.
Classifier.training_step.__signature__ = inspect.signature(Classifier.training_step)  # type: ignore[attr-defined]
