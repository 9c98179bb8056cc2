"""Commands that train one recipe many times: with other settings, or on other parts of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litscope.commands.line import answer

if TYPE_CHECKING:
    from litscope.config.flags import Line


def tune(argv: list[str]) -> int:
    """Train SOURCE with many settings, eight at a time for an MLP, and say which are best."""
    from litscope.config.options import Option

    more = (
        Option(
            ("--search",),
            "A range or choices of a setting: lr=1e-4..1e-1, batch_size=32,64,128. May be given several times. "
            "Default: lr and weight_decay.",
            repeats=True,
        ),
        Option(("--trials",), "Number of trials in all.", int, 16),
        Option(
            ("--pruner",),
            "median: stop a trial that does worse than half of the earlier ones did by that epoch; none: stop none.",
            default="median",
        ),
    )

    def find(line: Line) -> Any:
        from litscope.experiments.tune import tune as search

        return search(line.recipe, line.options["search"], line.options["trials"], line.options["pruner"])

    return answer(tune, argv, find, more)


def cv(argv: list[str]) -> int:
    """Cross-validate: predict every sample of SOURCE with a network that was not trained on it."""
    from litscope.config.options import Option

    more = (Option(("--folds",), "Number of parts of the data; a network is trained for each.", int, 5),)

    def find(line: Line) -> Any:
        from litscope.experiments.cv import cross_validate

        return cross_validate(line.recipe, line.options["folds"])

    return answer(cv, argv, find, more)
