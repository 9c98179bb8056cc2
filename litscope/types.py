"""What crosses rooms: the record that a loader yields, the one that a training step returns, and a word.

Both records are plain dictionaries, so that Lightning moves them between devices and a user's own
module can produce them without importing anything of ours. Torch is imported for the type
checker only. Letters: B batch, C classes, K channels, F features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

Interpolation = Literal["bilinear", "bicubic"]
"""How the pixels of an image are resampled to another size."""


class Batch(TypedDict, total=False):
    """One batch, as it reaches ``training_step``. Either `image` or `features` is present.

    For a call of several steps, N batches of one size are stacked: every tensor then has a further first
    dimension N, here and in `StepOutput` (`loss` (N,)).
    """

    image: Tensor
    """(B, K, H, W): uint8 from the loader; float32 in [0, 1] after augmentation on the device."""
    features: Tensor
    """(B, F) float32, not yet standardised: the model holds the mean and the deviation."""
    label: Tensor
    """(B,) int64 class index from the manifest; -1 where a sample has no label (prediction only)."""
    sample_id: Tensor
    """(B,) int64 row number of the manifest; -1 marks a padding row, which nobody may count."""
    weight: Tensor
    """(B,) float32 factor of each sample's loss, present only where somebody reweighted a sample."""
    soft_label: Tensor
    """(B, C) float32, present only when mixup or cutmix blended the batch, or the samples have grades."""
    visit: Tensor
    """(B,) int64, how often the epoch has drawn the sample before; present only where it may draw one several times."""
    left_out: Tensor
    """(B,) int64, the member that does not train on the row; present only where each of several leaves a fold out."""


class StepOutput(TypedDict):
    """What a step hands to the ledger. All but `loss` are detached."""

    loss: Tensor
    """() the scalar that is minimised, graph attached."""
    logits: Tensor
    """(B, C) raw scores, detached, in the step's precision."""
    sample_loss: Tensor
    """(B,) cross-entropy of each sample against `label`, without smoothing, weights or focal term."""
    label: Tensor
    """(B,) int64, the label that was used."""
    sample_id: Tensor
    """(B,) int64, unchanged from the batch."""
