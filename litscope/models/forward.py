"""Forward: the way of a batch through a network, to logits and probabilities; of a classifier that trains, and of one
that only predicts.

Around the network stand its normalisation, its memory format, its members made one, and test-time augmentation. All of
it follows from settings and weights, which is why a checkpoint is enough for it. Nothing here knows Lightning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from litscope.errors import ModelError
from litscope.fusions import NEEDS_DROPOUT, NUM_PASSES, Fusion
from litscope.models.networks import backbones, heads
from litscope.models.networks.dropout import dropout_on, dropouts_of
from litscope.models.networks.ensembles import Norm, build_ensemble
from litscope.models.networks.fusion import fuse_by, parts_by, weights_by
from litscope.models.networks.members import MemberHeads, Members, MemberSettings, fuse, members_of
from litscope.models.networks.net_members import NetMembers
from litscope.models.networks.sources import SAMPLES
from litscope.models.networks.thinned import thinned
from litscope.models.readout import READOUT, Readout
from litscope.models.settings import ClassifierSettings
from litscope.models.tta import views
from litscope.types import Batch

HYPER_PARAMETERS = "hyper_parameters"
"""Where a checkpoint of Lightning holds the settings of its module."""

SAMPLE_FACTS = SAMPLES
"""Where a checkpoint holds what it takes to predict, beside the weights and the settings."""

STEMS = ("stem", "member_stem")
"""Settings that say how a network begins, and so which weights it has."""

FUSION = "litscope_fusion"
"""Where a checkpoint of several members holds what their fusion has learned; see `fusions.Fusion.plain`."""

LEARNED = (FUSION, READOUT)
"""What a checkpoint may hold that was learned of its weights' answers."""


class Said(NamedTuple):
    """What a network says of a batch.

    Attributes:
        logits: (B, C) of all its parts together; those of several are log-probabilities.
        parts: (P, B, C) logits of each part: members, passes of dropout, or both; None where it is one.
    """

    logits: Tensor
    parts: Tensor | None


