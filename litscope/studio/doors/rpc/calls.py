"""Each call of studio.proto: a message in, the service's answer as a message. No logic: limits, errors, the stream."""

from __future__ import annotations

import inspect
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, get_args, get_type_hints

import grpc
from google.protobuf.message import Message

import litscope
from litscope.console import say
from litscope.errors import ConfigError, LedgerError, LitscopeError, RunError
from litscope.studio.acting import What
from litscope.studio.doors import limits
from litscope.studio.doors.news import News
from litscope.studio.doors.rpc.messages import arguments, filled, load, message_class
from litscope.studio.doors.rpc.methods import METHODS
from litscope.studio.doors.stream import LOOK_S
from litscope.studio.refusals import AskedWrong, NotThere, ReadOnly, ViewExpired
from litscope.studio.samples.pictures import as_side
from litscope.studio.service import Studio

MOST_STREAMS = 16
"""Event streams at a time: each holds a thread."""

LONGEST_SENTENCE = 2000
"""Characters of a status' sentence: HTTP/2 has little room for it."""

Context = Any
"""`grpc.ServicerContext`, which has no types."""


class Calls:
    """The handlers of all calls.

    Args:
        studio: the service.

    Attributes:
        closing: set when the server ends: streams say bye.
        last_asked: when the last call ended, `time.monotonic`.
        num_open: calls under way.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio, self.closing = studio, threading.Event()
        self._streams = threading.BoundedSemaphore(MOST_STREAMS)
        self._lock = threading.Lock()
        self.last_asked, self.num_open = time.monotonic(), 0

    def handlers(self) -> dict[str, Any]:
        """Name of a call -> its handler."""
        found = {}
        for call in load().methods:
            read = message_class(call.input_type.name).FromString
            options = {"request_deserializer": read, "response_serializer": lambda message: message.SerializeToString()}
            if call.name == "Events":
                found[call.name] = grpc.unary_stream_rpc_method_handler(self._events, **options)
                continue
            answer = self._answering(METHODS[call.name], message_class(call.output_type.name))
            found[call.name] = grpc.unary_unary_rpc_method_handler(answer, **options)
        return found

    def _answering(self, method: str, kind: type[Message]) -> Callable[[Message, Context], Message]:
        ask = getattr(self._studio, method)
        hints = get_type_hints(inspect.unwrap(ask))

        def answer(request: Message, context: Context) -> Message:
            with self._counted():
                try:
                    given = arguments(request, hints)
                    _check(method, given)
                    return filled(kind(), ask(*_first(given), **given))
                except LitscopeError as error:
                    _refuse(context, error)
                except OSError as error:
                    _refuse(context, LedgerError(f"A file of the run cannot be read at the moment: {error}."))
                except Exception as error:
                    say(*"".join(traceback.format_exception(error)).splitlines())
                    sentence = f"Something went wrong that should not: {type(error).__name__}."
                    context.abort(grpc.StatusCode.INTERNAL, f"{sentence} The terminal of the studio says more.")
                    raise AssertionError("abort raises") from error

        return answer

    def _events(self, request: Any, context: Context) -> Iterator[Message]:
        if not self._streams.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"There are {MOST_STREAMS} event streams already.")
        try:
            with self._counted():
                yield from self._told(request.run if request.HasField("run") else None, context)
        except LitscopeError as error:
            _refuse(context, error)
        finally:
            self._streams.release()

    def _told(self, run: str | None, context: Context) -> Iterator[Message]:
        kind = message_class("Event")
        if run is not None:
            self._studio.places.run(run)
        news = News(self._studio, run)
        yield filled(kind(), {"name": "hello", "data": {"version": litscope.__version__}})
        while not self.closing.wait(LOOK_S) and context.is_active():
            for event in news.look():
                yield filled(kind(), {"name": event.name, "data": event.data})
        yield filled(kind(), {"name": "bye", "data": {}})

    def _counted(self) -> _Counted:
        return _Counted(self)


class _Counted:
    """A call that is under way."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __enter__(self) -> None:
        with self._calls._lock:
            self._calls.num_open += 1

    def __exit__(self, *_: object) -> None:
        with self._calls._lock:
            self._calls.num_open -= 1
            self._calls.last_asked = time.monotonic()


def _first(given: dict[str, Any]) -> list[Any]:
    """The run, which methods take by position."""
    return [given.pop("run")] if "run" in given else []


def _check(method: str, given: dict[str, Any]) -> None:
    """The limits of every door."""
    if method == "act":
        asked = given.get("asked")
        if asked is None or asked.what not in get_args(What):
            what = None if asked is None else asked.what
            raise AskedWrong(f"what {what!r}: it is one of {', '.join(get_args(What))}.", "what")
        limits.check(method, {name: getattr(asked, name) for name in ("label", "weight", "tag", "split", "action")})
        return
    if "look" in given:
        limits.check(method, vars(given["look"]))
    elif method in ("map", "near"):
        raise AskedWrong("look: say what the map shows.", "look")
    limits.check(method, {name: value for name, value in given.items() if name != "look"})
    if "side" in given:
        given["side"] = as_side(given["side"])


def _refuse(context: Context, error: LitscopeError) -> NoReturn:
    """End a call with the status of an error of ours, and with what a program may want to know of it."""
    facts = [("litscope-error", type(error).__name__)]
    if isinstance(error, AskedWrong):
        facts.append(("litscope-field", error.field))
        facts += [] if error.position is None else [("litscope-position", str(error.position))]
    context.set_trailing_metadata(tuple(facts))
    sentence = str(error).encode("utf-8", "replace").decode()
    context.abort(code_of(error), sentence[:LONGEST_SENTENCE])
    raise AssertionError("abort raises")


def code_of(error: LitscopeError) -> grpc.StatusCode:
    """The status of an error of ours."""
    match error:
        case NotThere():
            return grpc.StatusCode.NOT_FOUND
        case ViewExpired():
            return grpc.StatusCode.ABORTED
        case ReadOnly():
            return grpc.StatusCode.PERMISSION_DENIED
        case ConfigError():
            return grpc.StatusCode.INVALID_ARGUMENT
        case RunError():
            return grpc.StatusCode.FAILED_PRECONDITION
        case LedgerError():
            return grpc.StatusCode.UNAVAILABLE
    return grpc.StatusCode.INVALID_ARGUMENT
