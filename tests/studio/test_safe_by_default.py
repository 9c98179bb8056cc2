"""The attacks that the studio stands: each is tried, over a real socket, on a real run."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from asked_runs import asked_run, write_images
from doors import TOKEN, OfHttp, only_run, served, studio_over
from PIL import Image

from litscope.cli import main
from litscope.errors import ConfigError
from litscope.ledger.journal.actions import entries
from litscope.rundir import RunDir
from litscope.studio.doors import security
from litscope.studio.doors.security import Bound, is_loopback
from litscope.studio.doors.serving import Served

KNOWN = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}
NASTY = "<script>alert(1)</script>\n\x1b[31m\u202e.png"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("safe")
    return asked_run(folder / "runs" / "one", dataset=write_images(folder / "images"), note=[NASTY] * 15)


@pytest.fixture(scope="module")
def http_door(run: RunDir) -> Iterator[OfHttp]:
    with served(studio_over(run.path.parent, cache=run.path.parent.parent / "cache")) as (door, _):
        yield door


@pytest.fixture(scope="module")
def name(run: RunDir) -> str:
    return only_run(studio_over(run.path.parent, cache=run.path.parent.parent / "cache"))


def test_nothing_is_told_without_the_token(http_door: OfHttp, name: str) -> None:
    paths = ["/api/runs", f"/api/runs/{name}", f"/api/runs/{name}/samples/1/image", "/api/openapi.json", "/api/events"]
    for path in [*paths, "/api/nothing", "/api"]:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"litscope_{http_door.port}=wrong"}):
            status, _, body = http_door.raw(path, headers=headers)
            assert (status, json.loads(body)["error"]["type"]) == (401, "NoToken"), path
    status, _, body = http_door.raw("/", headers={})
    assert (status, name.encode() in body) == (401, False)
    status, headers, _ = http_door.raw(f"/api/runs/{name}/actions", "POST", {"what": "undo"}, JSON)
    assert status == 401
    assert http_door.raw("/?token=wrong", headers={})[0] == 401
    assert http_door.raw(f"/api/runs?token={quote(TOKEN)}", headers={})[0] == 401, "the API takes no token in addresses"


def test_the_token_goes_from_the_address_into_a_cookie_of_this_page_only(http_door: OfHttp) -> None:
    status, headers, _ = http_door.raw(f"/runs/x?token={quote(TOKEN)}&view=a%20b", headers={})
    assert (status, headers["location"]) == (303, "./x?view=a+b")
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"}
    assert cookie.startswith(f"litscope_{http_door.port}=")
    assert TOKEN not in headers["set-cookie"]
    assert http_door.raw("/api/runs", headers={"Cookie": cookie})[0] == 200
    assert http_door.raw("/", headers={"Cookie": cookie})[0] == 200
    location = http_door.raw(f"//evil.example/%2e%2e?token={quote(TOKEN)}", headers={})[1]["location"]
    assert location == "./..", "no way out to another site"


def test_two_servers_do_not_know_each_others_cookies(run: RunDir, http_door: OfHttp, tmp_path: Path) -> None:
    with served(studio_over(run.path.parent, cache=tmp_path)) as (other, _):
        _, headers, _ = other.raw(f"/?token={quote(TOKEN)}", headers={})
        cookie = headers["set-cookie"].partition(";")[0]
        assert other.raw("/api/runs", headers={"Cookie": cookie})[0] == 200
        assert http_door.raw("/api/runs", headers={"Cookie": cookie})[0] == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "localhost@evil.example"]
)
def test_a_name_that_somebody_points_here_is_refused(http_door: OfHttp, host: str) -> None:
    """DNS rebinding: the browser sends the attacker's own name."""
    headers = {**KNOWN, "Host": host.format(port=http_door.port)}
    status, _, body = http_door.raw("/api/runs", headers=headers)
    assert (status, json.loads(body)["error"]["type"]) == (403, "WrongHost")


