"""`litscope export --to onnx | pt2 | safetensors`: a run's network leaves as one file, with a model card beside it.

The file appears only after what was written has been opened again and has told the run's own probabilities.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from litscope.config.resume import find_checkpoint
from litscope.console import shell_word, warn
from litscope.curation.run_data import run_data
from litscope.delivery.card import CARD, card_text, own_card
from litscope.delivery.check import Checked, largest_difference
from litscope.delivery.description import describe
from litscope.delivery.formats import FORMATS, Format
from litscope.delivery.inputs import Inputs, own_inputs, random_inputs
from litscope.delivery.portable import portable
from litscope.errors import ConfigError, DataError, RunError, did_you_mean
from litscope.evaluation.network import Network
from litscope.evaluation.opened_run import OpenedRun, open_network, open_run
from litscope.evaluation.weights_file import is_weights_file
from litscope.rundir import RunDir, json_text, whole_file, write_text
from litscope.runs import is_watched
from litscope.training.threads import torch_threads


@dataclass(frozen=True)
class Delivered:
    """What was written.

    Attributes:
        path: the file; beside: further files, the model card the last.
        checkpoint: whose weights they are.
        checked: how the file was checked.
    """

    path: Path
    beside: list[Path]
    checkpoint: Path
    checked: Checked

    def __repr__(self) -> str:
        return f"Delivered({str(self.path)!r}, {self.checked.text()})"

    def lines(self) -> list[str]:
        """The result in lines for a terminal."""
        return [
            f"weights: {self.checkpoint}",
            self.checked.text(),
            f"exported: {self.path}, with {' and '.join(path.name for path in self.beside)}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return {
            "path": str(self.path),
            "beside": [str(path) for path in self.beside],
            "checkpoint": str(self.checkpoint),
            "checked": self.checked.to_dict(),
        }


def export_model(
    run: str | os.PathLike[str],
    output: str | os.PathLike[str],
    to: str | None = None,
    checkpoint: str = "best",
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    overwrite: bool = False,
) -> Delivered:
    """Write a run's network as one file for other programs: from uint8 images, or a table's cells, to probabilities.

    Args:
        run: the run's folder, or its name below runs/; or a checkpoint file, wherever it lies.
        output: the file, which ends in .onnx, .pt2 or .safetensors. `MODEL_CARD.md` is written beside it, and for
            safetensors a JSON file.
        to: onnx, pt2 or safetensors; default: as `output` ends.
        checkpoint: of a run: "best", "last" or a file.
        dataset, data_dir: where the run's data are now; it is checked on samples of them, or on noise if they are gone.
        overwrite: replace files that are there.

    Raises:
        ConfigError: for another format, or files that are there.
        RunError: if there is no such run or checkpoint, or its network is not litscope's.
        MissingExtra: without the packages of `onnx`.
        ModelError: if the network cannot be written in this format.
        LitscopeError: if the file does not say what the run says; nothing is written.
    """
    path = Path(output)
    format_ = _format(path, to)
    beside = [*([path.with_suffix(".json")] if format_.has_json else []), path.parent / CARD]
    format_.require()
    if Path(run).is_dir() and is_watched(RunDir.open(run)):
        raise RunError(
            f"{run} is a watched run: its network is that of its own script. Export it there, with torch.export or "
            "torch.onnx.export."
        )
    network = _opened(run, checkpoint)
    _refuse_taken([path, *beside], network, overwrite)
    with torch_threads(None):
        return _deliver(format_, network, path, beside, _inputs(network, dataset, data_dir))


def _deliver(
    format_: Format, network: Network, path: Path, beside: list[Path], found: tuple[Inputs, bool]
) -> Delivered:
    """Write the file aside, check it, and only then let it and what lies beside it appear."""
    inputs, are_own = found
    description = describe(network, _name(network))
    expected = _predicted(network, inputs)
    precision, in_own = _in_own_precision(network, inputs)
    content = format_.write(portable(network), description)
    with whole_file(path) as file:
        file.write(content)
        file.flush()
        run = format_.open(Path(file.name))
        largest = largest_difference(run, inputs, expected, path)
        own_largest = None if in_own is None else float(np.abs(run(inputs.arrays) - in_own).max())
        checked = Checked(len(inputs.ids), are_own, largest, precision, own_largest)
        *json_file, card = beside
        for name in json_file:
            write_text(name, json_text(description))
        write_text(card, card_text(network, description, format_.name, path, checked))
    return Delivered(path, beside, network.checkpoint, checked)


def _opened(run: str | os.PathLike[str], checkpoint: str) -> Network:
    """A run's network, with its run also where only a checkpoint in it is named."""
    path = Path(run)
    folder = find_checkpoint(os.fspath(run))[1] if path.is_file() and not is_weights_file(path) else None
    if folder is not None:
        return open_run(path, accelerator="cpu", precision="32-true")
    return open_network(run, checkpoint, accelerator="cpu", precision="32-true")


