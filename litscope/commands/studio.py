"""`litscope studio`: the page over run folders, served here until somebody ends it. No torch."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litscope.commands.line import make_parser, parse, show_json, stdout_for_result, write
from litscope.console import say
from litscope.errors import ConfigError

if TYPE_CHECKING:
    from litscope.studio.doors.serving import Server


def studio(argv: list[str]) -> int:
    """Open a page over runs: look at curves and samples, and act, while they train and long after."""
    parser = make_parser(studio)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="runs, or folders that hold runs (default: runs/)")
    parser.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860 on; 0: any")
    parser.add_argument("--grpc-port", type=int, metavar="N", help="also answer gRPC there (default: not); 0: any")
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="print the address only")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--token", help="what opens it, 16 characters or more (default: a random one)")
    parser.add_argument("--read-only", action="store_true", help="look, and refuse all actions")
    parser.add_argument(
        "--allow-origin",
        nargs="+",
        action="extend",
        default=[],
        metavar="ORIGIN",
        help="of a proxy before it, such as https://hub.example",
    )
    parser.add_argument("--certfile", type=Path, metavar="PEM", help="certificate, for https")
    parser.add_argument("--keyfile", type=Path, metavar="PEM", help="its key")
    parser.add_argument(
        "--idle-timeout", type=float, metavar="S", help="end when nobody has asked for S seconds (default: never)"
    )
    parser.add_argument(
        "--beside", type=int, metavar="PID", help="with --idle-timeout: count only once that process has ended"
    )
    given, as_json = parse(parser, argv)
    with stdout_for_result() as out:
        from litscope.studio.doors.files import NOT_BUILT, is_built

        server = _server(given)
        facts = {
            "address": server.address,
            "port": server.bound.port,
            "grpc": server.rpc_address,
            "runs": given["runs"] or ["runs"],
        }
    if as_json:
        show_json(facts, out)
    else:
        write(f"litscope studio: {server.address}", out)
        if server.rpc_address is not None:
            write(f"litscope studio: gRPC at {server.rpc_address}, with that token", out)
        if not is_built():
            say(NOT_BUILT)
        if given["beside"] is None:
            say("Ctrl-C ends it; runs go on.")
    out.flush()
    if given["browser"] and not as_json and _has_screen():
        webbrowser.open(server.address)
    with suppress(KeyboardInterrupt):  # that is how it ends
        server.serve()
    return 0


def _server(given: dict[str, Any]) -> Server:
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # before Arrow is loaded: its own keeps what is freed
    with _without_pandas():
        import pyarrow.dataset  # noqa: F401

    from litscope.data.storage.retries import be_brief
    from litscope.limits import give_back_large_blocks
    from litscope.studio.doors.serving import Served, Server
    from litscope.studio.service import Studio

    if given["idle_timeout"] is not None and not given["idle_timeout"] > 0:
        raise ConfigError(f"--idle-timeout {given['idle_timeout']:g}: it is more than 0 seconds.")
    served = Served(
        given["host"],
        given["port"],
        given["token"],
        tuple(given["allow_origin"]),
        given["certfile"],
        given["keyfile"],
        given["idle_timeout"],
        given["beside"],
        given["grpc_port"],
    )
    served.check()
    be_brief()
    give_back_large_blocks()
    return Server(Studio(given["runs"], given["read_only"], reads_ahead=True), served)


class _NoPandas(MetaPathFinder):
    """Says that there is no pandas."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:  # noqa: ARG002 - as Python asks
        if name == "pandas":
            raise ModuleNotFoundError("pandas is hidden while Arrow is loaded", name=name)


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Inside, pandas is not found. Arrow imports it where it is installed, and nothing here uses it: 40 MB."""
    hides = _NoPandas()
    sys.meta_path.insert(0, hides)
    try:
        yield
    finally:
        sys.meta_path.remove(hides)


def _has_screen() -> bool:
    """Whether a browser can be opened for the person: at a terminal that is not on another machine."""
    if not sys.stdout.isatty() or "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
