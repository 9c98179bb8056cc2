"""Joined: networks that were trained apart, side by side as the members of one ensemble.

Each keeps what stands around it: the size and the part of the image that it was shown, its normalisation, its views of
test-time augmentation, members of its own, its readout. So as a member it says what it says alone. The settings of the
ensemble hold a record of each, `ClassifierSettings.joined`, and its checkpoint the weights of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from litscope.errors import ModelError
from litscope.models.forward import HYPER_PARAMETERS, LEARNED, Forward
from litscope.models.networks.net_members import NetMember, NetMembers, resized
from litscope.models.predictor import Predictor
from litscope.shown import evaluation
from litscope.types import Interpolation

_MOST_PIXELS = 2**14


class JoinedMember(nn.Module):
    """One of them: (B, K, S, S) images in [0, 1] as they are stored, or features (B, F) -> (B, C) logits.

    Args:
        network: with its weights, or as it is before they are loaded.
        view: of images: `stored_size`, `image_size`, `is_byte`, and where they are not usual `crop_pct` and
            `interpolation`; see `shown.evaluation`. None for features.
        order: (C,) the position among its classes of each class of the ensemble; None: they are the same.
    """

    def __init__(self, network: Forward, view: Mapping[str, Any] | None, order: Sequence[int] | None) -> None:
        super().__init__()
        self.network, self._view = network, view
        self._order = None if order is None else list(order)

    def forward(self, x: Tensor) -> Tensor:
        """Logits whose softmax are its own probabilities, in the ensemble's order of classes."""
        logits = self.network.read(self.network.said(x if self._view is None else self._seen(x, self._view)).logits)
        return logits if self._order is None else logits[:, self._order]

    @staticmethod
    def _seen(x: Tensor, view: Mapping[str, Any]) -> Tensor:
        """What the member was trained on. Pixels are whole numbers where they are stored as such."""
        stored = resized(x, view["stored_size"])
        if view["is_byte"]:
            stored = (stored * 255.0).round().clamp(0.0, 255.0).to(torch.uint8)
        seen = evaluation(stored, view["image_size"], view.get("crop_pct"), view.get("interpolation", "bilinear"))
        return seen.to(x.dtype)


class JoinedMembers(NetMembers):
    """M networks that were trained apart."""

    def __init__(self, members: Sequence[JoinedMember]) -> None:
        super().__init__([NetMember(member) for member in members])

    def use_channels_last(self, wanted: bool) -> None:
        """Bring each network, and the images that it is shown, into channels-last memory or out of it."""
        for member in self.nets:
            assert isinstance(member, JoinedMember)
            member.network.use_channels_last(wanted)


def place_of(number: int) -> str:
    """How the names of a member's weights begin in the ensemble's state."""
    return f"net.nets.{number}.network."


def record_of(network: Forward, view: Mapping[str, Any] | None, order: Sequence[int] | None) -> dict[str, Any]:
    """What an ensemble must know of a member besides its weights: plain values.

    Args:
        view, order: as of `JoinedMember`.
    """
    of_training = {"pretrained": False, "weights": None, "compile": False, "activation_checkpointing": False}
    return {
        "settings": {**vars(network.settings), **of_training},
        "learned": network.learned(),
        "view": None if view is None else dict(view),
        "order": None if order is None else list(order),
    }


def build_joined(records: Sequence[Mapping[str, Any]], num_classes: int) -> JoinedMembers:
    """The networks of an ensemble, before their weights are loaded.

    Args:
        records: of each, from `record_of`.

    Raises:
        ModelError: for a record that is none.
        UserError: for settings that are none of a network.
    """
    if not isinstance(records, Sequence) or len(records) < 1:
        raise ModelError("An ensemble of networks that were trained apart has no members.")
    return JoinedMembers([_member(number, record, num_classes) for number, record in enumerate(records)])


def _member(number: int, record: Any, num_classes: int) -> JoinedMember:
    settings, view, order = (record.get(name) if isinstance(record, Mapping) else None for name in _PARTS)
    if not isinstance(settings, Mapping) or settings.get("num_classes") != num_classes:
        raise ModelError(f"Member {number} of the ensemble is no network of {num_classes} classes.")
    if order is not None and (not isinstance(order, Sequence) or sorted(order) != list(range(num_classes))):
        raise ModelError(f"Member {number} of the ensemble has its classes in the order {order!r}, which is none.")
    is_image = settings.get("num_features") is None
    if is_image != isinstance(view, Mapping) or (isinstance(view, Mapping) and not _is_view(view, settings)):
        raise ModelError(f"Member {number} of the ensemble does not say what it is shown of an image: {view!r}.")
    network = Predictor(**settings)
    learned = record.get("learned")
    if not isinstance(learned, Mapping) or any(key not in LEARNED for key in learned):
        raise ModelError(f"Member {number} of the ensemble has learned what no network learns: {learned!r}.")
    network.take_from({HYPER_PARAMETERS: settings, **learned})
    return JoinedMember(network, view, order)


_PARTS = ("settings", "view", "order")


def _is_view(view: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    sides, share = [view.get("stored_size"), view.get("image_size")], view.get("crop_pct", 1.0)
    return (
        all(isinstance(side, int) and 0 < side <= _MOST_PIXELS for side in sides)
        and view["image_size"] == settings.get("image_size")
        and isinstance(view.get("is_byte"), bool)
        and isinstance(share, int | float)
        and 0 < share <= 1
        and view.get("interpolation", "bilinear") in get_args(Interpolation)
    )
