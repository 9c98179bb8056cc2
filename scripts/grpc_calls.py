"""Write the gRPC description of the studio from its service: `studio.proto`, and `studio.binpb` by grpcio-tools.

    .venv/bin/python scripts/grpc_calls.py

Every method of `Studio` that `METHODS` names becomes a call, every dataclass a message. A field keeps the number that
it has in the file, and a new one gets the next: so clients that were made of an older file go on working.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from litscope.studio.acting import Asked  # noqa: E402
from litscope.studio.doors.rpc.methods import METHODS  # noqa: E402
from litscope.studio.samples.blocks import Block  # noqa: E402
from litscope.studio.samples.maps import Looked  # noqa: E402
from litscope.studio.samples.selection import Selection  # noqa: E402
from litscope.studio.service import Studio  # noqa: E402

FOLDER = ROOT / "litscope" / "studio" / "doors" / "rpc"
FILE, COMPILED = FOLDER / "studio.proto", FOLDER / "studio.binpb"

ASKED = (Asked, Selection, Looked)
"""What is asked with: what has a default may be left out."""

_SCALARS = {str: "string", int: "int64", float: "double", bool: "bool", bytes: "bytes"}
_PAIRS = {(int, int): "Range", (float, float): "Place"}
_HEAD = """// The studio of litscope over gRPC: the same questions and actions as under /api/, see docs/studio.md.
// Written by scripts/grpc_calls.py from litscope/studio/service.py.
//
// Every call carries the metadata `authorization: Bearer TOKEN`. A refusal has a status, a sentence, and in its
// trailing metadata litscope-error (its kind), litscope-field and litscope-position (what is wrong, and where).
// ListValue, Struct and Value stand where numbers may be missing, or keys and types are the data's own.

syntax = "proto3";

package litscope.studio.v1;

import "google/protobuf/struct.proto";
"""
_FIXED = """// Positions [start, end).
message Range {
  int64 start = 1;
  int64 end = 2;
}

// A place of a map.
message Place {
  double x = 1;
  double y = 2;
}

// Columns of numbers, as an Arrow IPC stream, and facts about them.
message Block {
  bytes arrow = 1;
  google.protobuf.Struct facts = 2;
}

message EventsRequest {
  optional string run = 1;
}

// What changed: runs, run, journal, metrics, samples; at first hello, and at the end bye.
message Event {
  string name = 1;
  google.protobuf.Struct data = 2;
}
"""


class Description:
    """The messages so far.

    Args:
        former: the text of the file as it is, whose numbers stay.
    """

    def __init__(self, former: str) -> None:
        self._numbers = dict(_numbers(former))
        self._messages: dict[str, str] = {}

    def text(self) -> str:
        """The whole file."""
        calls = []
        for name, method in METHODS.items():
            hints = get_type_hints(inspect.unwrap(getattr(Studio, method)))
            parameters = inspect.signature(inspect.unwrap(getattr(Studio, method))).parameters
            asked = {
                one.name: (hints[one.name], one.default is not inspect.Parameter.empty)
                for one in parameters.values()
                if one.name != "self"
            }
            self._add(f"{name}Request", asked, "")
            answer = hints["return"]
            if is_dataclass(answer):
                kind = self._message(answer)
            else:
                kind = f"{name}Answer"
                self._add(kind, {"value": (answer, False)}, "")
            doc = (inspect.getdoc(getattr(Studio, method)) or "").partition("\n")[0]
            calls.append(f"  // {doc}\n  rpc {name}({name}Request) returns ({kind});")
        calls.append("  // What changes, as it changes: of all runs, or of one closely.")
        calls.append("  rpc Events(EventsRequest) returns (stream Event);")
        service = "service Studio {\n" + "\n".join(calls) + "\n}\n"
        return "\n".join([_HEAD, service, _FIXED, *self._messages.values()])

    def _message(self, kind: type) -> str:
        if kind is Block:
            return "Block"
        name = kind.__name__
        if name not in self._messages:
            self._messages[name] = ""  # it may hold itself
            hints = get_type_hints(kind)
            has_default = {
                one.name: kind in ASKED and (one.default is not MISSING or one.default_factory is not MISSING)
                for one in fields(kind)
            }
            doc = (kind.__doc__ or "").partition("\n")[0]
            self._add(name, {one.name: (hints[one.name], has_default[one.name]) for one in fields(kind)}, doc)
        return name

    def _add(self, name: str, listed: Mapping[str, tuple[Any, bool]], doc: str) -> None:
        taken = {number for (message, _), number in self._numbers.items() if message == name}
        lines = []
        for field, (hint, is_optional) in listed.items():
            number = self._numbers.get((name, field)) or max(taken, default=0) + 1
            taken.add(number)
            lines.append(f"  {self._typed(hint, is_optional)} {field} = {number};")
        comment = f"// {doc}\n" if doc else ""
        self._messages[name] = f"{comment}message {name} {{\n" + "".join(f"{line}\n" for line in lines) + "}\n"

    def _typed(self, hint: Any, is_optional: bool) -> str:
        kind, is_missing = _bare(hint)
        if get_origin(kind) in (list, Sequence):
            inside, may_miss = _bare(get_args(kind)[0])
            word = None if may_miss else self._one(inside)
            if get_origin(inside) in (tuple, list) and get_args(inside) not in _PAIRS:
                return "repeated google.protobuf.ListValue"
            return f"repeated {word}" if word and not word.startswith("google") else "google.protobuf.ListValue"
        if get_origin(kind) in (dict, Mapping):
            key, value = get_args(kind)
            inside, may_miss = _bare(value)
            word = None if may_miss else self._one(inside)
            if word is None and get_origin(inside) is list and key is int:
                return "map<int64, google.protobuf.ListValue>"
            return (
                f"map<{_SCALARS[key]}, {word}>" if word and not word.startswith("google") else "google.protobuf.Struct"
            )
        word = self._one(kind) or "google.protobuf.Value"
        is_scalar = word in _SCALARS.values()
        return f"optional {word}" if is_scalar and (is_optional or is_missing) else word

    def _one(self, kind: Any) -> str | None:
        if get_origin(kind) is Literal:
            return "string"
        if get_origin(kind) is tuple:
            return _PAIRS.get(get_args(kind))  # type: ignore[arg-type]
        if kind in _SCALARS:
            return _SCALARS[kind]
        return self._message(kind) if isinstance(kind, type) and is_dataclass(kind) else None


def _bare(hint: Any) -> tuple[Any, bool]:
    """A type without None, and whether None was in it."""
    if get_origin(hint) in (Union, UnionType):
        rest = [one for one in get_args(hint) if one is not NoneType]
        return (rest[0], True) if len(rest) == 1 else (Any, True)
    return hint, False


def _numbers(text: str) -> list[tuple[tuple[str, str], int]]:
    found = []
    for message, body in re.findall(r"^message (\w+) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        found += [((message, name), int(number)) for name, number in re.findall(r"(\w+) = (\d+);", body)]
    return found


def description() -> str:
    """`studio.proto` as it should be."""
    return Description(FILE.read_text() if FILE.exists() else "").text()


def main() -> None:
    """Write both files."""
    FILE.write_text(description())
    described(COMPILED)


def described(target: Path) -> None:
    """Compile `studio.proto`: a FileDescriptorSet, of which any version of protobuf makes the messages."""
    line = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", f"--descriptor_set_out={target}", str(FILE)]
    subprocess.run(line, check=True)


if __name__ == "__main__":
    main()
