"""Commands about shards: images in tar files of many, for storage that serves large pieces well. They need no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from litscope.addresses import is_url
from litscope.commands.line import make_parser, parse, show_json, stdout_for_result, write_lines
from litscope.commands.sources import add_source_flags, refuse, refuse_given, run_or_source, source_recipe
from litscope.console import say, shell_word
from litscope.errors import ConfigError
from litscope.rundir import RunDir
from litscope.sizes import is_size, num_bytes

if TYPE_CHECKING:
    from litscope.curation.sharding import Sharded
    from litscope.data.shards.verify import Verified

_BUCKETS = ("s3://", "gs://")

_ABOUT_SOURCE = (
    *("data_dir", "download", "target", "group_column", "image_column", "image_root", "channels"),
    *("val_split", "test_split", "split_seed"),
)


def prepare(argv: list[str]) -> int:
    """Write a data set, or the curated data of a run, as shards that `litscope fit` and webdataset read."""
    parser = make_parser(prepare)
    parser.add_argument(
        "what",
        nargs="?",
        metavar="SOURCE|RUN",
        help="data as for `litscope fit`, or a run's folder; or give --data-root",
    )
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
    parser.add_argument(
        "--cloud-url", metavar="URL", help="bring them to s3://bucket/prefix or gs://bucket/prefix, too"
    )
    parser.add_argument(
        "--upload-only", action="store_true", help="bring what lies in --output-dir there, write nothing"
    )
    parser.add_argument("--endpoint-url", metavar="URL", help="of another S3 server than Amazon's")
    parser.add_argument("--dataset", help="of RUN: where its data are now (default: where they were)")
    add_source_flags(parser, _ABOUT_SOURCE, and_run=("data_dir",))
    given, as_json = parse(parser, argv)
    if given["keep_bytes"] and given["image_size"] is not None:
        raise ConfigError("--keep-bytes and --image-size: give one of them.")
    url = given["cloud_url"]
    if url is not None:
        _require_bucket(url)
    if given["upload_only"]:
        return _upload_only(given, as_json)
    what = _what(given)
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
        if url is not None:
            found = _uploaded(found, given)
    if as_json:
        show_json(found.to_dict(), out, what.path if isinstance(what, RunDir) else None)
    else:
        say(*found.lines(), _next(given))
    return 0


def _require_bucket(url: str) -> None:
    from litscope.data.storage.urls import require_allowed

    require_allowed(url)
    if not url.startswith(_BUCKETS):
        raise ConfigError(f"--cloud-url {url}: it is s3://bucket/prefix or gs://bucket/prefix.")


def _what(given: dict[str, Any]) -> RunDir | str:
    if given["what"] is not None:
        return run_or_source(given["what"])
    folder = given.pop("data_dir", None)
    if folder is None:
        raise ConfigError("Say what is to be written: SOURCE, RUN or --data-root DIR.")
    return run_or_source(str(Path(folder).expanduser().absolute()))


def _upload_only(given: dict[str, Any], as_json: bool) -> int:
    if given["cloud_url"] is None:
        raise ConfigError("--upload-only: say where to, with --cloud-url s3://bucket/prefix.")
    if given["what"] is not None:
        raise ConfigError(f"--upload-only brings what lies in --output-dir; leave {given['what']} out.")
    with stdout_for_result() as out:
        from litscope.curation.sharding import shards_in

        found = _uploaded(shards_in(Path(given["output_dir"])), given)
    if as_json:
        show_json(found.to_dict(), out)
    else:
        say(*found.lines(), _next(given))
    return 0


def _uploaded(found: Sharded, given: dict[str, Any]) -> Sharded:
    from litscope.data.shards.upload import upload
    from litscope.data.storage.store import use_endpoint

    use_endpoint(given["endpoint_url"])
    return replace(found, uploaded=upload(found.folder, given["cloud_url"], overwrite=given["overwrite"]))


def _next(given: dict[str, Any]) -> str:
    endpoint = f" --endpoint-url {given['endpoint_url']}" if given["endpoint_url"] else ""
    where = given["cloud_url"]
    return f"next: litscope fit {shell_word(where.rstrip('/') + '/' if where else given['output_dir'])}{endpoint}"


def index(argv: list[str]) -> int:
    """Write the index of tar files that others wrote in the form of webdataset, from their headers."""
    parser = make_parser(index)
    parser.add_argument(
        "urls", nargs="+", metavar="URL", help="tar files or folders: paths, http, s3, gs, with braces; also train=URL"
    )
    parser.add_argument(
        "--output-dir", "-o", metavar="DIR", help="folder of the index (default: that of the tar files)"
    )
    parser.add_argument(
        "--label-field", metavar="NAME", help="field of the .json members that is the label (a.b: nested)"
    )
    parser.add_argument("--labels", metavar="FILE", help="CSV or Parquet file of keys and labels")
    parser.add_argument("--target", metavar="COLUMN", help="of --labels: the label column")
    parser.add_argument("--image-suffix", metavar="EXT", help="of the members that are the images, such as input.jpg")
    parser.add_argument("--checksums", action="store_true", help="read all bytes, and take a checksum of every image")
    parser.add_argument("--skip-bad", action="store_true", help="leave out what is cut or damaged, and say so")
    parser.add_argument("--workers", type=int, default=8, metavar="N", help="tar files that are read at once (8)")
    parser.add_argument("--overwrite", action="store_true", help="replace an index that is there")
    parser.add_argument("--endpoint-url", metavar="URL", help="of another S3 server than Amazon's")
    given, as_json = parse(parser, argv)
    with stdout_for_result() as out:
        from litscope.curation.indexing import How, make_index
        from litscope.data.shards.scan import Asked
        from litscope.data.storage.store import use_endpoint

        use_endpoint(given["endpoint_url"])
        how = How(
            output=given["output_dir"],
            asked=Asked(given["label_field"], given["image_suffix"], given["checksums"]),
            labels=given["labels"],
            target=given["target"],
            skip_bad=given["skip_bad"],
            overwrite=given["overwrite"],
            num_threads=given["workers"],
        )
        made = make_index(given["urls"], how)
    if as_json:
        show_json(made.to_dict(), out)
    else:
        place = shell_word(made.index.removesuffix("index.parquet") or ".")
        does = "fit" if len(made.classes) > 1 else "predict RUN"  # without labels nothing can be trained
        say(*made.lines(), f"next: litscope {does} {place}")
    return 0


def verify(argv: list[str]) -> int:
    """Read all bytes of shards again, and say which are not what was written."""
    parser = make_parser(verify)
    parser.add_argument("shards", metavar="DIR|URL", help="folder of shards and their index, also s3://bucket/prefix/")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read (one for each core)")
    parser.add_argument("--endpoint-url", metavar="URL", help="of another S3 server than Amazon's")
    given, as_json = parse(parser, argv)
    with stdout_for_result() as out:
        from litscope.data.shards.index import Index, index_of
        from litscope.data.shards.verify import verify as look
        from litscope.limits import num_cores

        if given["workers"] is not None and given["workers"] < 1:
            raise ConfigError(f"--workers {given['workers']}: it is 1 or more.")
        if is_url(given["shards"]):
            from litscope.data.sources.addressed import find_shards
            from litscope.data.storage.store import use_endpoint

            use_endpoint(given["endpoint_url"])
            there = find_shards(given["shards"])
            found = look(there.root, there.index, num_threads=given["workers"] or num_cores())
            return _tell(found, out, as_json)
        place = Path(given["shards"]).expanduser()
        if not place.exists():
            raise ConfigError(f"{given['shards']} does not exist. Give the folder that `litscope prepare` wrote.")
        file = index_of(place)
        if file is None:
            what = f"{given['shards']} holds no index of shards (index.parquet)"
            raise ConfigError(f"{what}; `litscope prepare` writes it.")
        found = look(file.parent, Index.read(file), num_threads=given["workers"] or num_cores())
    return _tell(found, out, as_json)


def _tell(found: Verified, out: TextIO, as_json: bool) -> int:
    if as_json:
        show_json(found.to_dict(), out)
    else:
        write_lines(found.lines(), out)
    return 0 if found.is_whole else 1
