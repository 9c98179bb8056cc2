"""The package from outside: its public names, its requirements, and torchvision beside any torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import litscope

ROOT = Path(__file__).resolve().parents[2]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements() -> list[Requirement]:
    extras = project()["optional-dependencies"]
    return [Requirement(line) for line in [*project()["dependencies"], *extras["dev"]]]


def constraints() -> dict[str, Version]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", litscope.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(litscope, name) is not None
    assert name in dir(litscope)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "litscope" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (alias.name, node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == set(litscope._HOME.items())
    assert {name for name, _ in seen} | {"__version__"} == set(litscope.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'classifier_'"):
        _ = litscope.classifier_


def test_the_version_is_stated_once_in_each_place() -> None:
    assert litscope.__version__ == project()["version"]


def test_no_malicious_lightning_is_allowed() -> None:
    lightning = next(r for r in requirements() if r.name == "lightning")
    assert not [v for v in ("2.6.2", "2.6.3", "2.6.5") if lightning.specifier.contains(v)]
    assert lightning.specifier.contains("2.6.6")


def test_the_tested_set_names_every_requirement_and_fits_it() -> None:
    known = constraints()
    for requirement in requirements():
        version = known.get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt does not name {requirement.name}"
        assert requirement.specifier.contains(version), f"{requirement} does not allow the tested {version}"


def test_extras_named_in_messages_exist() -> None:
    extras = set(project()["optional-dependencies"])
    for path in [*(ROOT / "litscope").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]:
        named = set(re.findall(r"litscope\[(\w+)\]", path.read_text()))
        assert named <= extras, f"{path.name} names the extras {named - extras}, which are not in pyproject.toml"


def test_every_third_party_import_is_required() -> None:
    """What litscope imports at the top of its modules is in the requirements; extras are imported in functions, or in
    a room that is entered in functions alone."""
    own_names = {
        "PIL": "pillow",
        "sklearn": "scikit-learn",
        "yaml": "pyyaml",
        "google": "protobuf",
        "grpc": "grpcio",
        "grpc_reflection": "grpcio-reflection",
    }
    for path in (ROOT / "litscope").rglob("*.py"):
        extra = project()["optional-dependencies"]["grpc"] if path.parent.name == "rpc" else []
        required = {canonicalize_name(Requirement(line).name) for line in [*project()["dependencies"], *extra]}
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for top in {name.split(".")[0] for name in names} - {"litscope", "__future__"} - sys.stdlib_module_names:
                assert canonicalize_name(own_names.get(top, top)) in required, f"{path} imports {top}"


@pytest.mark.slow
def test_torchvision_can_be_imported_after_litscope() -> None:
    code = "import litscope, torchvision, timm, torch\nprint(hasattr(torch.ops.torchvision, 'nms'))"
    assert python(code).split() == ["True"]


@pytest.mark.slow
def test_operators_are_declared_only_where_they_are_missing() -> None:
    code = (
        "import litscope._torchvision as hook, torch\n"
        "torch.library.define('torchvision::nms', hook.SCHEMA)\n"
        "print(hook.declare_operators(), hook.declare_operators())"
    )
    assert python(code).strip() == "['qnms'] []"


def test_a_torchvision_that_fits_is_left_alone(tmp_path: Path) -> None:
    """A stand-in whose C library loads, as it does where torch and torchvision match."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision import extension, _meta_registrations\n")
    (package / "extension.py").write_text("def _has_ops():\n    return True\n")
    (package / "_meta_registrations.py").write_text("")
    first = f"import sys, litscope; sys.path.insert(0, {str(tmp_path)!r})"
    assert python(f"{first}\nimport torchvision\nprint('torch' in sys.modules)").split() == ["False"]


@pytest.mark.parametrize("script", [".ci/run"])
def test_scripts_are_executable_and_parse(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(path)], check=True)