def test_a_forwarded_port_and_every_loopback_name_are_taken(http_door: OfHttp) -> None:
    for host in (
        f"localhost:{http_door.port}",
        "localhost:9999",
        f"127.0.0.1:{http_door.port}",
        f"[::1]:{http_door.port}",
    ):
        assert http_door.raw("/api/runs", headers={**KNOWN, "Host": host})[0] == 200
        own = {**KNOWN, "Host": host, "Origin": f"http://{host}"}
        assert http_door.raw("/api/runs", headers=own)[0] == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost:1", "null", "http://127.0.0.1:{port}.evil.example"]
)
def test_a_page_of_another_origin_cannot_act(run: RunDir, http_door: OfHttp, name: str, origin: str) -> None:
    """Cross-site request forgery, also from another server on this machine, whose requests carry the cookie."""
    headers = {**KNOWN, **JSON, "Origin": origin.format(port=http_door.port)}
    status, _, body = http_door.raw(
        f"/api/runs/{name}/actions", "POST", {"what": "discard", "samples": {"ids": [1]}}, headers
    )
    assert (status, json.loads(body)["error"]["type"]) == (403, "WrongOrigin")
    assert not entries(run)


def test_a_form_of_another_site_cannot_act(run: RunDir, http_door: OfHttp, name: str) -> None:
    text = json.dumps({"what": "discard", "samples": {"ids": [1]}})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        headers = KNOWN | ({"Content-Type": kind} if kind else {})
        assert http_door.raw(f"/api/runs/{name}/actions", "POST", text, headers)[0] == 415
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert http_door.raw("/api/runs", method, "{}", {**KNOWN, **JSON})[0] == 405
    assert not entries(run)


def test_another_site_cannot_read_by_a_request_of_the_browser(http_door: OfHttp) -> None:
    assert http_door.raw("/api/runs", headers={**KNOWN, "Sec-Fetch-Site": "cross-site"})[0] == 403
    _, headers, _ = http_door.raw("/api/runs")
    assert not [header for header in headers if header.startswith("access-control-")]


def test_a_proxy_of_ones_own_is_let_in_by_name(run: RunDir, tmp_path: Path) -> None:
    with served(studio_over(run.path.parent, cache=tmp_path), origins=("https://hub.example",)) as (door, _):
        hub = {**KNOWN, "Host": "hub.example", "Origin": "https://hub.example"}
        assert door.raw("/api/runs", headers=hub)[0] == 200
        assert door.raw("/api/runs", headers={**hub, "Origin": "http://hub.example"})[0] == 403
        assert door.raw("/api/runs", headers={**hub, "Host": "hub.example.evil"})[0] == 403


def test_a_proxy_that_puts_our_name_in_place_of_its_own_is_let_in(run: RunDir, tmp_path: Path) -> None:
    """nginx's proxy_pass, and editors that forward ports: the Host is ours, the Origin theirs."""
    with served(studio_over(run.path.parent, cache=tmp_path), origins=("https://hub.example",)) as (door, _):
        rewritten = {**KNOWN, "Host": f"127.0.0.1:{door.port}", "Origin": "https://hub.example"}
        assert door.raw("/api/runs", headers=rewritten)[0] == 200
        for other in ("https://hub.example.evil", "http://hub.example", "null", "https://hub.example:444"):
            assert door.raw("/api/runs", headers={**rewritten, "Origin": other})[0] == 403, other
        assert door.raw("/api/runs", headers={**rewritten, "Host": "evil.example"})[0] == 403


def test_below_a_path_of_a_proxy_all_addresses_are_relative(
    tmp_path: Path, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JupyterHub: https://hub.example/user/ann/proxy/7860/; the cookie is for nobody else's path there."""
    from litscope.studio.doors import http as over_http

    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "index.html").write_text('<base href="/">')
    assert '<base href="/">' in (Path(over_http.__file__).parents[1] / "page" / "src" / "index.html").read_text()
    monkeypatch.setattr(over_http.make_app, "__defaults__", (dist,))
    with served(studio_over(run.path.parent, cache=tmp_path / "cache"), origins=("https://hub.example",)) as (door, _):
        host = {"Host": "hub.example"}
        status, headers, _ = door.raw(f"/?token={quote(TOKEN)}&run=a", headers=host)
        assert (status, headers["location"]) == (303, "./?run=a")
        assert "path" not in headers["set-cookie"].lower()
        for path, base in (("/", "./"), ("/x", "./"), ("/runs/x", "../"), ("/a/b/c", "../../")):
            assert door.raw(path, headers={**KNOWN, **host})[2] == f'<base href="{base}">'.encode()


