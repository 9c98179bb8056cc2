"""Addresses: braces, what is refused, and their parts."""

from __future__ import annotations

import doctest
import subprocess
from pathlib import Path

import pytest

from litscope.data.storage import urls
from litscope.errors import ConfigError

SIGNED = "https://me:pass@host:9000/bucket/train-{00..02}.tar?X-Amz-Signature=abc&X-Amz-Date={1,2}"


def test_examples() -> None:
    found = doctest.testmod(urls)
    assert (found.attempted > 3, found.failed) == (True, 0)


@pytest.mark.parametrize(
    "text",
    [
        "train-{0000..0012}.tar",
        "{a,b}{1..3}",
        "{a,{b,c}{1..2}}x",
        "{3..1}-{10..0..5}-{c..a}",
        "{a}-{}-{x}{1..2}",
        "{09..11}{,b}",
        "x{a{1..2}}",
        "{-1..1}",
        "plain",
    ],
)
def test_braces_are_those_of_a_shell(text: str) -> None:
    shell = subprocess.run(["bash", "-c", f"printf '%s\\n' {text}"], capture_output=True, text=True, check=True)
    assert urls.expand(text) == shell.stdout.splitlines()


def test_several_addresses_in_one_text() -> None:
    found = urls.addresses("S3://bucket/a-{0..1}.tar:: gs://b/x.tar")
    assert found == ["s3://bucket/a-0.tar", "s3://bucket/a-1.tar", "gs://b/x.tar"]
    assert urls.addresses(["s3://bucket/a-{0..1}.tar", "gs://b/x.tar"]) == found


def test_a_query_string_is_no_pattern() -> None:
    found = urls.addresses(SIGNED)
    assert len(found) == 3
    assert all(url.endswith("?X-Amz-Signature=abc&X-Amz-Date={1,2}") for url in found)


def test_a_file_that_has_braces_in_its_name_is_itself(in_tmp: Path) -> None:
    Path("a{1,2}.tar").touch()
    assert urls.addresses("a{1,2}.tar") == ["a{1,2}.tar"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pipe:curl x | tar x", "would run a program"),
        (" PIPE:cat x", "would run a program"),
        ("ftp://host/x.tar", "ftp:// is not known; give a path, file://, http://, https://, s3:// or gs://"),
        ("gcs://bucket/x.tar", "Did you mean gs://"),
        ("s3:///x.tar", "names no bucket"),
        ("http:///x.tar", "names no host"),
        ("file://x.tar", "has three slashes"),
        ("s3://b/x-{0..3.tar", "a brace is not closed"),
        ("s3://b/}x{", "a brace is not closed"),
        ("s3://b/{0..99999999}", "more than 1,000,000"),
        ("s3://b/{0..2000}{0..2000}{0..2000}", "more than 1,000,000"),
        ("s3://b/x.tar::s3://b/x.tar", "named twice"),
        ("", "No address"),
        ("ftp://me:secret@host/x?token=secret", "ftp://"),
        ("https://me:secret@host/x-{0.tar?token=secret", "not closed"),
    ],
)
def test_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as raised:
        urls.addresses(text)
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)


def test_parts() -> None:
    assert urls.folder_of("https://host/a%20b/x.tar?sig=1") == "https://host/a%20b"
    assert urls.name_of("https://host/a/x%20y.tar?sig=1") == "x y.tar"
    assert urls.join("https://host/a?sig=1", "x y.tar") == "https://host/a/x%20y.tar?sig=1"
    assert urls.name_of("s3://b/x?y.tar") == "x?y.tar"
    assert urls.folder_of("x.tar") == "."
    assert urls.local_path("file://localhost/a/b.tar") == Path("/a/b.tar")
