"""gRPC: its description is that of the service, and what is not allowed is refused. What it answers: test_doors."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from acted_runs import DEAD, set_process
from asked_runs import act, asked_run
from doors import TOKEN, only_run, studio_over
from grpc_door import OfGrpc, served_by_grpc, values
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from litscope.errors import ConfigError, MissingExtra
from litscope.rundir import RunDir
from litscope.studio.doors.rpc import calls as rpc_calls
from litscope.studio.doors.rpc.messages import SERVICE, filled, message_class
from litscope.studio.doors.serving import Served, Server

ROOT = Path(__file__).resolve().parents[2]
CODE = grpc.StatusCode


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = asked_run(tmp_path / "runs" / "one")
    set_process(made, pid=DEAD)
    return made


@pytest.fixture
def door(run: RunDir, tmp_path: Path) -> Iterator[OfGrpc]:
    with served_by_grpc(studio_over(run.path.parent, cache=tmp_path / "cache")) as (found, _):
        yield found


@pytest.fixture
def name(run: RunDir, tmp_path: Path) -> str:
    return only_run(studio_over(run.path.parent, cache=tmp_path / "cache"))


def request(kind: str, **arguments: Any) -> Any:
    return filled(message_class(f"{kind}Request")(), arguments)


def refusal(door: OfGrpc, call: str, message: Any = b"", **how: Any) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    def ask() -> None:
        found = door.call(call, message, **how)
        list(found if call == "Events" else [found])

    with pytest.raises(grpc.RpcError) as refused:
        ask()
    error: Any = refused.value
    return error.code(), error.details(), dict(error.trailing_metadata())


def test_the_description_is_that_of_the_service(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("grpc_calls", ROOT / "scripts" / "grpc_calls.py")
    assert spec is not None
    assert spec.loader is not None
    proto = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(proto)
    assert proto.FILE.read_text() == proto.description(), "out of date; run: .venv/bin/python scripts/grpc_calls.py"
    proto.described(tmp_path / "compiled")
    assert proto.COMPILED.read_bytes() == (tmp_path / "compiled").read_bytes()
    grown = proto.FILE.read_text().replace("optional int64 epoch = 12;", "optional int64 epoch = 99;")
    assert "optional int64 epoch = 99;" in proto.Description(grown).text(), "numbers stay"


def test_nothing_is_answered_without_the_token(door: OfGrpc, name: str) -> None:
    for token in (None, "", "another token of the tests", TOKEN[:-1]):
        for call in ("ListRuns", "Events"):
            code, sentence, facts = refusal(door, call, token=token)
            assert (code, facts["litscope-error"]) == (CODE.UNAUTHENTICATED, "NoToken")
            assert "authorization: Bearer TOKEN" in sentence
            assert TOKEN not in sentence
    for metadata in ([("authorization", TOKEN)], [("authorization", f"Basic {TOKEN}")], [("token", TOKEN)]):
        for path in (f"/{SERVICE}/ListRuns", f"/{SERVICE}/Nothing", "/grpc.reflection.v1alpha.ServerReflection/X"):
            with pytest.raises(grpc.RpcError) as refused:
                door.channel.unary_unary(path)(b"", metadata=metadata, timeout=60)
            assert refused.value.code() == CODE.UNAUTHENTICATED, path  # type: ignore[attr-defined]
    twice = [("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer x")]
    with pytest.raises(grpc.RpcError):
        door.channel.unary_unary(f"/{SERVICE}/ListRuns")(b"", metadata=twice, timeout=60)


def test_reflection_needs_the_token_and_tells_the_calls_only(door: OfGrpc) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(door.channel)
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    asked.append(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
    with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
        list(stub.ServerReflectionInfo(iter(asked), timeout=60))
    metadata = [("authorization", f"Bearer {TOKEN}")]
    listed, file = stub.ServerReflectionInfo(iter(asked), metadata=metadata, timeout=60)
    assert SERVICE in [one.name for one in listed.list_services_response.service]
    assert b"ListSamples" in file.file_descriptor_response.file_descriptor_proto[0]
    assert TOKEN.encode() not in file.SerializeToString()


def test_what_is_none_is_refused_and_the_server_goes_on(door: OfGrpc, name: str) -> None:
    metadata = [("authorization", f"Bearer {TOKEN}")]
    for path in (f"/{SERVICE}/Nothing", "/other.Service/ListRuns"):
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            door.channel.unary_unary(path)(b"", metadata=metadata, timeout=60)
    assert refusal(door, "ListSamples", b"\xff" * 40)[0] == CODE.INTERNAL
    assert refusal(door, "ListSamples", bytes(40 * 2**20))[0] == CODE.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError):
        door.call("ListRuns", b"", token="x" * 60_000)
    code, sentence, facts = refusal(door, "ListSamples", request("ListSamples", run=name, count=1001))
    assert (code, facts["litscope-field"]) == (CODE.INVALID_ARGUMENT, "count")
    assert "it is 0 to 1,000" in sentence
    code, _, facts = refusal(door, "ListSamples", request("ListSamples", run=name, filter="mean_loss >"))
    assert (code, facts["litscope-position"]) == (CODE.INVALID_ARGUMENT, "11")
    assert (
        refusal(door, "ListSamples", request("ListSamples", run=name, filter="a" * 30_000))[0] == CODE.INVALID_ARGUMENT
    )
    assert refusal(door, "ListSamples", request("ListSamples", run="../../etc"))[0] == CODE.NOT_FOUND
    assert refusal(door, "GetRun")[0] == CODE.NOT_FOUND
    assert refusal(door, "GetMap", request("GetMap", run=name))[0] == CODE.INVALID_ARGUMENT
    assert refusal(door, "Events", request("GetRun", run="none"))[0] == CODE.NOT_FOUND
    assert [line.name for line in door.call("ListRuns", b"").runs] == ["one"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({}, CODE.INVALID_ARGUMENT),
        ({"what": "format"}, CODE.INVALID_ARGUMENT),
        ({"what": "reweight", "samples": {"ids": [1]}, "weight": float("nan")}, CODE.INVALID_ARGUMENT),
        ({"what": "tag", "samples": {"ids": [1]}, "tag": "a" * 1000}, CODE.INVALID_ARGUMENT),
        ({"what": "discard", "samples": {"ids": [-1]}}, CODE.NOT_FOUND),
        ({"what": "set", "settings": {"lr": {"a": [1]}}}, CODE.INVALID_ARGUMENT),
        ({"what": "set", "settings": {"epochs": 2.5}}, CODE.INVALID_ARGUMENT),
        ({"what": "stop"}, CODE.FAILED_PRECONDITION),
    ],
)
def test_actions_that_are_none(
    door: OfGrpc, run: RunDir, name: str, asked: dict[str, Any], code: grpc.StatusCode
) -> None:
    assert refusal(door, "Act", request("Act", run=name, asked=asked))[0] == code
    assert refusal(door, "Act", request("Act", run=name))[0] == CODE.INVALID_ARGUMENT
    assert not run.actions.exists()


def test_whole_numbers_arrive_as_such(door: OfGrpc, run: RunDir, name: str) -> None:
    from litscope.ledger.journal.actions import entries

    door.act(name, what="set", settings={"epochs": 30, "lr": 0.5, "early_stopping": True})
    assert entries(run)[0].action["settings"] == {"epochs": 30, "lr": 0.5, "early_stopping": True}
    assert type(entries(run)[0].action["settings"]["epochs"]) is int


def test_a_studio_that_only_looks(run: RunDir, name: str, tmp_path: Path) -> None:
    with served_by_grpc(studio_over(run.path.parent, cache=tmp_path / "c", is_read_only=True)) as (door, _):
        asked = request("Act", run=name, asked={"what": "tag", "tag": "odd", "samples": {"ids": [1]}})
        assert refusal(door, "Act", asked)[0] == CODE.PERMISSION_DENIED
    assert not run.actions.exists()


def test_what_changes_is_streamed(run: RunDir, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_calls, "LOOK_S", 0.1)
    told: list[Any] = []
    with served_by_grpc(studio_over(run.path.parent, cache=tmp_path / "c")) as (door, server):
        events = door.call("Events", request("GetRun", run=name))
        told.append(next(events))
        act(run, "tag", [3], tag="odd", is_applied=False)
        while told[-1].name != "journal":
            told.append(next(events))
        assert values(told[-1])["data"]["actions"][0]["what"] == "tag"
        open_streams = [door.call("Events", b"") for _ in range(rpc_calls.MOST_STREAMS - 1)]
        assert [next(one).name for one in open_streams] == ["hello"] * len(open_streams)
        assert refusal(door, "Events")[0] == CODE.RESOURCE_EXHAUSTED
        assert door.ask("count", name) == 15, "streams leave threads for calls"
        for one in open_streams:
            one.cancel()
        ending = threading.Thread(target=server.stop)
        ending.start()
        told += list(events)
        ending.join()
    assert (told[0].name, told[-1].name) == ("hello", "bye")


def test_it_listens_where_it_is_told_to(run: RunDir, tmp_path: Path) -> None:
    studio = studio_over(run.path.parent, cache=tmp_path / "c")
    with served_by_grpc(studio) as (_, server):
        assert server.rpc_address is not None
        port = int(server.rpc_address.rpartition(":")[2])
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port), timeout=10).close()
        with pytest.raises(ConfigError, match=r"--grpc-port: 127.0.0.1:\d+ cannot be had"):
            Server(studio, Served(port=0, token=TOKEN, grpc_port=port))
    with pytest.raises(ConfigError, match="choose a token"):
        Served(host="0.0.0.0", grpc_port=0).check()
    with pytest.raises(ConfigError, match="--grpc-port 70000"):
        Served(grpc_port=70_000).check()


def test_tls(run: RunDir, tmp_path: Path) -> None:
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(pem)]
    subprocess.run(made, check=True, capture_output=True)
    studio = studio_over(run.path.parent, cache=tmp_path / "c")
    with served_by_grpc(studio, certfile=pem, keyfile=key) as (clear, server):
        assert server.rpc is not None
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            clear.call("ListRuns", b"")
        trusted = grpc.ssl_channel_credentials(pem.read_bytes())
        with grpc.secure_channel(f"localhost:{server.rpc.port}", trusted) as channel:
            assert len(OfGrpc(channel).call("ListRuns", b"").runs) == 1
            assert refusal(OfGrpc(channel), "ListRuns", token=None)[0] == CODE.UNAUTHENTICATED


def test_without_grpcio_the_command_says_how_to_install_it(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in [one for one in sys.modules if one.startswith("litscope.studio.doors.rpc")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(MissingExtra, match=r"--grpc-port needs grpcio.*pip install 'litscope\[grpc\]'"):
        Server(studio_over(run.path.parent, cache=tmp_path / "c"), Served(port=0, grpc_port=0))
