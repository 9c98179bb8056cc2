"""Commands that train one recipe many times: with other settings, or on other parts of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litscope.commands.line import answer, recipe_line, require_source, show, stdout_for_result
from litscope.errors import ConfigError

if TYPE_CHECKING:
    from litscope.config.flags import Line
    from litscope.config.options import Option


def tune(argv: list[str]) -> int:
    """Train SOURCE with many settings, eight at a time for an MLP, and say which are best."""
    line = recipe_line(tune, argv, tune_options())
    if line is None:
        return 0
    if line.options["workers"] != 1 and (line.options["join"] or line.options["launcher"] is not None):
        other = "--join" if line.options["join"] else "--launcher"
        raise ConfigError(f"--workers: with {other} each trial has a process of its own already; give one of the two.")
    if line.options["launcher"] is not None:
        if line.options["join"]:
            raise ConfigError("--launcher submits the tasks that --join; give one of the two.")
        from litscope.commands.launch import launch_search

        return launch_search(line.options["launcher"], argv)

    require_source(line)
    with stdout_for_result() as out:
        given = (line.recipe, line.options["search"], line.options["trials"], line.options["pruner"])
        if line.options["join"]:
            from litscope.experiments.shared_search import join

            found = join(*given)
        elif line.options["workers"] != 1:
            from litscope.experiments.shared_search import tune_in_workers

            found = tune_in_workers(*given, line.options["workers"])
        else:
            from litscope.experiments.tune import tune as search

            found = search(*given)
    show(found, line.options["json"], out)
    return 0


def tune_options() -> tuple[Option, ...]:
    """The flags that `tune` has beside those of the recipe."""
    from litscope.config.options import Option

    return (
        Option(
            ("--search",),
            "A range or choices of a setting: lr=1e-4..1e-1, batch_size=32,64,128. May be given several times. "
            "Default: lr and weight_decay.",
            repeats=True,
        ),
        Option(("--trials",), "Number of trials in all.", int, 16),
        Option(
            ("--pruner",),
            "median: stop a trial that does worse than half of the earlier ones did by that epoch; halving, hyperband: "
            "let the best third go on, again and again; none: stop none.",
            default="median",
        ),
        Option(
            ("--workers",),
            "Trials that train at the same time, each in a process of its own with a share of the cores.",
            int,
            1,
        ),
        Option(
            ("--launcher",),
            "slurm: submit a job array that trains each trial in a task of its own; with options of `litscope launch "
            'slurm` as one word: "slurm --time 1:00:00 --at-once 4".',
        ),
        Option(("--join",), "Train the next trial of the search in --run-dir, beside other processes.", bool, False),
    )


def cv(argv: list[str]) -> int:
    """Cross-validate: predict every sample of SOURCE with a network that was not trained on it."""
    from litscope.config.options import Option

    more = (
        Option(("--folds",), "Number of parts of the data; a network is trained for each.", int, 5),
        Option(
            ("--nested",),
            "Each network validates on --val-split of its folds, and predicts with the weights of its best epoch.",
            bool,
            False,
        ),
    )

    def find(line: Line) -> Any:
        from litscope.experiments.cv import cross_validate

        return cross_validate(line.recipe, line.options["folds"], line.options["nested"])

    return answer(cv, argv, find, more)
