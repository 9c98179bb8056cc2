"""The commands that act on a run, through the command line, on a run folder made by hand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from acted_runs import NUM, last_action, make_run, set_process

from litscope.attempts import begin_attempt
from litscope.cli import main
from litscope.data.manifest import build_manifest
from litscope.ledger.journal.actions import SETTINGS, VERBS, Journal, answer, decisions, entries, request, submit
from litscope.rundir import RunDir, write_text
from litscope.runs import is_training, newest_run

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def run(in_tmp: Path) -> RunDir:
    return make_run(Path("runs/a"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end with `code`, and returns its standard output."""

    def call(*words: str, code: int = 0) -> str:
        assert main(words) == code
        return capsys.readouterr().out

    return call


@pytest.fixture
def trainer(run: RunDir) -> Iterator[Callable[..., None]]:
    """Starts a process's stand-in: a thread that answers every request of the journal as it is told."""
    done = threading.Event()
    threads: list[threading.Thread] = []

    def follow(status: str, facts: dict[str, Any]) -> None:
        journal = Journal(run)
        while not done.is_set():
            for line in journal.poll():
                if "what" in line:
                    answer(run, line["id"], status, step=12, epoch=2, attempt=1, **facts)  # type: ignore[arg-type]
            time.sleep(0.02)

    def start(status: str = "applied", **facts: Any) -> None:
        set_process(run, pid=os.getpid())
        threads.append(threading.Thread(target=follow, args=(status, facts)))
        threads[0].start()

    yield start
    done.set()
    for thread in threads:
        thread.join(10)


# ---- each command ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "what", "arguments"),
    [
        ("discard --id 1 2", "discard", {"sample_id": [1, 2], "key": ["img/001.png", "img/002.png"]}),
        ("discard runs/a --id 2 --id 1 2", "discard", {"sample_id": [1, 2], "key": ["img/001.png", "img/002.png"]}),
        ("discard --id 1 --note why", "discard", {"why": "why"}),
        ("restore a --key img/003.png", "restore", {"sample_id": [3], "key": ["img/003.png"]}),
        ("restore --key img/003.png img/001.png --id 2", "restore", {"sample_id": [1, 2, 3]}),
        ("relabel --to owl --id 1", "relabel", {"sample_id": [1], "label": "owl"}),
        ("reweight --weight 0.5 --id 1", "reweight", {"sample_id": [1], "weight": 0.5}),
        ("tag hard --id 1", "tag", {"sample_id": [1], "tag": "hard"}),
        ("tag a hard --id 1", "tag", {"sample_id": [1], "tag": "hard"}),
        ("tag --note x hard --id 1", "tag", {"tag": "hard", "why": "x"}),
        ("set lr=0.01", "set", {"settings": {"lr": 0.01}}),
        ("set a lr=1e-3 epochs=30", "set", {"settings": {"lr": 1e-3, "epochs": 30}}),
        ("set --wait 0 runs/a lr=schedule", "set", {"settings": {"lr": "schedule"}}),
        ("set early-stopping=off", "set", {"settings": {"early_stopping": False}}),
        ("set early_stopping=true patience=3", "set", {"settings": {"early_stopping": True, "patience": 3}}),
        ("resume schedule", "resume", {"schedule": True}),
        ("resume a schedule", "resume", {"schedule": True}),
    ],
)
def test_a_command_writes_one_action(
    run: RunDir, cli: Callable[..., str], words: str, what: str, arguments: dict[str, Any]
) -> None:
    out = cli(*words.split())
    assert len(entries(run)) == 1
    action = last_action(run)
    assert action["what"] == what
    assert action.items() >= arguments.items()
    assert set(action) <= {"id", "who", "when", "what", "why", "sample_id", "key", *arguments}
    assert out.startswith(f"{action['id']}  {what}")


def test_samples_are_chosen_by_a_condition(run: RunDir, cli: Callable[..., str]) -> None:
    out = cli("discard", "--where", "label_name = 'cat' and split <> 'test' and key > 'img/02'", "--id", "0")
    action = last_action(run)
    assert action["sample_id"] == [0, 21, 24, 27, 30, 33]
    assert action["where"] == "label_name = 'cat' and split <> 'test' and key > 'img/02'"
    assert "discard 6 samples where label_name = 'cat'" in out
    assert "(train 4, val 2)" in out


