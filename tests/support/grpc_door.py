"""gRPC as a door of the studio, asked over a socket by a channel that knows the described messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from doors import TOKEN, Refused, served
from google.protobuf import json_format
from google.protobuf.message import Message

from litscope.studio.doors.rpc.messages import PACKAGE, SERVICE, filled, load, message_class
from litscope.studio.doors.rpc.methods import METHODS
from litscope.studio.doors.serving import Server
from litscope.studio.service import Studio

CALLS = {method: call for call, method in METHODS.items()}


class OfGrpc:
    """A channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def call(self, name: str, request: Message | bytes, token: str | None = TOKEN, **how: Any) -> Any:
        """The message that a call answers."""
        described = load().methods_by_name[name]
        kind = self.channel.unary_stream if name == "Events" else self.channel.unary_unary
        ask = kind(f"/{SERVICE}/{name}", _sent, message_class(described.output_type.name).FromString)
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        return ask(request, metadata=metadata, timeout=60, **how)

    def ask(self, what: str, run: str | None = None, **arguments: Any) -> Any:
        if what == "map":
            arguments = {"look": arguments}
        if run is not None:
            arguments["run"] = run
        found = values(self._answered(what, arguments))
        return found["facts"] if what == "map" else found["value"] if set(found) == {"value"} else found

    def act(self, run: str, **asked: Any) -> Any:
        return values(self._answered("act", {"run": run, "asked": asked}))

    def _answered(self, what: str, arguments: dict[str, Any]) -> Message:
        request = message_class(f"{CALLS[what]}Request")()
        try:
            return self.call(CALLS[what], filled(request, arguments))
        except grpc.RpcError as error:
            facts = dict(error.trailing_metadata())
            raise Refused(facts.get("litscope-error", error.code().name), error.details()) from error


def _sent(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


def values(message: Message) -> Any:
    """A message as the plain values that the other doors answer."""
    name = message.DESCRIPTOR.full_name
    if name.startswith("google.protobuf."):
        return json_format.MessageToDict(message)
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inside = field.message_type.fields_by_name["value"].message_type
            found[field.name] = {key: one if inside is None else values(one) for key, one in value.items()}
        elif field.is_repeated:
            found[field.name] = [values(one) if isinstance(one, Message) else one for one in value]
        elif field.has_presence and not message.HasField(field.name):
            found[field.name] = None
        else:
            found[field.name] = values(value) if isinstance(value, Message) else value
    if name == f"{PACKAGE}.Block":
        found.pop("arrow")
    return found


@contextmanager
def served_by_grpc(studio: Studio, **how: Any) -> Iterator[tuple[OfGrpc, Server]]:
    """A server of both, and a channel to it."""
    with served(studio, grpc_port=0, **how) as (_, server):
        with grpc.insecure_channel(str(server.rpc_address)) as channel:
            yield OfGrpc(channel), server