def _format(path: Path, to: str | None) -> Format:
    """The format of a file: as it is called, and as it ends."""
    ends = path.suffix.lower().removeprefix(".")
    name = to or ends
    if name not in FORMATS:
        if to is None:
            raise ConfigError(f"{path}: the name must end in {' or '.join(f'.{known}' for known in FORMATS)}.")
        raise ConfigError(f"--to {to}: choose {', '.join(FORMATS)}.{did_you_mean(to, FORMATS)}")
    if ends != name:
        raise ConfigError(f"--output {path}: a file of --to {name} ends in .{name}.")
    return FORMATS[name]


def _refuse_taken(files: list[Path], network: Network, overwrite: bool) -> None:
    """Refuse files that are there; but a card of the same weights is written anew, for it tells of all their files."""
    for path in files:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder. Give another --output.")
        if path.exists() and not overwrite and not (path.name == CARD and own_card(path, network)):
            raise ConfigError(f"{path} exists. Give another --output, or --overwrite to replace it.")


def _name(network: Network) -> str:
    """The run's name; of a checkpoint alone, that of its file."""
    return network.run.path.resolve().name if isinstance(network, OpenedRun) else network.checkpoint.stem


def _inputs(network: Network, dataset: str | None, data_dir: str | None) -> tuple[Inputs, bool]:
    """Samples to check the file on, and whether they are the run's own."""
    if isinstance(network, OpenedRun):
        try:
            data = run_data(network.run, dataset, data_dir)
        except (DataError, OSError) as error:
            if dataset is not None:
                raise
            warn(f"the run's data cannot be read ({error}); the file is checked on random samples")
        else:
            inputs = own_inputs(network, data)
            if len(inputs.ids):
                return inputs, True
            warn("not one of the run's samples can be read; the file is checked on random samples")
    elif dataset is not None:
        raise ConfigError(
            f"--dataset {dataset}: {network.checkpoint} is a checkpoint alone, and which data are its own stands in "
            f"its run. Give the run's folder, with --checkpoint {shell_word(network.checkpoint)}, or leave it out."
        )
    return random_inputs(network), False


def _predicted(network: Network, inputs: Inputs) -> Any:
    """(n, C) what `litscope predict` says of the samples."""
    return network.probabilities(network.data_of(inputs.source, inputs.ids, num_workers=0))[1]


def _in_own_precision(network: Network, inputs: Inputs) -> tuple[str | None, Any]:
    """The precision in which the run predicts, and (n, C) what it says in it; nothing for float32, or one not here."""
    where = network.run.path if isinstance(network, OpenedRun) else network.checkpoint
    try:
        own = open_network(where, str(network.checkpoint))
    except ConfigError:  # this machine does not have it
        return None, None
    if own.plan.precision == "32-true":
        return None, None
    return own.plan.precision, _predicted(own, inputs)
