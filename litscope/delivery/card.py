"""MODEL_CARD.md: what a person must know of an exported network; with front matter for Hugging Face's hub.

It tells what the run's folder knows, and no more: data and splits, metrics with intervals where a share of samples has
one, the recipe, what the numbers do not say, and how the files beside it are used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from litscope.console import number_of
from litscope.data.manifest import SPLITS, Manifest
from litscope.delivery.check import Checked
from litscope.delivery.snippets import Kind, snippet
from litscope.evaluation.network import Network
from litscope.evaluation.opened_run import OpenedRun
from litscope.ledger.journal.actions import decisions
from litscope.ledger.scoring.recall import wilson
from litscope.training.kept_readout import in_words

CARD = "MODEL_CARD.md"

_MOST_CLASSES = 40
"""So many classes have a line each in the table of samples."""

_FEW = 50
"""With fewer training samples a class is named among the limits."""

_RECIPE = {
    "model": (
        *("arch", "task", "archs", "num_members", "ensemble_strategy", "member_image_size", "member_lr"),
        *("dropout_rate", "finetune", "freeze_norms", "body_lr_scale"),
    ),
    "data": ("image_size", "augment", "batch_size", "tta"),
    "training": (
        *("lr", "optimizer", "weight_decay", "scheduler_type", "loss", "label_smoothing", "mixup", "cutmix"),
        *("focal_gamma", "logit_adjustment", "robust", "gce_q", "elr_lambda", "elr_beta", "small_loss_share"),
        *("class_weights", "ema_decay", "prune", "canaries", "seed"),
    ),
    "hardware": ("precision",),
}
"""Settings that the card names, by section."""

_OFF: tuple[Any, ...] = (None, False, 0, 0.0, "none", [], "full", "mean", "multiclass")
"""Values of settings that change nothing."""


_ONE = (("num_members", 1), ("body_lr_scale", 1.0))
"""The same, where nothing is 1."""


def card_text(network: Network, description: dict[str, Any], to: str, path: Path, checked: Checked) -> str:
    """The card of a network.

    Args:
        network: with its run, where it was opened from one.
        description: of `describe`.
        to, path: the format and the place of the file that is written.
        checked: how it was checked.
    """
    files = {**_files_of(path.parent / CARD, network), path.name: to}
    facts = Facts(network) if isinstance(network, OpenedRun) else None
    parts = [_front(network, description, files, facts), _title(description)]
    if facts is not None:
        parts += [*facts.data(), *facts.metrics(), *facts.training()]
    parts += [
        *_calibration(network),
        *_limits(facts, network),
        *_use(description, files),
        "## Check",
        f"`{path.name}` was {checked.text()}.",
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def own_card(path: Path, network: Network) -> bool:
    """Whether a card is one of the same weights."""
    return _front_of(path).get("weights") == _digest(network)


def _files_of(path: Path, network: Network) -> dict[str, str]:
    """File name -> format of the files of the same weights that an earlier card tells of and that are still there."""
    earlier = _front_of(path)
    if earlier.get("weights") != _digest(network) or not isinstance(earlier.get("files"), dict):
        return {}
    return {name: to for name, to in earlier["files"].items() if (path.parent / name).is_file()}


def _front_of(path: Path) -> dict[str, Any]:
    """What litscope wrote for itself into a card's front matter; nothing where the file is no card of its own."""
    try:
        head = path.read_text(encoding="utf-8").split("---\n")[1]
        found = yaml.safe_load(head)["litscope"]
    except (OSError, UnicodeDecodeError, IndexError, KeyError, TypeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _digest(network: Network) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(network.predictor.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    if network.predictor.readout is not None:
        digest.update(json.dumps(network.predictor.readout.to_dict(), sort_keys=True).encode())
    return digest.hexdigest()


def _front(network: Network, description: dict[str, Any], files: dict[str, str], facts: Facts | None) -> str:
    task = f"{'image' if _is_image(description) else 'tabular'}-classification"
    front: dict[str, Any] = {
        "pipeline_tag": task,
        "library_name": "litscope",
        "tags": ["litscope", description["arch"]],
        "litscope": {"version": description["litscope"], "weights": _digest(network), "files": files},
    }
    if facts is not None and (results := facts.results(task)):
        front["model-index"] = [{"name": description["name"], "results": results}]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---"


def _is_image(description: dict[str, Any]) -> bool:
    return bool(description["input"]["name"] == "image")


def _title(description: dict[str, Any]) -> str:
    classes, given = description["classes"], description["input"]
    shown = ", ".join(map(_cell, classes[:_MOST_CLASSES])) + (", ..." if len(classes) > _MOST_CLASSES else "")
    what = f"images of {given['size']} pixels" if _is_image(description) else f"rows of {given['shape'][1]} columns"
    return (
        f"# {description['name']}\n\n`{description['arch']}`, trained with litscope {description['litscope']}. "
        f"It takes {what} and gives the probabilities of {len(classes)} classes: {shown}."
    )


class Facts:
    """What a run's folder says, as parts of the card.

    Args:
        opened: the run.
    """

    def __init__(self, opened: OpenedRun) -> None:
        run = opened.run
        self._opened, self._recipe = opened, opened.recipe.to_dict()
        self._manifest, self._decided = Manifest.read(run.manifest), decisions(run)
        self._summary: dict[str, Any] = _read(run.summary)
        self._environment: dict[str, Any] = _read(run.environment)
        self._is_best = bool(self._summary) and self._same_file(self._summary["checkpoints"]["best"])
        self._measured: dict[str, Any] = self._summary["metrics"]["best"] if self._is_best else {}

    def _same_file(self, best: str | None) -> bool:
        """Whether the weights are those that the summary's metrics are of, wherever the run lies now."""
        checkpoint = self._opened.checkpoint
        return best is not None and checkpoint.name in (Path(best).name, self._opened.run.best_checkpoint.name)

    @property
    def name(self) -> str:
        """The data's name, or that of their file or folder."""
        return Path(self._recipe["data"]["dataset"] or "unknown").name

    @property
    def num_discarded(self) -> int:
        """Samples that people left out."""
        return len(self._decided.discarded)

    @property
    def has_test(self) -> bool:
        """Whether a test set was measured."""
        return self._measured.get("test/accuracy") is not None

    def counts(self, split: str) -> list[int]:
        """Labelled samples of each class, as the source has them."""
        return [int(count) for count in self._manifest.counts(split)]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self._manifest.classes

    def data(self) -> list[str]:
        """Which samples, and how many."""
        splits = {split: self.counts(split) for split in SPLITS}
        lines = [_row("class", *SPLITS), _row(*["---"] * 4)]
        if len(self.classes) <= _MOST_CLASSES:
            lines += [
                _row(_cell(name), *(f"{splits[split][k]:,}" for split in SPLITS)) for k, name in enumerate(self.classes)
            ]
        lines.append(_row("all", *(f"{sum(splits[split]):,}" for split in SPLITS)))
        told = [f"Source: `{self.name}`, as it was on the day of the training. Labelled samples of each split:"]
        people = []
        if self._decided.discarded:
            people.append(f"{number_of(self.num_discarded, 'sample')} discarded (still counted above)")
        if self._decided.labels:
            people.append(f"{number_of(len(self._decided.labels), 'sample')} given another label")
        if self._decided.weights:
            people.append(f"{number_of(len(self._decided.weights), 'sample')} given another weight")
        decided = [f"People decided on samples in this run: {', '.join(people)}."] if people else []
        return ["## Data", *told, "\n".join(lines), *decided]

    def metrics(self) -> list[str]:
        """What was measured, with the interval of a share where there is one."""
        if not self._measured:
            return ["## Metrics", "None: the run has measured nothing with these weights, or not ended."]
        splits = [split for split in ("val", "test") if self._measured.get(f"{split}/accuracy") is not None]
        names = [name.partition("/")[2] for name in self._measured if name.startswith("val/")]
        names = names or [name.partition("/")[2] for name in self._measured if name.startswith("test/")]
        lines = [_row("metric", *splits), _row(*["---"] * (len(splits) + 1))]
        lines += [_row(name, *(self._value(split, name) for split in splits)) for name in names]
        told = "Intervals hold 95 % (Wilson), and count only the chance that these samples were drawn and no others."
        pairs = [
            f"{_cell(pair['label'])} as {_cell(pair['prediction'])} ({pair['count']})"
            for pair in self._summary.get("confused_pairs", [])[:5]
        ]
        confused = [f"Most confused: {', '.join(pairs)}."] if pairs else []
        return ["## Metrics", "\n".join(lines), told, *confused]

    def _value(self, split: str, name: str) -> str:
        value = self._measured.get(f"{split}/{name}")
        if value is None:
            return "undefined"
        num = self._summary["num_samples"].get(split, 0)
        if name != "accuracy" or not num:
            return f"{value:.4f}"
        share = wilson(round(value * num), num)
        return f"{value:.4f} ({share.low:.3f} to {share.high:.3f}, {num:,} samples)"

    def results(self, task: str) -> list[dict[str, Any]]:
        """The metrics as the hub's front matter has them."""
        found = []
        for split in ("val", "test"):
            values = [
                {"type": name.partition("/")[2], "value": round(value, 4)}
                for name, value in self._measured.items()
                if name.startswith(f"{split}/") and value is not None
            ]
            if values:
                data = {"name": self.name, "type": self.name, "split": split}
                found.append({"task": {"type": task}, "dataset": data, "metrics": values})
        return found

    def training(self) -> list[str]:
        """The recipe: what differs from nothing at all."""
        settings = [
            f"{name} {value}"
            for section, names in _RECIPE.items()
            for name in names
            if (value := self._recipe[section].get(name)) not in _OFF and (name, value) not in _ONE
        ]
        lines = [f"- {self._start()}"]
        if self._summary:
            best = self._summary.get("best_epoch")
            of = "" if best is None or not self._is_best else f"; these weights are those after epoch {best + 1}"
            lines.append(f"- {number_of(self._summary['epochs'], 'epoch')} on {self._summary['device']}{of}")
        lines.append(f"- {', '.join(settings)}")
        packages = self._environment.get("packages", {})
        versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "lightning", "timm") if name in packages)
        return ["## Training", "\n".join([*lines, *([f"- {versions}"] if versions else [])])]

    def _start(self) -> str:
        model = self._recipe["model"]
        if model.get("weights"):
            return f"started from the weights of {Path(model['weights']).name}"
        return "started from pretrained weights of its architecture" if model.get("pretrained") else "started at random"

    @property
    def canaries(self) -> float:
        """Share of the training labels that were wrong on purpose."""
        return float(self._recipe["training"].get("canaries") or 0.0)


