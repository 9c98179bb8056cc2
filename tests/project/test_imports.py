"""Who may import whom, read from the source; and which modules stay free of torch."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "litscope"

BASE = {
    "__init__",
    "types",
    "errors",
    "addresses",
    "console",
    "defaults",
    "limits",
    "settings",
    "sizes",
    "fusions",
    "shown",
    "jsonlines",
    "spreadsheets",
    "seals",
    "rundir",
    "attempts",
    "batch_job",
    "claims",
    "starter",
    "runs",
    "pictures",
    "importing",
    "lightning_internals",
}

COMMANDS = {"cli", "commands", "demo", "doctor"}
ROOMS = {"config", "data", "models", "ledger", "live", "curation", "features", "training", "evaluation"}
ROOMS |= {"delivery", "experiments", "cluster", "uncertainty", "studio"}
ALLOWED = {
    "_torchvision": set(),
    "types": set(),
    "errors": set(),
    "addresses": {"errors"},
    "console": {"errors"},
    "defaults": set(),
    "limits": set(),
    "settings": {"errors"},
    "sizes": set(),
    "fusions": set(),
    "importing": set(),
    "shown": {"types"},
    "lightning_internals": set(),
    "jsonlines": set(),
    "seals": set(),
    "spreadsheets": set(),
    "rundir": {"errors", "console", "jsonlines", "seals"},
    "attempts": {"errors", "console", "rundir", "batch_job"},
    "batch_job": set(),
    "starter": {"errors"},
    "claims": {"errors", "console", "rundir", "batch_job"},
    "runs": {"errors", "console", "rundir"},
    "pictures": {"errors", "console", "rundir"},
    "config": BASE,
    "data": BASE,
    "models": BASE,
    "ledger": BASE,
    "live": BASE | {"ledger"},
    "curation": BASE | {"config", "data", "ledger"},
    "features": BASE | {"data", "models", "ledger"},
    "launch": BASE,
    "cluster": BASE | {"config"},
    "uncertainty": BASE,
    "training": BASE | {"config", "data", "models", "ledger", "live", "curation", "features", "launch", "uncertainty"},
    "evaluation": BASE | {"config", "data", "models", "ledger", "curation", "features", "training", "uncertainty"},
    "delivery": BASE | {"config", "data", "models", "ledger", "curation", "training", "evaluation"},
    "experiments": BASE | {"launch"} | (ROOMS - {"delivery", "cluster", "studio"}),
    "studio": BASE | {"config", "data", "ledger", "curation", "uncertainty"},
    "watch": BASE | {"data", "ledger", "live"},
    "calls": BASE | {"config", "training", "experiments"},
    "opened": BASE | {"curation", "delivery", "evaluation", "ledger"},
    **dict.fromkeys(sorted(COMMANDS), BASE | COMMANDS | ROOMS),
    "__main__": {"cli"},
    "__init__": {"_torchvision"},
}
"""Room (a package or a module directly in litscope) -> the other rooms that it may import, in functions too."""

HEAVY = {"torch", "lightning", "torchvision", "timm", "torchmetrics", "pytorch_lightning"}
TORCH_FREE = {
    "litscope",
    *(
        f"litscope.{name}"
        for name in (
            "errors",
            "addresses",
            "console",
            "defaults",
            "limits",
            "settings",
            "sizes",
            "fusions",
            "importing",
            "seals",
            "jsonlines",
            "spreadsheets",
            "rundir",
            "attempts",
            "batch_job",
            "starter",
            "claims",
            "runs",
            "types",
            "pictures",
        )
    ),
    "litscope.cli",
    "litscope.opened",
    *(f"litscope.commands.{name}" for name in ("line", "envelope", "places", "completion", "launch", "jobs")),
    *("litscope.data.sources.names", "litscope.models.networks.names"),
    "litscope.data",
    "litscope.models",
    "litscope.models.settings",
    "litscope.training",
    *(
        "litscope.data.manifest",
        "litscope.data.content",
        "litscope.data.sources.source",
        "litscope.data.reading.readers",
    ),
    *("litscope.data.reading.images", "litscope.data.sources.splits", "litscope.data.preflight"),
    *("litscope.data.groups", "litscope.data.reading.cache", "litscope.data.reading.findings"),
    *("litscope.data.reading.bands", "litscope.data.stored", "litscope.data.sampler"),
    *(f"litscope.data.sources.{name}" for name in ("folders", "lists", "listing", "named", "tables")),
    "litscope.live.records",
    *("litscope.features.file", "litscope.features.table"),
}
"""Modules that start fast, and open a run on a machine without torch; so does all that they import."""

TORCH_FREE_ROOMS = {"config", "curation", "ledger", "cluster", "uncertainty", "studio"}
"""All modules of these, but for the one of the ledger that computes signals on the device."""


def module_name(path: Path) -> str:
    """litscope/data/reading/cache.py -> litscope.data.reading.cache"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TORCH_FREE |= {module for module in MODULES if module.split(".")[1:2] and module.split(".")[1] in TORCH_FREE_ROOMS}
