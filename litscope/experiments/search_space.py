"""What `litscope tune` may vary: `lr=1e-4..1e-1`, `batch_size=32,64,128`, `epochs=5..20`.

A range is `low..high`; rates and decays are drawn evenly on a logarithmic scale, everything else evenly, unless
`:log` or `:linear` after the range says otherwise. Words with commas are choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from litscope.config.fields import by_name, typed
from litscope.config.recipe import Recipe
from litscope.config.section import Field
from litscope.errors import ConfigError, did_you_mean

MAY_VARY = (
    *("model.arch", "model.pretrained", "model.dropout_rate"),
    *("data.batch_size", "data.image_size", "data.augment"),
    *("training.lr", "training.weight_decay", "training.optimizer", "training.momentum", "training.scheduler_type"),
    *("training.epochs", "training.warmup_epochs", "training.label_smoothing", "training.loss"),
    *("training.mixup", "training.cutmix", "training.class_weights", "training.ema_decay"),
    *("training.gradient_clip_val", "training.accumulate_grad_batches"),
)
"""Settings that make a network better or worse. Seeds, splits or metrics would only make for a luckier number."""

LOGARITHMIC = ("training.lr", "training.weight_decay")


@dataclass(frozen=True)
class Dimension:
    """One setting and the values that it may take.

    Attributes:
        field: the setting.
        low, high: ends of a range, both included; None with choices.
        is_log: whether it is drawn evenly on a logarithmic scale.
        choices: the values, if it is not a range.
    """

    field: Field
    low: float | None = None
    high: float | None = None
    is_log: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def distribution(self) -> Any:
        """The same as a distribution of Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.low is None or self.high is None:
            return CategoricalDistribution(self.choices)
        if self.is_whole:
            return IntDistribution(int(self.low), int(self.high), log=self.is_log)
        return FloatDistribution(self.low, self.high, log=self.is_log)

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return int in self.field.parts


def parse_space(texts: list[str]) -> list[Dimension]:
    """The dimensions that texts like `lr=1e-4..1e-1` describe.

    Raises:
        ConfigError: naming the text, and what is allowed.
    """
    space = [_parse(text) for text in texts]
    names = [dimension.field.name for dimension in space]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--search {name}=...: it is given twice.")
    return space


Pruner = Literal["median", "halving", "hyperband", "none"]
PRUNERS = get_args(Pruner)


def check_search(space: list[str], num_trials: int, pruner: str) -> None:
    """Refuse what no search can be.

    Raises:
        ConfigError: naming the flag.
    """
    if num_trials < 1:
        raise ConfigError(f"--trials {num_trials}: it is 1 or more.")
    if pruner not in PRUNERS:
        raise ConfigError(f"--pruner {pruner}: it is one of {', '.join(PRUNERS)}.{did_you_mean(pruner, PRUNERS)}")
    parse_space(space)


def default_space(family: str) -> list[Dimension]:
    """Learning rate and weight decay, where an optimizer of this family usually has them."""
    rates = {"sgd": "1e-3..1", "lion": "1e-5..1e-2"}.get(family, "1e-4..1e-1")
    decays = {"sgd": "1e-5..1e-2"}.get(family, "1e-3..0.5")
    return parse_space([f"lr={rates}", f"weight_decay={decays}"])


def put(recipe: Recipe, settings: dict[str, Any]) -> None:
    """Write values, by the names of their settings, into a recipe. What was chosen by other values is open again."""
    recipe.put({by_name()[name].key: value for name, value in settings.items()})


def _parse(text: str) -> Dimension:
    name, equals, values = text.partition("=")
    known = {f.name: f for f in by_name().values() if f.key in MAY_VARY}
    field = by_name().get(name.strip().lstrip("-").replace("-", "_"))
    if field is None or field.name not in known:
        hint = did_you_mean(name, known)
        raise ConfigError(f"--search {text}: {name!r} cannot be searched.{hint} It is one of {', '.join(known)}.")
    if not equals or not values.strip():
        raise ConfigError(f"--search {text}: give a range or choices: --search {field.name}={_example(field)}.")
    if ".." in values:
        return _range(text, field, values)
    choices = tuple(typed(field, word.strip(), f"--search {field.name}") for word in values.split(",") if word.strip())
    if len(set(choices)) < 2:
        raise ConfigError(f"--search {text}: one value leaves nothing to choose; set it with {field.flag}.")
    return Dimension(field, choices=choices)


def _range(text: str, field: Field, values: str) -> Dimension:
    ends, _, scale = values.partition(":")
    low, high = (typed(field, end.strip(), f"--search {field.name}") for end in ends.split("..", 1))
    if isinstance(low, bool) or not isinstance(low, int | float) or not isinstance(high, int | float):
        raise ConfigError(f"--search {text}: it is {field.expected}, so give choices with commas.")
    if scale not in ("", "log", "linear"):
        raise ConfigError(f"--search {text}: the scale is log or linear, not {scale!r}.")
    if not low < high:
        raise ConfigError(f"--search {text}: the range goes from {low:g} to {high:g}; the first must be the smaller.")
    is_log = scale == "log" or (scale == "" and field.key in LOGARITHMIC and low > 0)
    if is_log and low <= 0:
        raise ConfigError(f"--search {text}: a logarithmic scale begins above 0.")
    return Dimension(field, low, high, is_log)


def _example(field: Field) -> str:
    if field.choices:
        return ",".join(field.choices[:2])
    return {"lr": "1e-4..1e-1", "weight_decay": "1e-3..0.5"}.get(field.name, "0..1" if float in field.parts else "8,16")