def _calibration(network: Network) -> Iterator[str]:
    """What was learned on validation samples of how the logits are read."""
    readout = network.predictor.readout
    if readout is None:
        return
    on = readout.fitted_on
    whose = "labels that somebody has verified" if on.are_verified else "labels as they were"
    yield "## Calibration"
    yield (
        f"Learned on {number_of(on.num_samples, on.what)}, {whose}: {in_words(readout, network.classes)}. "
        "It holds for samples that are drawn like those."
    )


def _limits(facts: Facts | None, network: Network) -> Iterator[str]:
    yield "## Limits"
    is_scaled = network.predictor.readout is not None and network.predictor.readout.method != "none"
    lines = [
        "The probabilities were calibrated on few samples beside those that will come: on others they may be off."
        if is_scaled
        else "The probabilities are those of a softmax, and not calibrated: one of 0.9 need not be right nine times in "
        "ten.",
        "It names one of its classes for whatever it is shown, also for what belongs to none of them.",
    ]
    if facts is None:
        lines.append("The checkpoint came without its run, so data, metrics and recipe are not known here.")
    else:
        counts = facts.counts("train")
        lines.insert(0, f"It was trained on {sum(counts):,} samples of one source, and measured on the same source.")
        few = [f"{_cell(name)} ({num})" for name, num in zip(facts.classes, counts, strict=True) if num < _FEW]
        if few:
            more = f" and {len(few) - 10} more" if len(few) > 10 else ""
            lines.append(f"Classes with fewer than {_FEW} training samples: {', '.join(few[:10])}{more}.")
        lines.append(
            "The best epoch was chosen by the validation samples, which flatters the numbers of those; the test "
            "samples decided nothing."
            if facts.has_test
            else "There are no numbers of a test set: what was measured also chose the epoch, which flatters it."
        )
        if facts.num_discarded:
            lines.append(
                f"{number_of(facts.num_discarded, 'discarded sample')}: samples like these are missing from training "
                "or from the numbers."
            )
        if facts.canaries:
            lines.append(f"{facts.canaries:.1%} of the training labels were wrong on purpose for part of the training.")
    lines.append("Which licence the data, and so these weights, are under is not known to litscope. Say so here.")
    yield "\n".join(f"- {line}" for line in lines)


def _use(description: dict[str, Any], files: dict[str, str]) -> Iterator[str]:
    yield "## Use"
    given = description["input"]
    yield (
        f"Input `{given['name']}`: {given['dtype']}, ({', '.join(map(str, given['shape']))}). Output `probabilities`: "
        f"float32, (batch, {len(description['classes'])}), in the order of `classes`. "
        f"{description['reading']['words']} {description['inside']}"
    )
    kind: Kind = "table" if not _is_image(description) else "image" if given["mode"] else "bands"
    readout = description.get("readout")
    has_threshold = readout is not None and readout["threshold"] is not None
    if readout is not None:
        yield readout["words"]
    for name, to in files.items():
        yield f"`{name}`:"
        yield f"```python\n{snippet(to, kind, name, has_threshold)}```"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(name: str) -> str:
    """A name that a table of Markdown shows as it is."""
    return " ".join(name.split()).replace("|", "\\|")


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