def test_relabel_to_what_the_model_believes(
    run: RunDir, cli: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["relabel", "--to", "believed", "--id", "0", "1", "20"]) == 0
    assert "1 sample left out: the run has not seen them yet" in capsys.readouterr().err
    assert last_action(run).items() >= {"sample_id": [0, 1], "label": "owl"}.items()
    assert main(["relabel", "--to", "believed", "--id", "20"]) == 2
    assert "has not seen these samples yet" in capsys.readouterr().err


def test_a_class_that_is_called_believed_is_a_class(in_tmp: Path, cli: Callable[..., str]) -> None:
    run = make_run(Path("runs/a"))
    build_manifest(["x", "y"], np.array([0, 1]), ("believed", "dog"), splits=["train"] * 2).write(run.manifest)
    cli("relabel", "--to", "believed", "--id", "1")
    assert last_action(run)["label"] == "believed"


def test_untag(run: RunDir, cli: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["untag", "hard", "--id", "1"]) == 2
    assert "It has no tags yet" in capsys.readouterr().err
    cli("tag", "hard", "--id", "1", "2")
    assert main(["untag", "hrad", "--id", "1"]) == 2
    assert "Did you mean 'hard'" in capsys.readouterr().err
    cli("untag", "a", "hard", "--id", "1")
    assert decisions(run).tags == {"hard": {2}}


# ---- dry runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", ["discard", "restore", "relabel --to owl", "relabel --to believed", "reweight --weight 2", "tag hard"]
)
def test_a_dry_run_shows_and_writes_nothing(run: RunDir, cli: Callable[..., str], words: str) -> None:
    before = sorted(run.path.rglob("*"))
    out = cli(*words.split(), "--id", "1", "2", "--dry-run").splitlines()
    assert out[0] == f"would {words.split()[0]} 2 samples (train 2); nothing is written"
    assert out[1].split()[:4] == ["sample_id", "key", "label", "split"]
    assert out[2].split()[:4] == ["1", "img/001.png", "dog", "train"]
    assert ("owl" in out[2].split()) == words.startswith("relabel")
    assert len(out) == 4
    assert sorted(run.path.rglob("*")) == before


def test_a_dry_run_lists_twenty_for_people_and_all_for_programs(run: RunDir, cli: Callable[..., str]) -> None:
    words = ["reweight", "--weight", "0", "--where", "split <> 'x'", "--dry-run"]
    out = cli(*words).splitlines()
    assert len(out) == 2 + 20 + 1
    assert out[-1] == "... and 20 more"
    found = json.loads(cli(*words, "--json"))["result"]
    assert found["num_samples"] == {"train": 30, "val": 5, "test": 5}
    assert found["samples"][4] == {"sample_id": 4, "key": "img/004.png", "label": "dog", "split": "train"}
    assert len(found["samples"]) == NUM