TORCH_FREE -= {"litscope.ledger.signal_buffer"}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def statements(tree: ast.AST, everywhere: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements: all of them, or only those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif everywhere:
            yield from statements(node, everywhere)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(ast.Module(node.orelse, []), everywhere)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from statements(node, everywhere)


@cache
def imports(path: Path, everywhere: bool) -> frozenset[str]:
    """Full names of the modules that a file imports; `from litscope import x` names x where x is a module."""
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text()), everywhere):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
            continue
        assert node.level == 0, f"{path}:{node.lineno}: write the full name, not a relative import"
        inner = {f"{node.module}.{alias.name}" for alias in node.names}
        modules = inner & set(MODULES)
        found.update(modules)
        if modules != inner:
            found.add(str(node.module))
    return frozenset(found)


def test_every_edge_between_rooms_is_listed() -> None:
    wrong = []
    for module, path in MODULES.items():
        own = room(module)
        assert own in ALLOWED, f"{path}: a new room; list it in ALLOWED with what it may import"
        for target in imports(path, everywhere=own != "__init__"):
            other = room(target)
            if target.split(".")[0] == "litscope" and other != own and other not in ALLOWED[own]:
                wrong.append(f"{module} imports {target}, but {own} may import only {sorted(ALLOWED[own])}")
    assert not wrong, "\n".join(wrong)


def test_no_rooms_import_each_other_in_a_circle() -> None:
    one = dict.fromkeys(COMMANDS, "commands")  # the command line is one room, of four doors
    below: dict[str, set[str]] = {}
    for own, targets in ALLOWED.items():
        name = one.get(own, own)
        below[name] = below.get(name, set()) | {one.get(target, target) for target in targets} - {name}
    below["__init__"] = {"_torchvision"}
    assert list(graphlib.TopologicalSorter(below).static_order())  # CycleError names the circle


def test_the_drawing_puts_a_room_above_those_that_it_imports() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawing = text.partition("## The rooms")[2].partition("```text")[2].partition("```")[0].splitlines()
    drawn = {
        room: next(i for i, line in enumerate(drawing) if f" {room}/" in line) for room in ROOMS | {"watch", "launch"}
    }
    wrong = [f"{a} is below {b}" for a in drawn for b in ALLOWED[a] & set(drawn) if drawn[a] > drawn[b]]
    assert not wrong, wrong


ROOMS_TABLE = re.compile(r"^\| room \|.+?\n\n", re.MULTILINE | re.DOTALL)
GROUND_FLOOR = "the ground floor"


def tabled(table: str) -> dict[str, set[str]]:
    """The table of rooms as a page has it: room -> the other rooms that it may import."""
    edges = {}
    for row in table.strip().splitlines()[2:]:
        rooms, _, targets = row.strip("|").split(" | ")
        own = {name.strip("/") for name in re.findall(r"`([\w/]+)`", rooms)}
        named = set(re.findall(r"`(\w+)`", targets)) | (BASE if GROUND_FLOOR in targets else set())
        named |= own if "each other" in targets else set()
        edges |= {room: named - {room} for room in own}
    return edges


