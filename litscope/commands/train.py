"""Commands that train, or use what was trained. They import inside functions, so that --help is fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litscope.commands.line import (
    Parser,
    add_raw,
    add_trained_run,
    answer,
    make_parser,
    parse,
    recipe_line,
    require_source,
    show,
    show_json,
    stdout_for_result,
    takes,
    write,
    write_lines,
)
from litscope.commands.places import trained_run
from litscope.commands.steer import add_now, evaluate_now, take_now
from litscope.console import say, table_lines
from litscope.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from litscope.config.flags import Line


def fit(argv: list[str]) -> int:
    """Train a classifier on SOURCE, with every sample on record."""
    from litscope.batch_job import is_first_task
    from litscope.config.options import Option
    from litscope.live.stop_requests import hear_early
    from litscope.training.preemption import Preemption, counted_in

    more = (
        Option(("--studio",), "Open a page over the runs beside the training, as a process of its own.", bool, False),
    )
    preemption = Preemption(requeues=is_first_task() and "--no-requeue" not in argv)
    with hear_early() as early:  # before all that takes time
        with preemption.before_training():
            line = recipe_line(fit, argv, more)
            if line is None:
                return 0
            preemption.run = counted_in(line.recipe)
            early.hear(line.recipe.hardware.signal)
            require_source(line, or_resume=True)
            if line.options["studio"]:
                _open_studio(line)
            from litscope.training.fit import run_recipe
        with stdout_for_result() as out:
            result = run_recipe(line.recipe, requeues=True)
        early.is_over = True
        if line.options["json"]:
            show_json(result.summary, out, result.run.path)
    return 0


def _open_studio(line: Line) -> None:
    """Start a studio over the folder in which the run will lie; of several processes the first one does.

    Raises:
        ConfigError: in a batch job, saying how to look from elsewhere.
    """
    from pathlib import Path

    from litscope.live.beside import start_studio
    from litscope.runs import RUNS
    from litscope.starter import is_first

    logging = line.recipe.logging
    if is_first():
        start_studio(Path(logging.run_dir).absolute().parent if logging.run_dir else RUNS)


def check(argv: list[str]) -> int:
    """Look at SOURCE, its labels and files, and at this machine, without training."""
    from litscope.config.options import Option

    more = (
        Option(("--features",), "Also look for near-duplicates, by the features of a pretrained network.", bool, False),
        Option(
            ("--fetch-weights",),
            "Download the pretrained weights too, into the cache in which a job without internet finds them.",
            bool,
            False,
        ),
    )

    def find(line: Line) -> Any:
        from litscope.training.checkup import check_up

        found = check_up(line.recipe, fetch_weights=line.options["fetch_weights"])
        if not line.options["features"]:
            return found
        from litscope.evaluation.featured import near_duplicates_of

        return found.with_near_duplicates(near_duplicates_of(line.recipe))

    return answer(check, argv, find, more)


def lr_find(argv: list[str]) -> int:
    """Sweep the learning rate on SOURCE and suggest one."""
    from litscope.config.options import Option

    more = (
        Option(("--num-sweeps",), "Number of sweeps, each with another order of the samples.", int, 3),
        Option(("--num-steps",), "Steps of each sweep.", int, 100),
        Option(("--lr-min",), "Where a sweep begins. Default: 1e-6, for sgd 1e-5.", float),
        Option(("--lr-max",), "Where it ends. Default: 1, for sgd 10.", float),
        Option(("--figure",), "The plot, a PNG file.", str, "lr-find.png"),
    )

    def find(line: Line) -> Any:
        from litscope.training.probes.lr_find import lr_find as sweep

        return sweep(line.recipe, **{option.name: line.options[option.name] for option in more})

    return answer(lr_find, argv, find, more)


def batch_size_find(argv: list[str]) -> int:
    """Find the batch size that trains fastest on SOURCE and fits in memory."""
    from litscope.config.options import Option

    more = (
        Option(("--start",), "The first size tried.", int, 8),
        Option(("--most",), "The largest size tried. Default: an eighth of the training samples.", int),
    )

    def find(line: Line) -> Any:
        from litscope.training.probes.batch_find import batch_size_find as try_sizes

        return try_sizes(line.recipe, **{option.name: line.options[option.name] for option in more})

    return answer(batch_size_find, argv, find, more)


def evaluate(argv: list[str]) -> int:
    """Measure a run on one split; with --now, in the process that trains it."""
    parser = make_parser(evaluate)
    add_trained_run(parser)
    split = parser.add_argument(
        "--split", help="train, val, test or all (default: test, or val where there is none; with --now: val)"
    )
    takes(split, "train", "val", "test", "all")
    parser.add_argument(
        "--source-labels",
        action="store_true",
        help="as the source has them, without the decisions of the run's journal",
    )
    parser.add_argument(
        "--calibrate", metavar="HOW", help="scale the logits first, by the validation split: temperature or vector"
    )
    _add_learned(parser)
    add_raw(parser)
    parser.add_argument(
        "--ood", nargs="+", default=[], metavar="PATH", help="data of no class of the run's, beside these"
    )
    parser.add_argument("--output", "-o", metavar="FILE", help="CSV or Parquet: what is said of each sample")
    parser.add_argument("--record", action="store_true", help="keep how sure it is of each sample, for worst and sql")
    parser.add_argument("--figures", metavar="DIR", help="a reliability diagram and a risk-coverage curve, as PNG")
    add_now(parser)
    given, as_json = parse(parser, argv)
    if (now := take_now(parser, given)) is not None:
        return evaluate_now(now, as_json)
    trained_run(given)
    _check_sets(given)
    with stdout_for_result() as out:
        from litscope.evaluation.evaluate import evaluate as run_evaluate
        from litscope.evaluation.quality_lines import ood_lines, quality_lines

        found = run_evaluate(given.pop("run"), **given)
    if as_json:
        show_json(found, out, found["run"])
        return 0
    say(f"{found['run']}: {found['num_samples']} samples of {found['split']}, {found['checkpoint']}")
    rows = [(name, f"{value:.4f}") for name, value in found["metrics"].items()]
    write_lines(table_lines(["metric", "value"], rows, right=["value"]), out)
    if "quality" in found:
        write_lines(["", *quality_lines(found["quality"])], out)
    if "ood" in found:
        write_lines(["", *ood_lines(found["ood"])], out)
    if "recorded" in found:
        say(f"recorded: {found['recorded']:,} samples (litscope worst {found['run']} --by predictive_entropy)")
    if "output" in found:
        say(f"written: {found['output']}")
    if "figures" in found:
        say(f"drawn: {', '.join(found['figures'])}")
    return 0


def calibrate(argv: list[str]) -> int:
    """Learn on a run's validation split what its probabilities mean, and keep it with its weights."""
    parser = make_parser(calibrate)
    add_trained_run(parser)
    method = parser.add_argument("--method", default="temperature", help="temperature (default), vector or none")
    takes(method, "temperature", "vector", "none")
    _add_learned(parser)
    parser.add_argument(
        "--source-labels",
        action="store_true",
        help="as the source has them, without the decisions of the run's journal",
    )
    parser.add_argument(
        "--folds",
        metavar="CV",
        help="learn from the out-of-fold predictions of this `litscope cv` instead",
    )
    parser.add_argument("--remove", action="store_true", help="take out what is kept, and learn nothing")
    given, as_json = parse(parser, argv)
    run = trained_run(given)
    _check_sets(given)
    asked = [name for name in ("threshold", "coverage", "folds") if given[name] is not None]
    if given["remove"] and asked:
        raise ConfigError(f"--remove takes out what is kept, and --{asked[0]} learns it anew. Give one of the two.")
    with stdout_for_result() as out:
        from litscope.evaluation.calibrate import calibrate as run_calibrate

        found = run_calibrate(given.pop("run"), **given)
    show(found, as_json, out, run)
    return 0