@pytest.mark.parametrize("words", ["discard", "restore", "relabel --to owl", "discard --dry-run"])
def test_edits_of_validation_and_test_samples_warn(run: RunDir, capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert main([*words.split(), "--id", "1", "30", "31", "35"]) == 0
    assert "warning: 2 samples of val and 1 sample of test: metrics before and after" in capsys.readouterr().err
    assert main([*words.split(), "--id", "1"]) == 0
    assert "warning" not in capsys.readouterr().err


# ---- answers -----------------------------------------------------------------------------------


def test_without_a_trainer_it_returns_at_once_and_says_so(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert main(["set", "lr=1"]) == 0
    assert time.monotonic() - began < 3
    assert "No trainer is running: recorded." in capsys.readouterr().err


def test_a_tag_needs_no_trainer_and_a_setting_says_nothing_of_samples(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str) -> str:
        assert main(list(words)) == 0
        return capsys.readouterr().err

    assert "No trainer is running, and none is needed for a tag" in told("tag", "ok", "--id", "1")
    assert "It takes effect" not in told("untag", "ok", "--id", "1")
    assert "samples already counts" not in told("set", "lr=1")
    assert "already counts in litscope export" in told("discard", "--id", "1")


def test_a_key_that_the_run_does_not_have(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["discard", "--key", "quite/another.tiff"]) == 2
    assert '`litscope sql runs/a "select key from samples"` lists the keys.' in capsys.readouterr().err


def test_an_answer_is_printed(run: RunDir, cli: Callable[..., str], trainer: Callable[..., None]) -> None:
    trainer()
    assert "applied at step 12 (epoch 3)" in cli("pause")
    found = json.loads(cli("set", "lr=0.1", "--json"))["result"]
    assert found["action"] == last_action(run)
    assert found["answer"]["step"] == 12


def test_a_refusal_ends_with_2(run: RunDir, cli: Callable[..., str], trainer: Callable[..., None]) -> None:
    trainer("refused", reason="the run has no early stopping")
    assert "refused at step 12 (epoch 3): the run has no early stopping" in cli("set", "patience=3", code=2)
    assert json.loads(cli("set", "patience=3", "--json", code=2))["result"]["answer"]["status"] == "refused"


@pytest.mark.parametrize(
    ("words", "what", "arguments"),
    [
        ("pause", "pause", {}),
        ("resume", "resume", {}),
        ("resume a", "resume", {}),
        ("checkpoint a --note x", "checkpoint", {"why": "x"}),
        ("stop a", "stop", {}),
        ("evaluate a --now", "evaluate", {"split": "val"}),
        ("evaluate a --now --split train", "evaluate", {"split": "train"}),
        ("evaluate a --now --tag hard", "evaluate", {"tag": "hard"}),
    ],
)
def test_what_happens_at_once_needs_a_trainer(
    run: RunDir,
    capsys: pytest.CaptureFixture[str],
    trainer: Callable[..., None],
    words: str,
    what: str,
    arguments: dict[str, Any],
) -> None:
    submit(run, request("tag", tag="hard", sample_id=[1]))
    assert main(words.split()) == 2
    assert f"runs/a is not training, so there is nothing to {what}" in capsys.readouterr().err
    assert len(entries(run)) == 1
    trainer(metrics={"val/accuracy": 0.75})
    assert main(words.split()) == 0
    assert re.search(r"val/accuracy +0\.7500", capsys.readouterr().out)
    assert last_action(run)["what"] == what
    assert last_action(run).items() >= arguments.items()


def test_a_trainer_that_does_not_answer_is_waited_for(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    set_process(run, pid=os.getpid())
    began = time.monotonic()
    assert main(["stop", "--wait", "0.3"]) == 0
    assert 0.3 <= time.monotonic() - began < 3
    assert "Recorded; no answer yet within 0.3 s" in capsys.readouterr().err
    set_process(run, host="node7")
    assert main(["stop", "--wait", "0"]) == 0
    assert "last started on node7, which cannot be asked from here" in capsys.readouterr().err


def test_whether_a_run_trains(run: RunDir) -> None:
    assert is_training(run) is False
    set_process(run, pid=os.getpid())
    assert is_training(run) is True
    set_process(run, pid=1)  # of another user, or our own where we are root
    assert is_training(run) is True
    set_process(run, host="node7")
    assert is_training(run) is None
    write_text(run.summary, "{}")
    assert is_training(run) is False
    assert is_training(RunDir("runs/none")) is False


# ---- which run ---------------------------------------------------------------------------------


def test_the_newest_run_is_meant_and_said(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    newer = make_run(Path("runs/b"))
    os.utime(run.attempts, (1e9, 1e9))
    assert newest_run().path == newer.path
    assert main(["set", "lr=1"]) == 0
    assert "run: runs/b (the newest)" in capsys.readouterr().err
    assert (len(entries(newer)), len(entries(run))) == (1, 0)
    begin_attempt(run, 0, None)  # resumed
    os.utime(newer.attempts, (1e9, 1e9))
    assert newest_run().path == run.path


def test_without_any_run(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pause"]) == 2
    assert "There are no runs below runs/" in capsys.readouterr().err


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["discard"], "Say which samples: --where"),
        (["discard", "nowhere", "--id", "1"], "nowhere does not exist"),
        (["discard", "--id", "40"], "--id 40: this run has samples 0 to 39"),
        (["discard", "--id", "-1"], "--id"),
        (["discard", "--id", "one"], "invalid int value: 'one'"),
        (["discard", "--key", "img/01.png"], "Did you mean 'img/0"),
        (["discard", "--key", "zzz"], "There is no sample 'zzz' in this run."),
        (["discard", "--where", "1 = 2"], "No sample of runs/a has 1 = 2"),
        (["discard", "--where", "suspicoin > 1"], "suspicoin"),
        (["discard", "--where", "split = 'train'"], "would leave none to train on"),
        (["discard", "--id", "1", "--wait", "-1"], "-1 is not a number of seconds"),
        (["discard", "--id", "1", "--wait", "nan"], "nan is not a number of seconds"),
        (["discard", "--id", "1", "--note"], "expected one argument"),
        (["discard", "a", "b", "--id", "1"], "unrecognized arguments: b"),
        (["restore"], "Say which samples"),
        (["relabel", "--id", "1"], "required: --to"),
        (["relabel", "--to", "dgo", "--id", "1"], "no such class in runs/a. Did you mean 'dog'"),
        (["relabel", "--to", "zzz", "--id", "1"], "Classes: cat, dog, owl, or believed"),
        (["reweight", "--id", "1"], "required: --weight"),
        (["reweight", "--weight", "heavy", "--id", "1"], "invalid float value"),
        (["reweight", "--weight", "-1", "--id", "1"], "`weight` is -1.0; it must be a finite number from 0"),
        (["reweight", "--weight", "inf", "--id", "1"], "finite number from 0"),
        (["tag", "--id", "1"], "required"),
        (["tag", "a", "--id", "1"], "Give one tag, preceded by the run"),
        (["tag", "a", "b", "c", "--id", "1"], "Give one tag"),
        (["tag", " ", "--id", "1"], "must be a name"),
        (["tag", "hard"], "Say which samples"),
        (["set"], "required"),
        (["set", "a"], "Say what to set"),
        (["set", "lr"], "give its value with an equals sign: lr=VALUE"),
        (["set", "a", "lr"], "lr: settings are given as NAME=VALUE"),
        (["set", "lr=fast"], "lr='fast': it must be a number above 0, or schedule"),
        (["set", "lr=inf"], "lr=inf"),
        (["set", "lr="], "lr=''"),
        (["set", "epoch=3"], "Did you mean 'epochs'"),
        (["set", "epochs=2.5"], "whole number from 1"),
        (["set", "nowhere", "lr=1"], "nowhere does not exist"),
        (["pause", "nowhere"], "nowhere does not exist"),
        (["resume", "a", "b"], "give one run"),
        (["resume", "shedule"], "shedule does not exist"),
        (["undo"], "There is no action in runs/a/actions.jsonl that could be undone"),
        (["undo", "a", "b", "c"], "give one run and one id"),
        (["undo", "a", "zz"], "No action has the id 'zz'"),
        (["undo", "nowhere", "zz"], "nowhere does not exist"),
        (["actions", "nowhere"], "nowhere does not exist"),
        (["actions", "--status", "done"], "invalid choice: 'done'"),
        (["evaluate", "a", "--tag", "x"], "--tag goes with --now"),
        (["evaluate", "a", "--wait", "1"], "--wait goes with --now"),
        (["evaluate", "a", "--now", "--batch-size", "3"], "--batch-size: with --now"),
        (["evaluate", "a", "--now", "--split", "all"], "--split all: runs/a has no such samples"),
        (["evaluate", "a", "--now", "--tag", "x"], "no samples tagged 'x'"),
        (["evaluate", "a", "--now", "--tag", "x", "--split", "val"], "either --split or --tag"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    run: RunDir, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.err.count("error:") == 1
    assert captured.out == ""
    assert not run.actions.exists()


def test_the_last_training_samples_stay_also_in_steps(run: RunDir, cli: Callable[..., str]) -> None:
    cli("discard", "--where", "split = 'train' and sample_id > 3")
    cli("discard", "--id", "0", "1", "2")
    cli("discard", "--id", "3", code=2)
    cli("restore", "--id", "7")
    cli("discard", "--id", "3")


def test_a_close_key_is_found_among_very_many(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(Path("runs/a"))
    keys = [f"train/{i % 100:03}/{i:06}.jpg" for i in range(50_000)]
    build_manifest(keys, np.zeros(50_000, np.int64), ("x",), splits=["train"] * 50_000).write(run.manifest)
    began = time.monotonic()
    assert main(["discard", "--key", "train/12/012345.jpg"]) == 2
    assert "Did you mean 'train/045/012345.jpg'" in capsys.readouterr().err
    assert time.monotonic() - began < 3


def test_a_run_without_a_manifest(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    run.manifest.unlink()
    assert main(["discard", "--id", "1"]) == 2
    assert "The manifest runs/a/manifest.parquet cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_acting_needs_no_torch(run: RunDir) -> None:
    code = (
        "import sys\nfrom litscope.cli import main\n"
        "for words in (['discard', '--where', 'aum < 1', '--dry-run'], ['relabel', '--to', 'believed', '--id', '1'],\n"
        "              ['set', 'lr=1'], ['undo'], ['actions']):\n"
        "    assert main(words) == 0, words\n"
        "print('LOADED', *sorted({'torch', 'lightning'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED"


def test_every_action_and_setting_is_documented() -> None:
    words = set(re.findall(r"`([^`\n]+)`", (DOCS / "actions.md").read_text()))
    assert {*VERBS, *SETTINGS} <= words
    assert {name for verb in VERBS.values() for name in (*verb.arguments, *verb.optional)} <= words
