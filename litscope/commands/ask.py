"""Commands that ask a run what it knows of its samples. None needs torch."""

from __future__ import annotations

from litscope.commands.line import make_parser, parse, show, stdout_for_result
from litscope.console import say
from litscope.errors import ConfigError


def worst(argv: list[str]) -> int:
    """The samples of a run that the model finds hardest."""
    parser = make_parser(worst)
    parser.add_argument("run_dir", metavar="RUN", help="a run's folder")
    parser.add_argument("-n", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--split", choices=("train", "val", "test"), default="train", help="default: train")
    parser.add_argument("--by", choices=("loss", "margin", "p_label"), default="loss", help="default: loss")
    parser.add_argument("--last-epochs", type=int, default=5, metavar="N", help="epochs in the mean (default: 5)")
    parser.add_argument(
        "--sheet", metavar="PNG", default=True, help="the contact sheet (default: in the run's figures/)"
    )
    parser.add_argument("--no-sheet", dest="sheet", action="store_false", help="print the table only")
    given, as_json = parse(parser, argv)
    for name in ("n", "last_epochs"):
        if given[name] < 1:
            raise ConfigError(f"{'-n' if name == 'n' else '--last-epochs'} {given[name]}: it is 1 or more.")
    with stdout_for_result() as out:
        from litscope.training.worst import worst_samples

        found = worst_samples(**given)
    show(found, as_json, out)
    for note in found.notes:
        say(note)
    if found.sheet is not None:
        say(f"contact sheet: {found.sheet}")
    return 0