def _add_learned(parser: Parser) -> None:
    """What `evaluate` and `calibrate` may learn besides a scaling."""
    parser.add_argument(
        "--coverage", type=float, metavar="P", help="sets of classes that hold the true one so often, such as 0.9"
    )
    parser.add_argument("--conformal", metavar="HOW", help="how these sets are made: lac (default), aps or raps")
    parser.add_argument("--by-class", action="store_true", help="hold the promise of these sets in every class")
    parser.add_argument(
        "--threshold", metavar="AIM", help="of two classes: f1, youden, precision:0.9, recall:0.95 or fpr:0.001"
    )


def _check_sets(given: dict[str, Any]) -> None:
    """Refuse words about sets that nobody asked for, and say how they are made by default."""
    if given["coverage"] is None and (given["conformal"] is not None or given["by_class"]):
        flag = "--by-class" if given["by_class"] else f"--conformal {given['conformal']}"
        raise ConfigError(f"{flag} tells how conformal sets are made; --coverage 0.9 asks for them.")
    given["conformal"] = given["conformal"] or "lac"


def predict(argv: list[str]) -> int:
    """Predict images or tables that the run has never seen."""
    parser = make_parser(predict)
    add_trained_run(parser, or_checkpoint=True)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="images, folders or lists of images, or a table")
    split = parser.add_argument(
        "--split", help="instead of PATH, the run's own data: unlabelled, train, val, test or all"
    )
    takes(split, "unlabelled", "train", "val", "test", "all")
    parser.add_argument("--image-column", metavar="NAME", help="the column of image paths, in a list of images")
    parser.add_argument("--output", "-o", metavar="FILE", help="CSV or Parquet: key, prediction, probabilities")
    add_raw(parser)
    parser.add_argument("--top-k", type=int, metavar="K", help="the K most probable classes, instead of all")
    given, as_json = parse(parser, argv)
    run = trained_run(given)
    with stdout_for_result() as out:
        from litscope.evaluation.predict import predict as run_predict
        from litscope.ledger.encode import json_rows

        found = run_predict(given.pop("run"), given.pop("paths"), **given)
    if as_json:
        rows = {} if found.output is not None else {"predictions": json_rows(found.table)}
        show_json({**found.facts(), **rows}, out, run)
    else:
        show(found, as_json, out)
    return 0


