"""Addresses with secrets: nothing of these is shown, and who opens a file has them."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys

import pytest

from litscope import addresses
from litscope.addresses import hidden, is_cut, revealed, scrubbed, shown
from litscope.errors import ConfigError

SIGNED = "https://me:pass@host:9000/bucket/train-{00..02}.tar?X-Amz-Signature=abc&X-Amz-Date={1,2}"
SHOWN = "https://***@host:9000/bucket/train-{00..02}.tar?***"


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(addresses.VARIABLE, "{}")


def test_examples() -> None:
    found = doctest.testmod(addresses)
    assert (found.attempted > 3, found.failed) == (True, 0)


def test_no_secret_is_shown() -> None:
    assert shown(SIGNED) == SHOWN
    assert scrubbed(f"{SIGNED}::s3://key:secret@b/x.tar") == f"{SHOWN}::s3://***@b/x.tar"
    message = f"403, message='Forbidden', url='{SIGNED}' and http://x/y?sig=abc."
    assert "abc" not in scrubbed(message)
    assert shown("https://host/x.tar#a?b=c") == "https://host/x.tar"


def test_what_is_hidden_is_revealed_also_in_processes_that_are_started() -> None:
    text = f"train={SIGNED}::val=s3://bucket/val.tar::./x.tar"
    said = hidden(text)
    assert said == f"train={SHOWN}::val=s3://bucket/val.tar::./x.tar"
    assert is_cut(said)
    assert revealed(said) == text
    program = f"from litscope.addresses import revealed; print(revealed({said!r}))"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == text


def test_a_new_signature_takes_the_place_of_the_old_one() -> None:
    hidden("https://host/x.tar?sig=1")
    hidden("https://host/y.tar?sig=1")
    hidden("https://host/x.tar?sig=2")
    hidden("https://host/x.tar?***")  # as a recipe has it
    assert revealed("https://host/x.tar?***::https://host/y.tar?***") == (
        "https://host/x.tar?sig=2::https://host/y.tar?sig=1"
    )


def test_what_differs_only_in_its_query_is_refused() -> None:
    with pytest.raises(ConfigError, match="differ before the question mark"):
        hidden("https://host/get?file=1::https://host/get?file=2")
    assert os.environ[addresses.VARIABLE] == "{}"
