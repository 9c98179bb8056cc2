"""`launch`: a training as a job of a Slurm cluster, or by torch's own launcher. No torch is imported here."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litscope.commands.line import (
    Command,
    Parser,
    is_shell_asking,
    make_parser,
    parse,
    require_source,
    show,
    show_json,
    write,
)
from litscope.console import say, shell_word
from litscope.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from litscope.config.flags import Line
    from litscope.config.section import Field


def launch(argv: list[str]) -> int:
    """Run `fit`, `tune` or a script of your own, as a job of a Slurm cluster or by torchrun."""
    how = argv[0] if argv else ""
    if how in LAUNCHERS:
        return LAUNCHERS[how](argv[1:])
    parser = make_parser(launch)
    parser.add_argument("launcher", choices=list(LAUNCHERS))
    if is_shell_asking():
        parse(parser, argv)
    if how in ("-h", "--help", "help"):
        write("\n\n".join(make().format_help().rstrip() for make in (_slurm_parser, _torchrun_parser)))
        return 0
    what = f"{how!r} is no launcher.{did_you_mean(how, LAUNCHERS)}" if how else "say how."
    raise ConfigError(f"launch: {what} Launchers: {', '.join(LAUNCHERS)}. As in: litscope launch slurm -- fit SOURCE")


def slurm(argv: list[str]) -> int:
    """Submit `fit`, `tune`, or a command of your own, as a job of a Slurm cluster."""
    asked = _asked(_slurm_parser(), "slurm", argv)
    from litscope.cluster.program import fit_program, fit_shape, own_program, own_shape, tune_program
    from litscope.cluster.script import Array
    from litscope.cluster.site import Site, find_site
    from litscope.cluster.submission import Submission

    given, nodes, devices = asked.given, asked.given["nodes"], asked.given["devices_per_node"]
    habits, file = find_site(given["site"])
    site = habits.over(_habits(given, Site.fields()))
    is_search = asked.line is not None and asked.words[0] == "tune"
    if given["at_once"] is not None and (not is_search or given["at_once"] < 1):
        raise ConfigError(
            f"--at-once {given['at_once']}: so many trials of `tune` may run at the same time, 1 or more."
        )
    folder = {"has_gpus": site.gpu_request != "none", "is_dry": given["dry_run"]}
    if asked.line is not None:
        recipe, words = asked.line.recipe, asked.words[1:]
        if given["run_dir"] is not None:
            raise ConfigError(f"--run-dir: of a training it goes after `{asked.words[0]}`.")
        shape = fit_shape(recipe, nodes, devices)
        if asked.words[0] == "fit":
            program = fit_program(recipe, words, shape, **folder)
        else:
            program = tune_program(recipe, words, asked.line.options["trials"], shape, **folder)
    else:
        shape = own_shape(nodes, devices)
        program = own_program(asked.words, given["run_dir"], **folder)
    launcher = ("litscope", "launch", "slurm", *(word for word in asked.options if word not in ("--dry-run", "--json")))
    array = None if program.count is None else Array(program.count, given["at_once"])
    job = Submission(program, shape, site, (*launcher, "--", *asked.words), launcher, Path.cwd(), array)
    if file is not None:
        say(f"site: {file}")
    if given["dry_run"]:
        if asked.as_json:
            show_json({"folder": str(program.run.path), "script": job.script}, sys.stdout)
        else:
            write(job.script)
            say(f"to submit it by hand: mkdir -p {shell_word(program.run.job_logs)}, save it as FILE, sbatch FILE")
        return 0
    show(job.submit(), asked.as_json, sys.stdout, program.run.path)
    return 0


def torchrun(argv: list[str]) -> int:
    """Start `fit`, or a Python script of your own, by torch's launcher: the same command on each machine."""
    asked = _asked(_torchrun_parser(), "torchrun", argv)
    from litscope.cluster.program import fit_shape, of_shape, own_shape
    from litscope.cluster.torchrun import Rendezvous, passes_on, replace_process, torchrun_words

    given, words = asked.given, asked.words
    if asked.line is not None:
        if asked.words[0] != "fit":
            raise ConfigError("launch torchrun -- tune: a search is launched by slurm; here it trains one by one.")
        recipe = asked.line.recipe
        shape = fit_shape(recipe, given["nnodes"], given["nproc_per_node"], ("--nnodes", "--nproc-per-node"))
        if shape.nodes > 1 and not (recipe.logging.run_dir or recipe.logging.name or recipe.training.resume):
            raise ConfigError(f"--nnodes {shape.nodes}: give `fit` a --run-dir on a disk that all machines share.")
        words = ("fit", *of_shape(recipe, shape), *words[1:])
    else:
        shape = own_shape(given["nnodes"], given["nproc_per_node"], ("--nnodes", "--nproc-per-node"))
    meeting = Rendezvous(given["rdzv_endpoint"], given["rdzv_id"], given["max_restarts"])
    command = torchrun_words(words, asked.line is not None, shape, meeting)
    if not given["dry_run"]:
        replace_process(command, passes_on(asked.line.recipe.hardware.signal) if asked.line is not None else {})
    if asked.as_json:
        show_json({"command": command}, sys.stdout)
    else:
        write(shlex.join(command))
    return 0


