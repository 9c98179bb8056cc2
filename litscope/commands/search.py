"""Commands that train one recipe many times: with other settings, or on other parts of the data."""

from __future__ import annotations

from litscope.commands.line import recipe_line, require_source, show, stdout_for_result


def tune(argv: list[str]) -> int:
    """Train SOURCE with many settings and say which are best; of an MLP, eight at a time."""
    from litscope.training.flags import Option

    more = (
        Option(
            ("--search",),
            "A range or choices of a setting: lr=1e-4..1e-1, batch_size=32,64,128. May be given several times. "
            "Default: lr and weight_decay.",
            repeats=True,
        ),
        Option(("--trials",), "Settings to try, in all.", int, 16),
    )
    line = recipe_line(tune, argv, more)
    if line is None:
        return 0
    require_source(line)
    with stdout_for_result() as out:
        from litscope.training.search import tune as search

        found = search(line.recipe, line.options["search"], line.options["trials"])
    show(found, line.options["json"], out)
    return 0


def cv(argv: list[str]) -> int:
    """Cross-validate: predict every sample of SOURCE with a network that was not trained on it."""
    from litscope.training.flags import Option

    more = (Option(("--folds",), "Parts of the data; a network is trained for each.", int, 5),)
    line = recipe_line(cv, argv, more)
    if line is None:
        return 0
    require_source(line)
    with stdout_for_result() as out:
        from litscope.training.cv import cross_validate

        found = cross_validate(line.recipe, line.options["folds"])
    show(found, line.options["json"], out)
    return 0
