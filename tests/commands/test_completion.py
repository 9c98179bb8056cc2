"""Completion as a real shell asks for it, and what every command offers."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from acted_runs import make_run

from litscope.cli import COMMANDS, main
from litscope.config.fields import fields
from litscope.config.options import all_flags

ROOT = Path(__file__).resolve().parents[2]
SLOW_TO_IMPORT = {"torch", "lightning", "timm", "torchvision", "numpy", "pyarrow", "duckdb", "rich", "jsonargparse"}


@pytest.fixture
def place(in_tmp: Path) -> Path:
    """Two runs, a folder of data, a configuration, and `litscope` itself on the way to programs."""
    make_run(Path("runs/mine"))
    make_run(Path("runs/my run"))
    Path("my_images").mkdir()
    Path("run.yaml").write_text("training: {lr: 1}\n")
    program = in_tmp / "bin" / "litscope"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom litscope.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    return in_tmp


def environment(place: Path) -> dict[str, str]:
    path = os.pathsep.join([str(place / "bin"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def in_bash(place: Path, *lines: str) -> list[list[str]]:
    """What bash would show for each line when Tab is pressed at its end."""
    script = ['eval "$(litscope completion bash)"']
    for line in lines:
        script.append(
            f"COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; COMPREPLY=(); "
            "compopt() { return 1; }; _python_argcomplete litscope; "
            r"printf '%s\n' ${COMPREPLY[@]+"
            '"${COMPREPLY[@]}"'
            r"}; echo ----"
        )
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(script)],
        capture_output=True,
        text=True,
        cwd=place,
        env=environment(place),
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    blocks = done.stdout.split("----\n")[:-1]
    return [sorted(word.strip() for word in block.splitlines() if word.strip()) for block in blocks]


@pytest.mark.slow
def test_bash_offers_commands_flags_words_and_runs(place: Path) -> None:
    commands, flag, word, run, arch = in_bash(
        place, "litscope r", "litscope fit --learning-", "litscope worst mine --split=", "litscope worst mi",
        "litscope fit my_images --arch resnet18_",
    )  # fmt: skip
    assert commands == sorted(name for name in COMMANDS if name.startswith("r"))
    assert flag == ["--learning-rate"]
    assert word == ["test", "train", "val"]
    assert run == ["mine"]
    assert len(arch) == 0 or all(name.startswith("resnet18_") for name in arch)


@pytest.mark.slow
def test_bash_offers_the_rest(place: Path) -> None:
    lines = [
        "litscope worst runs/m",
        "litscope fit --config run",
        "litscope fit my_im",
        "litscope fit dig",
        "litscope fit --scheduler-type co",
        "litscope bench ",
        "litscope bench prune --see",
        "litscope set mine weight",
        "litscope export mine --to c",
        "litscope completion ",
        "litscope fit --nonsense-flag x --lea",
    ]
    found = dict(zip(lines, in_bash(place, *lines), strict=True))
    assert found["litscope worst runs/m"] == ["runs/mine", r"runs/my\ run"]
    assert found["litscope fit --config run"] == ["run.yaml", "runs/"]
    assert found["litscope fit my_im"] == ["my_images/"]
    assert found["litscope fit dig"] == ["digits"]
    assert found["litscope fit --scheduler-type co"] == ["constant", "cosine"]
    assert found["litscope bench "] == ["prune"]
    assert found["litscope bench prune --see"] == ["--seed", "--seeds"]
    assert found["litscope set mine weight"] == ["weight_decay="]
    assert found["litscope export mine --to c"] == ["cleanlab", "csv"]
    assert found["litscope completion "] == ["bash", "fish", "zsh"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_the_lines(place: Path, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    source = {"zsh": "autoload -U compinit; compinit -D; ", "fish": ""}[shell]
    read = {"zsh": 'eval "$(litscope completion zsh)"; echo $_comps[litscope]',
            "fish": "litscope completion fish | source; complete -C 'litscope wor'"}[shell]  # fmt: skip
    done = subprocess.run(
        [program, "-c", source + read], capture_output=True, text=True, cwd=place, env=environment(place), timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert ("worst" if shell == "fish" else "argcomplete") in done.stdout


@pytest.mark.parametrize(
    "line", ["litscope ", "litscope fit ", "litscope fit --arch ", "litscope worst ", "litscope set "]
)
def test_nothing_slow_is_imported(place: Path, line: str, tmp_path: Path) -> None:
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sorted({m.split('.')[0] for m in sys.modules}), file=open('modules', 'w')))\n"
        "from litscope.cli import main\nmain()"
    )
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE": "1",
             "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "offered")}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env={**environment(place), **asked}, cwd=place, check=False)
    assert done.returncode == 0
    assert (tmp_path / "offered").read_text()
    assert not SLOW_TO_IMPORT & set((place / "modules").read_text().split())


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], argparse.ArgumentParser]:
    """The parser that a command hands to argcomplete for a line, and what argcomplete is told to look at."""

    def ask(line: str) -> Any:
        found: list[argparse.ArgumentParser] = []

        def autocomplete(parser: argparse.ArgumentParser, **_: object) -> None:
            found.append(parser)
            raise SystemExit(0)

        monkeypatch.setattr("argcomplete.autocomplete", autocomplete)
        for name, value in (("COMP_LINE", line), ("COMP_POINT", str(len(line))), ("_ARGCOMPLETE", "1")):
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            main([])
        return found[0]

    return ask


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_offers_its_flags_and_does_nothing_else(
    in_tmp: Path, command: str, offered: Callable[[str], argparse.ArgumentParser], capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"{command} prune" if command == "bench" else command
    parser = offered(f"litscope {words} ")
    assert int(os.environ["_ARGCOMPLETE"]) == len(words.split()) + 1
    assert "--json" in parser.format_usage() or any("--json" in action.option_strings for action in parser._actions)
    assert capsys.readouterr().out == ""
    assert list(in_tmp.iterdir()) == []


def test_launch_offers_its_own_flags_and_behind_the_hyphens_those_of_what_it_launches(
    offered: Callable[[str], argparse.ArgumentParser],
) -> None:
    def flags(line: str) -> set[str]:
        return {flag for action in offered(line)._actions for flag in action.option_strings}

    assert {"--partition", "--dry-run"} <= flags("litscope launch slurm ")
    assert "--rdzv-endpoint" in flags("litscope launch torchrun ")
    (program,) = offered("litscope launch slurm --nodes 2 -- ")._actions
    assert program.choices == ["fit", "tune"]
    assert "--learning-rate" in flags("litscope launch slurm --nodes 2 -- fit digits ")
    assert int(os.environ["_ARGCOMPLETE"]) == 7
    assert "--trials" in flags("litscope launch slurm -- tune ")


def test_every_flag_of_a_recipe_is_offered_with_its_words(offered: Callable[[str], argparse.ArgumentParser]) -> None:
    actions = {flag: action for action in offered("litscope tune ")._actions for flag in action.option_strings}
    for field in fields():
        assert set(all_flags(field)) <= set(actions)
        if field.choices:
            assert tuple(actions[field.flag].completer(prefix="")) == field.choices  # type: ignore[attr-defined]
    assert {"--trials", "--config", "--json"} <= set(actions)


def test_what_turns_it_on_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 0
    assert "complete -c litscope" in capsys.readouterr().out.replace("--command", "-c")
    assert main(["completion", "csh"]) == 2
    assert "bash" in capsys.readouterr().err