def test_the_pages_draw_the_same_rooms() -> None:
    pages = [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"]
    tables = [found[0] for page in pages if (found := ROOMS_TABLE.search(page.read_text()))]
    assert len(tables) == len(pages)
    assert tables[0] == tables[1], "the tables of rooms in docs/architecture.md and CONTRIBUTING.md differ"
    allowed = {room: targets - {room} for room, targets in ALLOWED.items() if not room.startswith("_")}
    assert tabled(tables[0]) == allowed, "mend the table in docs/architecture.md, and copy it to CONTRIBUTING.md"


PLATES = [
    "commands",
    "config",
    "evaluation",
    "experiments",
    "features",
    "launch",
    "training",
    "training/choosing",
    "training/tuning",
    "training/loop",
    "training/probes",
]
PLATES += ["delivery", "data", "data/reading", "data/sources", "models", "models/learning", "models/networks"]
PLATES += ["curation", "ledger", "ledger/journal", "ledger/scoring", "live", "watch"]
PLATES += ["studio", "studio/runs", "studio/samples", "studio/doors", "studio/doors/console", "studio/doors/rpc"]
PLATES += ["studio/report"]


@pytest.mark.parametrize("place", PLATES)
def test_a_door_plate_names_every_file_and_no_other(place: str) -> None:
    """A line for each file, `name   what it does`, and one for each room inside, `name/   what it does`."""
    plate = ast.get_docstring(ast.parse((PACKAGE / place / "__init__.py").read_text())) or ""
    named = re.findall(r"^ {4}(\w+/?) {2,}\S", plate, re.MULTILINE)
    files = {path.stem for path in (PACKAGE / place).glob("*.py")} - {"__init__"}
    rooms = {f"{path.parent.name}/" for path in (PACKAGE / place).glob("*/__init__.py")}
    assert sorted(named) == sorted(files | rooms)
    assert "Who may come in" in plate


def test_the_command_line_imports_inside_its_commands() -> None:
    for module, path in MODULES.items():
        if room(module) in ("cli", "commands"):
            rooms = {room(name) for name in imports(path, everywhere=False) if name.startswith("litscope")}
            assert rooms <= (BASE | {"cli", "commands"}) - {"lightning_internals"}, (
                f"{module} imports {rooms} before a command runs"
            )


def test_lightning_has_one_class_tree() -> None:
    for module, path in MODULES.items():
        names = {name.split(".")[0] for name in imports(path, everywhere=True)}
        assert "pytorch_lightning" not in names, f"{module} imports pytorch_lightning; use lightning.pytorch"


def reached(module: str) -> Iterator[tuple[str, str]]:
    """(importer, imported) for all that importing `module` imports, within litscope and one step out of it."""
    todo, seen = [module], set()
    while todo:
        here = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        if parent := here.rpartition(".")[0]:
            todo.append(parent)
        for target in imports(MODULES[here], everywhere=False):
            yield here, target
            if target in MODULES:
                todo.append(target)


@pytest.mark.parametrize("module", sorted(TORCH_FREE))
def test_torch_is_not_reached(module: str) -> None:
    heavy = [f"{here} imports {target}" for here, target in reached(module) if target.split(".")[0] in HEAVY]
    assert not heavy, f"{module} must import no torch, but " + "; ".join(heavy)


def test_torch_is_not_loaded() -> None:
    """The same of the real thing: third parties might import torch too."""
    code = f"import sys, {', '.join(sorted(TORCH_FREE))}\nprint(*sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_check_sees_what_it_should(tmp_path: Path) -> None:
    """The reader of imports itself: functions and TYPE_CHECKING do not run at import, the rest does."""
    file = tmp_path / "module.py"
    file.write_text(
        "import a\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\nelse:\n    import c\n"
        "try:\n    import d\nexcept ImportError:\n    pass\ndef f():\n    import e\nclass K:\n    import g\n"
        "from litscope import errors, __version__\n"
    )
    at_import = {"a", "typing", "c", "d", "g", "litscope", "litscope.errors"}
    assert imports(file, everywhere=False) == at_import
    assert imports(file, everywhere=True) == at_import | {"b", "e"}
