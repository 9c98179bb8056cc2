"""Commands about shards: images in tar files of many, for storage that serves large pieces well. They need no torch."""

from __future__ import annotations

from pathlib import Path

from litscope.commands.line import make_parser, parse, show_json, stdout_for_result, write_lines
from litscope.commands.sources import add_source_flags, refuse, refuse_given, run_or_source, source_recipe
from litscope.console import say, shell_word
from litscope.errors import ConfigError
from litscope.rundir import RunDir
from litscope.sizes import is_size, num_bytes

_ABOUT_SOURCE = (
    *("data_dir", "download", "target", "group_column", "image_column", "image_root", "channels"),
    *("val_split", "test_split", "split_seed"),
)


def prepare(argv: list[str]) -> int:
    """Write a data set, or the curated data of a run, as shards that `litscope fit` and webdataset read."""
    parser = make_parser(prepare)
    parser.add_argument("what", metavar="SOURCE|RUN", help="data as for `litscope fit`, or a run's folder")
    parser.add_argument("--output-dir", "-o", metavar="DIR", required=True, help="folder of the shards and their index")
    parser.add_argument("--shard-size", type=int, default=1000, metavar="N", help="most samples of a shard (1000)")
    parser.add_argument("--shard-bytes", metavar="256M", help="most bytes of a shard (K, M, G: thousands)")
    parser.add_argument(
        "--image-size", type=int, metavar="S", help="store JPEG for a network that sees S pixels, with room for crops"
    )
    parser.add_argument("--quality", type=int, metavar="Q", help="of that JPEG, 1 to 100 (95)")
    parser.add_argument("--keep-bytes", action="store_true", help="store files as they are (the default)")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that encode (one for each core)")
    parser.add_argument("--overwrite", action="store_true", help="replace shards of something else")
    parser.add_argument("--dataset", help="of RUN: where its data are now (default: where they were)")
    add_source_flags(parser, _ABOUT_SOURCE, and_run=("data_dir",))
    given, as_json = parse(parser, argv)
    if given["keep_bytes"] and given["image_size"] is not None:
        raise ConfigError("--keep-bytes and --image-size: give one of them.")
    what = run_or_source(given["what"])
    with stdout_for_result() as out:
        from litscope.curation.sharding import How, shard_run, shard_source

        folder = Path(given["output_dir"])
        size = given["shard_bytes"]
        if size is not None and (allowed := is_size(size)):
            raise ConfigError(f"--shard-bytes {size}: {allowed}")
        how = How(
            given["shard_size"],
            None if size is None else num_bytes(size),
            given["image_size"],
            given["quality"],
            given["workers"],
            given["overwrite"],
        )
        if isinstance(what, RunDir):
            refuse_given(given, tuple(name for name in _ABOUT_SOURCE if name != "data_dir"), "is for a data set")
            found = shard_run(what, folder, how, given["dataset"], given.get("data_dir"))
        else:
            refuse(given, ("dataset",), f"is for a run, and {what} is a data set")
            found = shard_source(source_recipe(what, given), folder, how)
    if as_json:
        show_json(found.to_dict(), out, what.path if isinstance(what, RunDir) else None)
    else:
        say(*found.lines(), f"next: litscope fit {shell_word(folder)}")
    return 0


def verify(argv: list[str]) -> int:
    """Read all bytes of shards again, and say which are not what was written."""
    parser = make_parser(verify)
    parser.add_argument("shards", metavar="DIR", help="folder of shards and their index")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read (one for each core)")
    given, as_json = parse(parser, argv)
    with stdout_for_result() as out:
        from litscope.data.shards.index import Index, index_of
        from litscope.data.shards.verify import verify as look
        from litscope.limits import num_cores

        if given["workers"] is not None and given["workers"] < 1:
            raise ConfigError(f"--workers {given['workers']}: it is 1 or more.")
        place = Path(given["shards"]).expanduser()
        if not place.exists():
            raise ConfigError(f"{given['shards']} does not exist. Give the folder that `litscope prepare` wrote.")
        file = index_of(place)
        if file is None:
            what = f"{given['shards']} holds no index of shards (index.parquet)"
            raise ConfigError(f"{what}; `litscope prepare` writes it.")
        found = look(file.parent, Index.read(file), num_threads=given["workers"] or num_cores())
    if as_json:
        show_json(found.to_dict(), out)
    else:
        write_lines(found.lines(), out)
    return 0 if found.is_whole else 1