def test_every_answer_carries_the_policy(http_door: OfHttp, name: str) -> None:
    for path in ("/", "/api/runs", "/api/nothing", f"/api/runs/{name}/samples/1/image?size=96", "/nothing.js"):
        _, headers, _ = http_door.raw(path)
        policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert "server" not in headers
    assert "unsafe-eval" not in security.POLICY
    assert "http" not in security.POLICY


def test_no_file_is_reached_by_a_path(http_door: OfHttp, run: RunDir, name: str, tmp_path: Path) -> None:
    secret = run.path / "recipe.yaml"
    for path in (
        f"/..%2f..%2f..%2f{quote(str(secret), safe='')}",
        f"/{'../' * 12}etc/passwd",
        f"/%2e%2e/%2e%2e{secret}",
        "/..\\..\\http.py",
        "/%00",
        "/../http.py",
        "/" + "a" * 5000,
        f"/api/runs/..%2f{name}",
        f"/api/runs/{quote(str(run.path), safe='')}",
        f"/api/runs/{name}/samples/..%2f..%2frecipe.yaml/image",
    ):
        status, _, body = http_door.raw(path)
        assert status in (400, 404) or b"The page" in body or b"<!doctype html" in body.lower(), path
        assert b"root:" not in body
        assert b"lr: 0.1" not in body


def test_a_link_out_of_the_built_page_leads_nowhere(
    tmp_path: Path, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "index.html").write_text("<p>index")
    (dist / "app-1.js").write_text("1")
    (tmp_path / "secret.js").write_text("secret")
    (dist / "out.js").symlink_to(tmp_path / "secret.js")
    from litscope.studio.doors import http as over_http

    monkeypatch.setattr(over_http.make_app, "__defaults__", (dist,))
    with served(studio_over(run.path.parent, cache=tmp_path / "cache")) as (door, _):
        assert door.raw("/out.js")[0] == 404
        status, headers, body = door.raw("/app-1.js")
        assert (status, headers["content-type"], body) == (200, "text/javascript; charset=utf-8", b"1")
        assert "immutable" in headers["cache-control"]
        assert door.raw("/runs/one?tab=map")[2] == b"<p>index"
        assert door.raw("/index.html")[1]["cache-control"] == "no-cache"
        assert door.raw("/no.js")[0] == 404


def test_images_are_found_by_the_manifest_alone(http_door: OfHttp, name: str) -> None:
    for number in ("-1", "15", "1e9", "99999999999999999999", "1/../../x", "%2fetc%2fpasswd"):
        status, headers, _ = http_door.raw(f"/api/runs/{name}/samples/{number}/image")
        assert status in (400, 404), number
        assert headers["content-type"].startswith("application/json")
    assert http_door.raw(f"/api/runs/{name}/samples/1/image?size=99999999")[0] == 400


def test_an_image_that_would_take_all_memory_is_not_decoded(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    run = asked_run(tmp_path / "runs" / "one", dataset=images)
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(images / "train" / "ant" / "00.png")
    small = (images / "train" / "ant" / "00.png").read_bytes()
    head = b"IHDR" + struct.pack(">II", 20_000, 20_000) + small[24:29]  # it says so; what follows is never looked at
    bomb = small[:12] + head + struct.pack(">I", zlib.crc32(head)) + small[33:]
    (images / "train" / "ant" / "00.png").write_bytes(bomb)
    (images / "train" / "bee" / "01.png").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(2000))
    with served(studio_over(run.path.parent, cache=tmp_path / "cache")) as (door, _):
        only = json.loads(door.raw("/api/runs")[2])["runs"][0]["id"]
        began = time.monotonic()
        for number in (0, 1):
            status, _, body = door.raw(f"/api/runs/{only}/samples/{number}/image?size=96")
            error = json.loads(body)["error"]
            assert (status, error["type"]) == (404, "NoImage")
            assert ("pixels are decoded" in error["message"]) == (number == 0)
        assert time.monotonic() - began < 20
        assert door.raw(f"/api/runs/{only}/samples/4/image?size=96")[0] == 200