class Forward(nn.Module):
    """A network, and what stands around it. Subclasses say where the settings are kept.

    Attributes:
        net: the network, which takes normalised input; None until its shape is known.
        mean, std: what the input is normalised with; not persistent, as they are among the settings.
        notes: lines to tell the person, about weights and changes to the network.
        sample_facts: what the data say of their samples, as plain values: class names, and how bytes become input. A
            checkpoint holds them under `SAMPLE_FACTS`, with the precision. None where the data say nothing.
        fusion: how the answers of members become one, with what the rule has learned; None: the rule of the settings,
            which has learned nothing. A checkpoint holds it under `FUSION`.
        readout: how logits are read, where that was learned for these weights; training on drops it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.net: nn.Module | None = None
        self._heads: list[nn.Linear | MemberHeads] = []  # in a list: it is a part of `net` already
        self.notes: list[str] = []
        self.sample_facts: dict[str, Any] | None = None
        self.fusion: Fusion | None = None
        self.readout: Readout | None = None
        self._classes_of_head: tuple[str, ...] | None = None
        self._norms: list[Norm | None] = []
        self._memory_format = torch.contiguous_format
        self.register_buffer("mean", torch.zeros(1), persistent=False)
        self.register_buffer("std", torch.ones(1), persistent=False)

    @property
    def settings(self) -> ClassifierSettings:
        """The settings as they stand: what was given, and what the data or the weights decided since."""
        raise NotImplementedError

    def _remember(self, **known: Any) -> None:
        """Add what is known now to the settings: plain JSON values."""
        raise NotImplementedError

    @property
    def head(self) -> nn.Linear | MemberHeads | None:
        """The network's last layer, or the several in its place; None where it is not linear."""
        return self._heads[0] if self._heads else None

    @property
    def members(self) -> Members | MemberHeads | NetMembers | None:
        """The part of the network that is several, trained at once; None where it is one."""
        return self.net if isinstance(self.net, NetMembers) else members_of(self.net, self.head)

    @property
    def whole_members(self) -> NetMembers | None:
        """The whole networks of an ensemble; None where it is one network, or several in the layers of one."""
        return self.net if isinstance(self.net, NetMembers) else None

    # ---- the network -------------------------------------------------------------------------

    @property
    def has_shape(self) -> bool:
        """Whether the settings say how large input and output are: the network can be built."""
        settings = self.settings
        has_input = settings.num_features is not None or None not in (settings.in_channels, settings.image_size)
        return settings.num_classes is not None and has_input

    def _build(self, *, from_scratch: bool) -> None:
        """Make the network that the settings ask for.

        Args:
            from_scratch: without pretrained weights or those of a file, since others are about to be loaded.
        """
        settings = self.settings
        if settings.num_classes is None:
            raise ModelError(
                "The number of classes is not known: pass Classifier(num_classes=...), or train with a "
                "datamodule that has the attribute num_classes."
            )
        if settings.joined is not None:
            from litscope.models.joined import build_joined  # its members are what this module makes

            self.net, self._heads = build_joined(settings.joined, settings.num_classes), []
            return
        if settings.archs is not None:
            self._build_ensemble(settings, settings.num_classes, from_scratch=from_scratch)
            return
        usual = "mlp" if settings.num_features is not None else "resnet18"
        made = backbones.build(
            settings.arch or (usual if from_scratch or settings.weights is None else None),
            settings.num_classes,
            has_one_logit=settings.task == "binary",
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
            seeds=settings.member_seed,
        )
        self.net = made.net
        self._memory_format = made.memory_format
        self._classes_of_head = made.classes
        self.notes += made.notes
        head = heads.find_head(made.net, settings.num_outputs or settings.num_classes)
        self._heads = [] if head is None else [head]
        facts: dict[str, Any] = {"arch": made.arch, "hidden": made.hidden, "stem": made.stem}
        if settings.mean is None:
            facts |= {"mean": made.mean, "std": made.std}
        self._remember(**facts)
        self._set_normalization()

    def _build_ensemble(self, settings: ClassifierSettings, num_classes: int, *, from_scratch: bool) -> None:
        assert settings.archs is not None
        if settings.num_features is not None:
            raise ModelError(
                f"archs={settings.archs}: they take images, and the data are a table. Several MLPs are arch='mlp' with "
                "num_members."
            )
        made = build_ensemble(
            settings.archs,
            num_classes,
            has_one_logit=settings.task == "binary",
            in_channels=settings.in_channels or 3,
            image_sizes=settings.member_image_size or [settings.image_size] * len(settings.archs),
            seeds=settings.member_seed,
            pretrained=False if from_scratch else settings.pretrained,
            weights=None if from_scratch else settings.weights,
            dropout_rate=settings.dropout_rate,
            hidden=settings.hidden,
            stems=settings.member_stem,  # type: ignore[arg-type]  # `build` checks each
            channels_last=settings.channels_last,
            settings=MemberSettings(settings.member_lr, settings.member_weight_decay),
        )
        self.net, self._heads, self._norms = made.net, [], made.norms
        self.notes += made.notes
        self._remember(member_stem=made.stems)
        if settings.mean is None and None not in made.norms:
            self._take_norms(None)
        self._set_normalization()

    def _take_norms(self, of_data: Norm | None) -> None:
        """Settle the normalisation of each of several networks: that of its weights, else of the data, else none."""
        channels = self.settings.in_channels or 3
        usual = of_data or ([0.0] * channels, [1.0] * channels)
        norms = [usual if norm is None else norm for norm in self._norms]
        mean, std = ([list(part) for part in parts] for parts in zip(*norms, strict=True))
        are_same = all(norm == norms[0] for norm in norms)
        self._remember(mean=mean[0] if are_same else mean, std=std[0] if are_same else std)

    def meet(self, data: Any) -> None:
        """Settle what depends on both the weights and the data, once the network is built: images are normalised as the
        weights expect it, else as the data are; and a head that came with the weights stays if it knows their classes.

        Args:
            data: a datamodule; its `normalization` and `classes` count, where it has them.
        """
        if self.settings.mean is None:
            found = getattr(data, "normalization", None)
            if any(self._norms):
                self._take_norms(found)
            else:
                mean, std = found or (None, None)
                self._remember(mean=mean, std=std)
        self._set_normalization()
        classes: Sequence[str] | None = getattr(data, "classes", None)
        if self._classes_of_head is None or classes is None or not isinstance(self.head, nn.Linear):
            return
        self.notes.append(heads.adopt(self.head, self._classes_of_head, classes))
        self._classes_of_head = None

    def take_from(self, checkpoint: dict[str, Any]) -> None:
        """Take from a checkpoint what belongs to its weights, and build the network that they fit: the normalisation,
        the stem, what the data said of their samples, and how its logits are read.

        Raises:
            ModelError: for a readout that does not fit.
        """
        saved = checkpoint.get(HYPER_PARAMETERS, {})
        facts = {name: saved[name] for name in ("mean", "std", *STEMS) if saved.get(name) is not None}
        has_other_stem = any(facts.get(name, now) != now for name in STEMS for now in [getattr(self.settings, name)])
        self._remember(**facts)
        self._set_normalization()
        self.sample_facts = checkpoint.get(SAMPLE_FACTS, self.sample_facts)
        self.fusion = Fusion.of(checkpoint[FUSION]) if FUSION in checkpoint else None
        kept = checkpoint.get(READOUT)
        try:
            self.readout = None if kept is None else Readout.from_dict(kept, self.settings.num_classes)
        except ValueError as error:
            raise ModelError(f"The checkpoint cannot be used: {error}.") from error
        if self.net is None or has_other_stem:
            self._build(from_scratch=True)
        if self.fusion is not None and self.members is not None:
            self.fusion.check(self.members.num_members)

    def learned(self) -> dict[str, Any]:
        """What was learned of these weights' answers, as a checkpoint holds it: plain values by the keys `LEARNED`."""
        found = {} if self.fusion is None else {FUSION: self.fusion.plain()}
        return found if self.readout is None else {**found, READOUT: self.readout.to_dict()}

    @property
    def is_channels_last(self) -> bool:
        """Whether images and weights are in channels-last memory."""
        whole = self.whole_members
        return self._memory_format == torch.channels_last if whole is None else whole.is_channels_last

    def use_channels_last(self, wanted: bool) -> None:
        """Bring weights, and from now on images, into channels-last memory or out of it. The values stay."""
        assert self.net is not None
        whole = self.whole_members
        if whole is not None:
            whole.use_channels_last(wanted)
        else:
            self._memory_format = torch.channels_last if wanted else torch.contiguous_format
            self.net.to(memory_format=self._memory_format)  # type: ignore[call-overload]
        self._remember(channels_last=wanted)

    def _set_normalization(self) -> None:
        """Fill the buffers from the settings; without them the input stays as it is."""
        settings = self.settings
        if settings.mean is None:
            return
        mean, std = (torch.tensor(values, device="cpu") for values in (settings.mean, settings.std))
        std = std.where(std > 0, 1.0)  # a constant channel or feature has no spread to divide by
        pixel = () if settings.num_features is not None else (1, 1)
        shape = (-1, *pixel) if mean.ndim == 1 else (len(mean), 1, mean.shape[1], *pixel)
        self.mean, self.std = (values.view(shape).to(self.mean.device) for values in (mean, std))

    # ---- from input to probabilities ---------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, K, H, W), uint8 or float in [0, 1], or of features (B, F); as they are, whatever
        `readout` says."""
        return self._fused(self.own_logits(x))

    def show_nothing(self) -> None:
        """Show the network one black image, or one row of zeros, for the sake of who looks on."""
        settings, place = self.settings, self.mean.device
        if settings.num_features is not None:
            self.own_logits(torch.zeros(1, settings.num_features, device=place))
        else:
            side = settings.image_size or 1
            self.own_logits(torch.zeros(1, settings.in_channels or 3, side, side, device=place))

    def probabilities(self, batch: Batch) -> Tensor:
        """(B, C) float32, of all members together, over the views of test-time augmentation where it was asked for,
        scaled as `readout` says."""
        return torch.softmax(self.read(self.said(inputs_of(batch)).logits), 1)

    def read(self, logits: Tensor) -> Tensor:
        """(..., C) float32 logits whose softmax are the probabilities."""
        return logits.float() if self.readout is None else self.readout.scaled(logits)

    def read_parts(self, parts: Tensor) -> tuple[Tensor, list[float] | None]:
        """The logits of parts (P, B, C), see `Said`, each read as all of them together are, so that their softmax is
        beside the probabilities; and (P,) how much each counts, None: alike.
        """
        rule = Fusion() if self.members is None else self.rule
        return self.read(parts_by(rule, parts)), weights_by(rule, len(parts))

    def said(self, x: Tensor, num_passes: int = 0) -> Said:
        """What the network says of the input of a test batch, and what each of its parts does.

        Args:
            num_passes: T above 0: the mean of T passes with dropout on, and all else as in evaluation.

        Raises:
            ModelError: if T passes are asked for, and the network has no dropout.
        """
        if not num_passes:
            own = self.parts(x)
            return Said(self._fused(own), None if self.members is None else own.flatten(0, -3))
        if self.net is None or not dropouts_of(self.net):
            raise ModelError(
                "MC dropout needs a network with dropout, and this one has none: every pass would say the same. Train "
                "one with --dropout-rate 0.2."
            )
        with dropout_on(self.net):
            each = torch.stack([self.tested_logits(x) for _ in range(num_passes)])
        if self.members is None:
            return Said(fuse(each), each)
        return Said(self._fused(each), each.flatten(0, 1))

    def parts(self, x: Tensor) -> Tensor:
        """What the members say of the input of a test batch, before their answers become one: (M, B, C); (T, M, B, C)
        of T passes with dropout, where the rule looks at how these scatter. Of one network (B, C).
        """
        if self.net is None or self.rule.rule not in NEEDS_DROPOUT or self.members is None:
            return self.tested_logits(x)
        passes = []
        for number in range(NUM_PASSES):
            with thinned(self.net, number):
                passes.append(self.tested_logits(x))
        return torch.stack(passes)

    @property
    def rule(self) -> Fusion:
        """How the answers of members become one, with what that has learned."""
        return self.fusion or Fusion(self.settings.ensemble_strategy)

    def _fused(self, logits: Tensor) -> Tensor:
        if self.members is None:
            return logits
        return fuse_by(self.rule, logits)

    def tested_logits(self, x: Tensor) -> Tensor:
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
        """What the network itself returns: (B, C), or (M, B, C) for M members. Of one that answers with the log-odds z
        of the second of two classes: (0, z)."""
        if self.net is None:
            raise ModelError("The network is not built: its classes and channels are known once training starts.")
        x = self._float(x)
        if x.ndim == 2 and self.settings.num_features is None and self.head is not None:
            logits = heads.of_features(self.head, x, self.settings.dropout_rate, self.training)
        else:
            logits = self.net(self._normalised(x))
        return torch.nn.functional.pad(logits, (1, 0)) if self.settings.task == "binary" else logits

    def check_features(self) -> None:
        """Raises ModelError for several whole networks, each of which has features of its own."""
        if self.whole_members is not None:
            raise ModelError(
                f"There are no features: {self.settings.name} are several networks, each with features of its own. "
                "Give a run of one network."
            )

    @contextmanager
    def taking_features(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """In the block, `features` for many batches, which several threads may call at once. Errors as there."""
        self.check_features()
        if self.net is None or self.head is None:
            raise ModelError("There are no features: the network does not end in a linear layer.")
        with heads.features_taken(self.net, self.head) as take:
            yield lambda x: take(self._normalised(x))

    def features(self, x: Tensor) -> Tensor:
        """(B, F) what the head is given for images (B, K, H, W), uint8 or float in [0, 1]; in evaluation mode.

        Raises:
            ModelError: if the network has no linear head, or there are several networks.
        """
        with self.taking_features() as take:
            return take(x)

    def _normalised(self, x: Tensor) -> Tensor:
        return ((self._float(x) - self.mean) / self.std).contiguous(memory_format=self._memory_format)


def inputs_of(batch: Batch) -> Tensor:
    """What the network is shown of a batch: images (B, K, H, W), or features (B, F)."""
    return batch["image"] if "image" in batch else batch["features"]