def models(argv: list[str]) -> int:
    """List the architectures that --arch may name."""
    parser = make_parser(models)
    parser.add_argument("pattern", nargs="?", default="*", help="part of a name, or a pattern (resnet*)")
    given, as_json = parse(parser, argv)
    with stdout_for_result() as out:
        from litscope.models.networks.architectures import list_models

        names = list_models(given["pattern"])
        if not names:
            hint = did_you_mean(given["pattern"], list_models())
            raise ConfigError(f"No architecture matches {given['pattern']!r}.{hint} `litscope models` lists all.")
    if as_json:
        show_json(names, out)
    else:
        for name in names:
            write(name, out)
    return 0


def doctor(argv: list[str]) -> int:
    """Print versions and devices, and what is missing, with the command that installs it."""
    parser = make_parser(doctor)
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="list a bucket or folder instead: s3://bucket, gs://bucket/x"
    )
    parser.add_argument("--endpoint-url", metavar="URL", help="of another S3 server than Amazon's")
    given, as_json = parse(parser, argv)
    if given["url"] is not None:
        return _list_storage(given["url"], given["endpoint_url"], as_json)
    with stdout_for_result() as out:
        from litscope.doctor import examine, lines

        facts = examine()
    if as_json:
        show_json(facts, out)
    else:
        write_lines(lines(facts), out)
    return 0


def _list_storage(url: str, endpoint_url: str | None, as_json: bool) -> int:
    with stdout_for_result() as out:
        from litscope.data.storage.listed import list_place
        from litscope.data.storage.store import use_endpoint

        use_endpoint(endpoint_url)
        found = list_place(url)
    show(found, as_json, out)
    return 0


def demo(argv: list[str]) -> int:
    """Train on 1,797 real images of digits, offline, or on a folder of photographs, and show what to do next."""
    parser = make_parser(demo)
    parser.add_argument("--run-dir", metavar="DIR", help="the run's folder (default: runs/demo, runs/demo-2, ...)")
    parser.add_argument("--photographs", metavar="FOLDER", help="photographs of yours: a folder for each class")
    given, as_json = parse(parser, argv)
    with stdout_for_result() as out:
        from litscope.demo import Demo, PhotographsDemo, run_demo, run_photographs_demo

        found: Demo | PhotographsDemo
        if given["photographs"] is not None:
            found = run_photographs_demo(given["photographs"], given["run_dir"])
        else:
            found = run_demo(given["run_dir"])
    show(found, as_json, out, found.summary["run_dir"])
    return 0