@pytest.mark.parametrize(
    "condition",
    [
        "1=1) or (1=1",
        "split = train'; DROP TABLE samples; --",
        "key = (select 1)",
        "read_csv('/etc/passwd') = 1",
        "split = train union select 1",
        "\ud800",
        "key ~ '\0'",
    ],
)
def test_a_filter_is_never_sql(http_door: OfHttp, name: str, condition: str) -> None:
    text = quote(condition, errors="surrogatepass")
    status, _, body = http_door.raw(f"/api/runs/{name}/samples?filter={text}")
    found = json.loads(body)
    assert status == 400 or found["total"] == 0
    body_of_act = json.dumps({"what": "discard", "samples": {"filter": condition}, "dry_run": True})
    assert http_door.raw(f"/api/runs/{name}/actions", "POST", body_of_act, {**KNOWN, **JSON})[0] == 400


@pytest.mark.slow
def test_sql_ends_at_its_limits(http_door: OfHttp, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from litscope.ledger.query import Limits
    from litscope.studio.samples import sql_answers

    monkeypatch.setattr(sql_answers, "SQL_LIMITS", Limits(seconds=1.0, memory_bytes=60_000_000))
    for query in (
        "select count(*) from range(1000000000000) a",
        "select list(i) from range(100000000) t(i)",
        "select repeat('x', 100000000) from range(100)",
    ):
        began = time.monotonic()
        status, _, body = http_door.raw(f"/api/runs/{name}/sql", "POST", {"query": query})
        assert (status, json.loads(body)["error"]["type"]) == (400, "ConfigError")
        assert time.monotonic() - began < 15
    body_of = json.dumps({"query": "select '\ud800'"})
    assert http_door.raw(f"/api/runs/{name}/sql", "POST", body_of, {**KNOWN, **JSON})[0] == 400


def test_names_come_as_data(http_door: OfHttp, name: str) -> None:
    status, headers, body = http_door.raw(f"/api/runs/{name}/samples?columns=note&count=1")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["rows"][0]["values"]["note"] == NASTY


def test_a_request_that_is_too_large_is_not_read(http_door: OfHttp, name: str) -> None:
    headers = {**KNOWN, **JSON, "Content-Length": str(security.MOST_BODY_BYTES + 1)}
    with socket.create_connection((http_door.host, http_door.port), timeout=20) as sent:
        lines = [f"POST /api/runs/{name}/actions HTTP/1.1", f"Host: localhost:{http_door.port}"]
        sent.sendall("\r\n".join([*lines, *(f"{k}: {v}" for k, v in headers.items()), "", ""]).encode())
        assert sent.recv(100).startswith(b"HTTP/1.1 413")
    for body in ("[" * 100_000, '{"what": "discard", "samples": {"ids": [' + "9" * 5000 + "]}}", "{", "null", '"x"'):
        assert http_door.raw(f"/api/runs/{name}/actions", "POST", body, {**KNOWN, **JSON})[0] == 400


def test_a_websocket_is_closed(http_door: OfHttp) -> None:
    headers = {**KNOWN, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    assert http_door.raw("/api/runs", headers=headers | {"Sec-WebSocket-Key": "x"}, method="GET")[0] != 101


def test_read_only_refuses_every_action(run: RunDir, tmp_path: Path) -> None:
    with served(studio_over(run.path.parent, cache=tmp_path, is_read_only=True)) as (door, _):
        only = json.loads(door.raw("/api/runs")[2])["runs"][0]["id"]
        for asked in ({"what": "discard", "samples": {"ids": [1]}}, {"what": "stop"}, {"what": "undo"}):
            status, _, body = door.raw(f"/api/runs/{only}/actions", "POST", asked)
            assert (status, json.loads(body)["error"]["type"]) == (403, "ReadOnly")
        controls = json.loads(door.raw(f"/api/runs/{only}")[2])["controls"]
        assert set(controls.values()) == {"The studio was started with --read-only."}
    assert not run.actions.exists()


def test_other_machines_get_in_only_by_a_token_that_was_chosen() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.8.9.1")] == [True] * 4
    for host in ("0.0.0.0", "::", "192.168.1.5", "node7", ""):
        with pytest.raises(ConfigError, match=r"whoever reaches this machine.*--token.*ssh -L"):
            Served(host=host).check()
    for token in ("short", "ü" * 20):
        with pytest.raises(ConfigError, match="16 characters or more"):
            Served(host="0.0.0.0", token=token).check()
    Served(host="0.0.0.0", token="a" * 16).check()
    with pytest.raises(ConfigError, match=r"like https://hub\.example"):
        Served(origins=("hub.example",)).check()


def test_a_server_for_other_machines_knows_its_names(run: RunDir, tmp_path: Path) -> None:
    bound = Bound("0.0.0.0", 80, "x" * 20)
    assert bound.is_own_host("10.0.0.7")
    assert bound.is_own_host(socket.gethostname())
    assert not bound.is_own_host("evil.example")
    assert not Bound("127.0.0.1", 80, "x" * 20).is_own_host("10.0.0.7")
    with served(studio_over(run.path.parent, cache=tmp_path), host="0.0.0.0") as (door, _):
        assert door.raw("/api/runs", headers={})[0] == 401


def test_tls(run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import ssl

    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*made, "-keyout", str(key), "-out", str(pem)], check=True, capture_output=True)
    with served(studio_over(run.path.parent, cache=tmp_path / "cache"), certfile=pem, keyfile=key) as (door, server):
        assert server.address.startswith("https://127.0.0.1:")
        asked = http.client.HTTPSConnection("127.0.0.1", door.port, context=ssl._create_unverified_context())
        asked.request("GET", f"/?token={quote(TOKEN)}")
        assert "; Secure" in str(asked.getresponse().getheader("set-cookie"))
        asked.close()
    assert main(["studio", str(run.path), "--certfile", str(pem)]) == 2
    assert main(["studio", str(run.path), "--certfile", str(key), "--keyfile", str(pem), "--no-browser"]) == 2
    assert "belong together" in capsys.readouterr().err


@pytest.mark.slow
def test_where_no_page_is_built_the_command_says_how_to_build_it(
    tmp_path: Path, run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from litscope.studio.doors import files

    words = ["studio", str(run.path), "--port", "0", "--no-browser", "--idle-timeout", "0.3"]
    for dist, is_told in ((tmp_path / "none", True), (tmp_path / "built", False)):
        monkeypatch.setattr(files, "DIST", dist)
        (tmp_path / "built").mkdir(exist_ok=True)
        (tmp_path / "built" / "index.html").write_text("<p>index")
        assert main(words) == 0
        said = capsys.readouterr()
        assert ("`pip install .` in the source folder builds it" in " ".join(said.err.split())) == is_told
        assert said.out.startswith("litscope studio: http://127.0.0.1:")


@pytest.mark.slow
def test_a_token_is_made_anew_each_time_and_not_logged(tmp_path: Path, run: RunDir) -> None:
    words = ["studio", str(run.path), "--port", "0", "--no-browser", "--idle-timeout", "0.3"]
    done = subprocess.run([sys.executable, "-m", "litscope", *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"litscope studio: http://127\.0\.0\.1:\d+/\?token=([\w-]{32})\n", done.stdout)
    assert found is not None, done.stdout
    assert found[1] not in done.stderr
    with served(studio_over(run.path.parent, cache=tmp_path), token=None) as (_, server):
        assert server.bound.token != found[1]
        assert len(server.bound.token) == 32
