"""Commands that compare ways to train: `litscope bench NAME`. They import inside functions, so that --help is fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litscope.commands.line import answer, is_shell_asking, make_parser, parse, write
from litscope.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from litscope.config.flags import Line

NAMES = ("prune",)


def bench(argv: list[str]) -> int:
    """Compare ways to train on SOURCE: `litscope bench prune`."""
    if not argv and is_shell_asking():
        parser = make_parser(bench)
        parser.add_argument("name", choices=NAMES)
        parse(parser, argv)
    if not argv or argv[0] in ("-h", "--help"):
        write(
            "usage: litscope bench prune [SOURCE] [flags] [--seeds N] [--json]\n\n"
            f"  prune  {bench_prune.__doc__}\n\n`litscope bench prune --help` describes the flags."
        )
        return 0
    if argv[0] not in NAMES:
        raise ConfigError(f"bench {argv[0]!r}: it is one of {', '.join(NAMES)}.{did_you_mean(argv[0], NAMES)}")
    return bench_prune(argv[1:])


def bench_prune(argv: list[str]) -> int:
    """Train on all samples, on pruned ones, on random ones and for less time, and say whether pruning is worth it."""
    from litscope.config.options import Option

    more = (Option(("--seeds",), "Number of seeds; each trains all four arms.", int, 3),)

    def find(line: Line) -> Any:
        from litscope.experiments.prune import bench_prune as compare

        return compare(line.recipe, line.options["seeds"])

    return answer(bench_prune, argv, find, more, name="bench prune")
