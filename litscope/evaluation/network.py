"""Network: a trained network out of a checkpoint, which predicts samples that it has never seen.

A checkpoint alone is enough: it holds the weights, the class names, how samples are read, and the precision. With the
run that it came from, batch size and threads are those of the training. Lightning is not even imported, which takes
longer than a few images do; the steps between are those of its Trainer, so the numbers are those of its prediction.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from litscope.config.hardware import PRECISIONS, HardwareConfig
from litscope.config.resume import find_checkpoint
from litscope.console import shell_word
from litscope.data.sample_facts import SampleFacts
from litscope.data.sources.source import Source
from litscope.errors import ConfigError, RunError
from litscope.evaluation.collected import CollectedAnswers
from litscope.evaluation.evaluation_data import EvaluationData, on_device
from litscope.evaluation.precision import Precision
from litscope.evaluation.trained import predictor_in
from litscope.evaluation.weights_file import is_weights_file, read_weights_file
from litscope.limits import num_cores
from litscope.models.checkpoint_file import load_checkpoint
from litscope.models.forward import SAMPLE_FACTS, Forward, inputs_of
from litscope.training.hardware import Plan, plan
from litscope.training.readouts import Answers, scaling_of
from litscope.training.threads import torch_threads
from litscope.types import Batch

BATCH_SIZE = 64
"""Samples per step, where the training does not say how many."""

_MOST_SAMPLES = 2**20
"""Batch size of a checkpoint that is believed."""


@dataclass(kw_only=True)
class Network:
    """A trained network, and how samples reach it.

    Attributes:
        checkpoint: the file that it came from.
        predictor: the network with its weights.
        plan: the device, and the precision.
        facts: class names, and how samples are read.
        batch_size, num_workers, cache_dir: as in training, where that is known.
    """

    checkpoint: Path
    predictor: Forward
    plan: Plan
    facts: SampleFacts
    batch_size: int = BATCH_SIZE
    num_workers: int | None = None
    cache_dir: Path | None = field(default=None)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities."""
        return self.facts.classes

    @property
    def device(self) -> torch.device:
        """Where it computes: the first device of the plan."""
        devices = self.plan.devices
        number = devices[0] if isinstance(devices, list) else 0
        kind = self.plan.device_type
        return torch.device(kind) if kind == "cpu" else torch.device(kind, number)

    def data_of(
        self,
        source: Source,
        ids: NDArray[np.int64],
        *,
        batch_size: int | None = None,
        num_workers: int | None = None,
        cache: bool | None = False,
    ) -> EvaluationData:
        """A loader for some samples of a source, at the sizes that the network was trained on.

        Raises:
            ConfigError: if the batch size or the number of workers is too small.
        """
        for flag, given, least in (("--batch-size", batch_size, 1), ("--num-workers", num_workers, 0)):
            if given is not None and given < least:
                raise ConfigError(f"{flag} {given}: it is {least} or more.")
        encoding = self.facts.encoding
        workers = self.num_workers if num_workers is None else num_workers
        return EvaluationData(
            source,
            ids,
            image_size=encoding.get("image_size"),
            stored_size=encoding.get("stored_size"),
            crop_pct=encoding.get("crop_pct"),
            interpolation=encoding.get("interpolation"),
            batch_size=batch_size or self.batch_size,
            num_workers=num_cores() if workers is None else workers,
            pin_memory=self.plan.device_type == "cuda",
            cache=cache,
            cache_dir=self.cache_dir,
        )

    def probabilities(self, data: EvaluationData) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """What the network says of samples: ids (n,) of those that can be read, probabilities (n, C)."""
        answers = self.answers(data)
        probs = scaling_of(self.predictor.readout, len(self.classes)).probabilities(answers.logits)
        return answers.sample_id, probs.astype(np.float32)

    def answers(self, data: EvaluationData, num_passes: int = 0) -> Answers:
        """What the network says of the samples that can be read, before it is scaled; without labels.

        Args:
            num_passes: passes with dropout on, see `Forward.said`; 0: one without.

        Raises:
            ModelError: for passes of a network without dropout.
        """
        precision, device = Precision(self.plan.precision, self.plan.device_type), self.device
        precision.convert(self.predictor)
        predictor = self.predictor.to(device).eval()
        kept = CollectedAnswers()
        try:
            with torch_threads(None), torch.inference_mode(), drawn_alike(device):
                for batch in data.batches():
                    seen = precision.converted(data.seen(on_device(batch, device)))
                    with precision.forward():
                        said = predictor.said(inputs_of(seen), num_passes)
                    parts = None if said.parts is None else predictor.read_parts(said.parts)
                    kept.add(said.logits, seen["sample_id"], None, parts)
        finally:
            data.close()
        return kept.answers(len(self.classes))

    def parts(self, data: EvaluationData) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """What its members say: ids (n,), and logits (M, n, C), or (T, M, n, C); see `Forward.parts`."""
        return self._told(data, lambda batch: self.predictor.parts(inputs_of(batch)))

    def without_dropout(self, data: EvaluationData) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `parts`, always (M, n, C), of members as they are without dropout."""
        return self._told(data, lambda batch: self.predictor.tested_logits(inputs_of(batch)))

    def ask(self, batches: Iterable[Batch], ask: Callable[[Batch], Tensor]) -> NDArray[np.float32]:
        """(..., n, C) what is told of batches, as the network is shown them.

        Args:
            ask: a batch -> (..., B, C).
        """
        precision, device = Precision(self.plan.precision, self.plan.device_type), self.device
        precision.convert(self.predictor)
        self.predictor.to(device).eval()
        told: list[Tensor] = []
        with torch_threads(None), torch.inference_mode():
            for batch in batches:
                shown = precision.converted(on_device(batch, device))
                with precision.forward():
                    told.append(ask(shown).float().cpu())
        return (torch.cat(told, -2) if told else torch.zeros(0, len(self.classes))).numpy()

    def _told(
        self, data: EvaluationData, ask: Callable[[Batch], Tensor]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids (n,) of samples that can be read, and what is told of them, (..., n, C)."""
        ids: list[Tensor] = [torch.zeros(0, dtype=torch.int64)]

        def seen() -> Iterator[Batch]:
            for batch in data.batches():
                shown = data.seen(on_device(batch, self.device))
                ids.append(shown["sample_id"].cpu())
                yield shown

        try:
            found = self.ask(seen(), ask)
        finally:
            data.close()
        return torch.cat(ids).numpy(), found