LAUNCHERS: Mapping[str, Command] = {"slurm": slurm, "torchrun": torchrun}


@dataclass(frozen=True)
class _Asked:
    """A line of `launch`.

    Attributes:
        options: its words before the `--`.
        words: those after it.
        given: the options by name.
        as_json: whether --json is among them.
        line: the line after `fit` or `tune`, if a training of ours is launched.
    """

    options: tuple[str, ...]
    words: tuple[str, ...]
    given: dict[str, Any]
    as_json: bool
    line: Line | None


def _asked(parser: Parser, how: str, argv: list[str]) -> _Asked:
    """The line of a launcher, and of the training that it launches, checked as far as that goes without its machine.

    Raises:
        ConfigError, DataError, RunError: whatever `fit` would refuse.
    """
    place = argv.index("--") if "--" in argv else len(argv)
    options, words = argv[:place], argv[place + 1 :]
    if is_shell_asking() and place < len(argv):
        _offer_program(words)
    first = next((place for place, word in enumerate(options) if word in ("fit", "tune")), None)
    if first is not None and not words and not is_shell_asking() and not {"-h", "--help"} & set(options):
        right = shlex.join(["litscope", "launch", how, *options[:first], "--", *options[first:]])
        raise ConfigError(f"launch {how}: -- stands before what each process runs: {right}")
    given, as_json = parse(parser, options)
    if not words:
        raise ConfigError(
            f"launch {how}: say after -- what each process runs: litscope launch {how} -- fit SOURCE, or "
            f"litscope launch {how} -- python train.py"
        )
    if words[0] == "litscope":
        words = words[1:]
    line = _checked(words[0], words[1:], given["unchecked_data"]) if words[:1] in (["fit"], ["tune"]) else None
    if line is None:
        from litscope.cli import COMMANDS

        if words[:1] and words[0] in COMMANDS:
            raise ConfigError(f"launch {how} -- {words[0]}: of litscope's commands only fit and tune are launched.")
        if not given["unchecked_data"]:
            _require_script(words)
    return _Asked(tuple(options), tuple(words), given, as_json, line)


def _require_script(words: Sequence[str]) -> None:
    """Refuse a script that is not there: `python train.py`, where Python has no option of its own before it.

    Raises:
        ConfigError: naming it.
    """
    is_script = len(words) > 1 and Path(words[0]).name.startswith("python") and words[1].endswith(".py")
    if is_script and not Path(words[1]).exists():
        raise ConfigError(f"{words[1]} is not here. Where it is on the machines of the job only: --unchecked-data.")


def launch_search(launcher: str, argv: list[str]) -> int:
    """`tune --launcher`: submit a search as a job array.

    Args:
        launcher: the flag's value: `slurm`, with options of `launch slurm`.
        argv: the words after `tune`.

    Raises:
        ConfigError: for another launcher; whatever `launch slurm` would refuse.
    """
    name, *options = shlex.split(launcher) or [""]
    if name != "slurm":
        raise ConfigError(f"--launcher {launcher}: it is slurm, or slurm with options: 'slurm --time 1:00:00'.")
    words = list(argv)
    for place, word in enumerate(argv):
        if word == "--launcher":
            words[place : place + 2] = []
            break
        if word.startswith("--launcher="):
            words[place : place + 1] = []
            break
    as_json = [word for word in words if word == "--json"][:1]
    return slurm([*options, *as_json, "--", "tune", *(word for word in words if word != "--json")])


def _checked(command: str, words: Sequence[str], is_data_elsewhere: bool) -> Line:
    """The line after `fit` or `tune`."""
    from litscope.commands.search import tune_options
    from litscope.config.flags import parse_line

    line = parse_line(words, tune_options() if command == "tune" else ())
    for option, usual in (("join", False), ("launcher", None), ("workers", 1)):
        if line.options.get(option, usual) != usual:
            raise ConfigError(f"--{option}: `launch` sees to that; leave it out.")
    if command == "tune":
        from litscope.experiments.fresh import check_fresh
        from litscope.experiments.search_space import check_search

        check_fresh(line.recipe, "tune")
        check_search(line.options["search"], line.options["trials"], line.options["pruner"])
    for option in ("help", "print_config"):
        if line.options[option]:
            raise ConfigError(f"--{option.replace('_', '-')} trains nothing; give it without `launch`.")
    if not is_data_elsewhere:
        require_source(line, or_resume=command == "fit")
    return line


