"""Plain values and dataclasses <-> the messages of studio.proto.

The messages are made from the compiled description, so there is no generated code that would ask for one version of
protobuf.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from litscope.studio.samples.blocks import Block

PACKAGE = "litscope.studio.v1"
SERVICE = f"{PACKAGE}.Studio"
_COMPILED = Path(__file__).with_name("studio.binpb")
_FREE = {f"google.protobuf.{name}" for name in ("Struct", "ListValue", "Value")}


def load() -> ServiceDescriptor:
    """The service as it is described; its messages are known to protobuf from then on."""
    pool = descriptor_pool.Default()
    try:
        return pool.FindServiceByName(SERVICE)
    except KeyError:
        from google.protobuf import struct_pb2  # noqa: F401 - what the description imports

        for file in descriptor_pb2.FileDescriptorSet.FromString(_COMPILED.read_bytes()).file:
            pool.AddSerializedFile(file.SerializeToString())
        return pool.FindServiceByName(SERVICE)


def message_class(name: str) -> type[Message]:
    """The class of a message by its name in the file."""
    load()
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(f"{PACKAGE}.{name}"))


def filled(message: Message, value: Any) -> Message:
    """A message with the values of a dataclass, a mapping, or, as its field `value`, of anything else.

    Args:
        message: empty.
        value: plain values; None is left out.
    """
    if isinstance(value, Block):
        value = {"arrow": value.to_arrow(), "facts": value.facts}
    elif not is_dataclass(value) and not _is_named(message, value):
        value = {"value": value}
    for field in message.DESCRIPTOR.fields:
        found = value.get(field.name) if isinstance(value, Mapping) else getattr(value, field.name)
        if found is not None:
            _fill(message, field, found)
    return message


def _is_named(message: Message, value: Any) -> bool:
    """Whether a mapping holds a message's fields, and is not the only value of one."""
    names = {field.name for field in message.DESCRIPTOR.fields}
    return isinstance(value, Mapping) and (names != {"value"} or set(value) == names)


def _fill(message: Message, field: Any, value: Any) -> None:
    kind = field.message_type
    place = getattr(message, field.name)
    if kind is None:
        if field.is_repeated:
            place.extend(value)
        else:
            setattr(message, field.name, value)
    elif kind.GetOptions().map_entry:
        inside = kind.fields_by_name["value"].message_type
        for key, one in value.items():
            if inside is None:
                place[key] = one
            else:
                _fill_one(place[key], one)
    elif field.is_repeated:
        for one in value:
            _fill_one(place.add(), one)
    else:
        _fill_one(place, value)


def _fill_one(message: Message, value: Any) -> None:
    name = message.DESCRIPTOR.full_name
    if name in _FREE:
        json_format.ParseDict(_plain(value), message)
    elif name == f"{PACKAGE}.Range":
        filled(message, {"start": value[0], "end": value[1]})
    elif name == f"{PACKAGE}.Place":
        filled(message, {"x": value[0], "y": value[1]})
    else:
        filled(message, value)
        message.SetInParent()


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if not isinstance(value, float) or value - value == 0 else None


def arguments(message: Message, hints: Mapping[str, Any]) -> dict[str, Any]:
    """What was given in a message, as arguments of a method or of a dataclass; what was left out is missing.

    Args:
        message: of a request.
        hints: name -> type of each argument.
    """
    given: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            if value:
                given[field.name] = [_read(one, hints[field.name]) for one in value]
        elif not field.has_presence or message.HasField(field.name):
            given[field.name] = _read(value, hints[field.name])
    return given


def _read(value: Any, hint: Any) -> Any:
    if not isinstance(value, Message):
        return value
    name = value.DESCRIPTOR.full_name
    if name in _FREE:
        return _whole(json_format.MessageToDict(value))
    if name in (f"{PACKAGE}.Range", f"{PACKAGE}.Place"):
        return tuple(getattr(value, field.name) for field in value.DESCRIPTOR.fields)
    kind = next(one for one in _inside(hint) if is_dataclass(one))
    return kind(**arguments(value, get_type_hints(kind)))  # type: ignore[operator]


def _inside(hint: Any) -> Sequence[Any]:
    """A type, or those that it is made of."""
    return (hint, *get_args(hint)) if get_origin(hint) is not None or get_args(hint) else (hint,)


def _whole(value: Any) -> Any:
    """Numbers without a fraction as whole ones: a Struct knows no others than floats."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value