@contextmanager
def drawn_alike(device: torch.device) -> Iterator[None]:
    """In the block, what dropout draws is the same each time; afterwards torch's generators are as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


def plan_for(hardware: HardwareConfig, accelerator: str | None, precision: str | None) -> Plan:
    """One device of this machine, whatever a network was trained on.

    Args:
        hardware: of the training.
        accelerator: default: the best device here.
        precision: default: as in training.

    Raises:
        ConfigError: for a device that is not here, or a precision that it does not have.
    """
    here = copy.deepcopy(hardware)
    here.accelerator = accelerator or "auto"
    here.devices, here.num_nodes, here.strategy, here.sync_batchnorm = "auto", 1, "auto", False
    here.precision = precision or here.precision  # type: ignore[assignment]  # `plan` checks it
    return plan(here)


def open_checkpoint(path: Path, *, accelerator: str | None = None, precision: str | None = None) -> Network | None:
    """The network of a checkpoint, wherever the file lies; None for one that does not say how samples are read.

    Args:
        path: a checkpoint, or what `litscope export --to safetensors` wrote.
        accelerator, precision: as `plan_for`.

    Raises:
        RunError: if it is damaged, or what it says of its samples does not fit its network.
    """
    checkpoint = read_weights_file(path) if is_weights_file(path) else load_checkpoint(path)
    found = checkpoint.get(SAMPLE_FACTS)
    if found is None:
        return None
    predictor = predictor_in(checkpoint, path)
    settings = predictor.settings
    try:
        if not isinstance(found, dict) or found.get("precision") not in ("auto", *PRECISIONS):
            raise ValueError("it does not say in which precision its network computes")
        if not isinstance(found.get("batch_size"), int) or not 0 < found["batch_size"] <= _MOST_SAMPLES:
            raise ValueError(f"batch_size is {found.get('batch_size')!r}, which is no number of samples")
        facts = SampleFacts.from_dict(
            found,
            num_classes=settings.num_classes or 0,
            in_channels=settings.in_channels,
            image_size=settings.image_size,
            num_features=settings.num_features,
        )
    except ValueError as error:
        raise RunError(f"{path} is no checkpoint to predict with: {error}.") from error
    here = plan_for(HardwareConfig(precision=found["precision"]), accelerator, precision)
    return Network(checkpoint=path, predictor=predictor, plan=here, facts=facts, batch_size=found["batch_size"])


def run_of_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The folder of the run that a checkpoint file belongs to.

    Raises:
        RunError: if it lies in none.
    """
    run = find_checkpoint(os.fspath(path))[1]
    if run is None:
        raise RunError(
            f"{path} is a checkpoint alone, and this needs the run that it came from. Give the run's folder, with "
            f"--checkpoint {shell_word(path)}."
        )
    return run