def _offer_program(words: list[str]) -> None:
    """Answer the shell with what can come after the `--`."""
    if words[:1] == ["fit"]:
        from litscope.commands.train import fit

        fit(words[1:])
    if words[:1] == ["tune"]:
        from litscope.commands.search import tune

        tune(words[1:])
    from litscope.commands.completion import offer

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("program", choices=["fit", "tune"] if not words else None, nargs="?")
    offer(parser, words)


def _parser(how: str, command: Command) -> Parser:
    parser = Parser(prog=f"litscope launch {how}", description=command.__doc__, allow_abbrev=False)
    parser.usage = f"litscope launch {how} [options] -- fit SOURCE [flags]"
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument(
        "--unchecked-data", action="store_true", help="SOURCE is on other machines only; do not look for it here"
    )
    return parser


def _slurm_parser() -> Parser:
    from litscope.cluster.site import VARIABLE, Site

    parser = _parser("slurm", slurm)
    parser.add_argument("--dry-run", action="store_true", help="show job.sbatch; make and submit nothing")
    parser.add_argument("--nodes", type=int, metavar="N", help="machines (default: as --num-nodes after `fit`, else 1)")
    parser.add_argument(
        "--devices-per-node",
        type=int,
        metavar="N",
        help="devices of each, with a process for each (default: as --devices after `fit`, else 1)",
    )
    parser.add_argument("--at-once", type=int, metavar="N", help="of `tune`: trials that may run at the same time")
    parser.add_argument(
        "--run-dir", metavar="DIR", help="of a command of your own: the folder for the job's files (runs/SCRIPT-N)"
    )
    parser.add_argument(
        "--site",
        metavar="FILE",
        help=f"the cluster's habits, YAML; none for no file (default: ${VARIABLE}, ~/.config/litscope/site.yaml)",
    )
    for field in Site.fields():
        _add(parser, field)
    return parser


def _torchrun_parser() -> Parser:
    parser = _parser("torchrun", torchrun)
    parser.add_argument("--dry-run", action="store_true", help="show torchrun's command; start nothing")
    parser.add_argument(
        "--nnodes", type=int, metavar="N", help="machines (default: as --num-nodes after `fit`, else 1)"
    )
    parser.add_argument(
        "--nproc-per-node", type=int, metavar="N", help="processes of each (default: as --devices after `fit`, else 1)"
    )
    parser.add_argument(
        "--rdzv-endpoint", metavar="HOST:PORT", help="where several machines meet: one of them, the same on each"
    )
    parser.add_argument(
        "--rdzv-id", metavar="NAME", default="litscope", help="of this training, the same on each (default: litscope)"
    )
    parser.add_argument(
        "--max-restarts", type=int, metavar="N", default=0, help="restarts after a process has failed (default: 0)"
    )
    return parser


def _add(parser: Parser, field: Field) -> None:
    """Add the flag of a site's key."""
    from litscope.cluster.site import is_mapping

    if field.is_bool:
        parser.add_argument(field.flag, action=argparse.BooleanOptionalAction, help=_help(field), default=None)
    elif field.is_list or is_mapping(field):
        metavar = "NAME=VALUE" if is_mapping(field) else "TEXT"
        parser.add_argument(*field.flags[::-1], dest=field.name, action="append", metavar=metavar, help=_help(field))
    elif field.choices:
        parser.add_argument(*field.flags, dest=field.name, choices=field.choices, help=_help(field))
    else:
        is_int = int in field.parts
        metavar = "N" if is_int else "TEXT"
        kind = int if is_int else str
        parser.add_argument(*field.flags, dest=field.name, type=kind, metavar=metavar, help=_help(field))


def _help(field: Field) -> str:
    """A field's docstring in the manner of the other flags: from a small letter, without a full stop."""
    text = field.doc[0].lower() + field.doc[1:] if not field.doc[1:2].isupper() else field.doc
    return text.rstrip(".").replace("%", "%%")


def _habits(given: Mapping[str, Any], known: Sequence[Field]) -> dict[str, Any]:
    """What flags say of a site's keys, in their types."""
    from litscope.cluster.site import is_mapping

    habits = {field.name: given[field.name] for field in known if given[field.name] is not None}
    for field in known:
        if not is_mapping(field) or field.name not in habits:
            continue
        pairs = [text.partition("=") for text in habits[field.name]]
        for name, equals, _ in pairs:
            if not equals and field.name == "env":
                raise ConfigError(f"{field.flag} {name}: give it as NAME=VALUE.")
        habits[field.name] = {name: value if equals else None for name, equals, value in pairs}
    return habits
