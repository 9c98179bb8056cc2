"""A cluster's habits: what its jobs have in common. From flags, over a small YAML file.

    # ~/.config/litscope/site.yaml
    partition: gpu
    account: physics
    time: 8:00:00
    modules: [cuda/12.4]

The file is --site FILE, else what LITSCOPE_SITE names, else `site.yaml` in litscope's folder of configurations;
`--site none` takes none. A flag goes over the file; what may be given several times is added to it. The fields below
are the whole of it: flags, keys, checks, help and the table in docs/slurm.md are read off them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_origin

from litscope.cluster import timelimit
from litscope.config.section import Field, Section
from litscope.config.yamlfile import Entry, read
from litscope.errors import ConfigError, did_you_mean
from litscope.settings import COUNT, setting

VARIABLE = "LITSCOPE_SITE"

OWN_FLAGS = {
    **dict.fromkeys(("partition", "account", "qos", "time", "cpus-per-task", "mem", "nodes"), ""),
    **{"ntasks-per-node": "--devices-per-node", "ntasks": "--nodes and --devices-per-node"},
    **dict.fromkeys(("gres", "gpus-per-node", "gpus"), "--gpu-request and --gpu-type"),
    **{"requeue": "--requeue", "no-requeue": "--no-requeue"},
    **dict.fromkeys(("output", "error", "open-mode", "chdir", "parsable", "array", "wrap", "job-name"), None),
}
"""Options of sbatch that --sbatch does not take: the flag that says the same ("": of the same name), or None where
litscope needs its own value."""


def _line(text: str) -> str | None:
    return None if text and text.isprintable() else "it is one line of text."


def _memory(text: str) -> str | None:
    return None if re.fullmatch(r"\d+[KMGTkmgt]?", text) else "it is a size such as 64G or 4000M for each node."


def _names(given: Mapping[str, str]) -> str | None:
    for name in given:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            return f"{name!r} is no name of an environment variable."
    return None


def _lines(given: list[str]) -> str | None:
    return next((f"{text!r} is not one line of text." for text in given if _line(text)), None)


def _options(given: Mapping[str, str | None]) -> str | None:
    for name in given:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            return f"{name!r} is no option of sbatch; give its long name without dashes, as in constraint=a100."
        if name in OWN_FLAGS:
            flag = OWN_FLAGS[name]
            return f"{name} is set by litscope." if flag is None else f"for {name} there is {flag or '--' + name}."
    return None


@dataclass(frozen=True)
class Site(Section, group="site"):
    """A cluster's habits, and what one job has instead."""

    partition: str | None = setting(None, check=_line)
    """Partition (queue) that the job waits in. Default: the cluster's own."""
    account: str | None = setting(None, check=_line)
    """Account that the time is charged to."""
    qos: str | None = setting(None, check=_line)
    """Quality of service."""
    time: str | None = setting(None, check=timelimit.refusal)
    """Time limit: 4:00:00 is four hours, 30 half an hour, 1-12 a day and a half. Default: the partition's own."""
    cpus_per_task: int | None = setting(None, check=COUNT)
    """Cores of each process: for its threads and its loader's workers. Default: the cluster's own, mostly 1."""
    mem: str | None = setting(None, check=_memory)
    """Memory of each node, such as 64G. Default: the cluster's own."""
    gpu_request: Literal["gpus-per-node", "gres", "none"] = setting("gpus-per-node")
    """How sbatch is asked for a GPU for each process: gpus-per-node, gres (as gpu:N), or none (the CPU trains)."""
    gpu_type: str | None = setting(None, check=_line)
    """Kind of GPU, as the cluster calls it (a100)."""
    requeue: bool = True
    """Let Slurm put the job back into the queue when a node fails or the job is preempted."""
    modules: list[str] = setting([], "module", check=_lines)
    """Environment module to load; may be given several times."""
    env: dict[str, str] = field(default_factory=dict, metadata={"check": _names})
    """Environment variable of the job, as NAME=VALUE; may be given several times."""
    setup: list[str] = setting([], check=_lines)
    """A line of shell before the training, as it stands (source ~/venv/bin/activate); may be given several times."""
    python: str | None = setting(None, check=_line)
    """The Python that has litscope in the job. Default: the one that submits, in a container `python`."""
    container: str | None = setting(None, check=_line)
    """Image of Apptainer in which the job runs: a .sif file or docker://NAME."""
    container_binds: list[str] = setting([], "container_bind", check=_lines)
    """Folder that the container sees beside those of the job (FROM:TO); may be given several times."""
    container_program: str = setting("apptainer", check=_line)
    """What runs the container: apptainer, or singularity."""
    cache_dir: str | None = setting(None, check=_line)
    """Where prepared images are kept (LITSCOPE_CACHE); a disk of the node is fast: /scratch/$USER/litscope."""
    sbatch: dict[str, str | None] = field(default_factory=dict, metadata={"check": _options})
    """Any other option of sbatch, as NAME=VALUE or NAME; may be given several times."""

    def over(self, given: Mapping[str, Any]) -> Site:
        """This site with what is given instead: values replace, lists and mappings are added.

        Args:
            given: by the names of fields, in their types.

        Raises:
            ConfigError: naming the flag of a value that cannot be.
        """
        for known in self.fields():
            if known.name in given and (allowed := known.refusal(given[known.name])):
                flag = known.flags[-1]
                raise ConfigError(f"{flag} {_shown(given[known.name])}: {allowed}")
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in given.items():
            match values[name]:
                case list(before):
                    values[name] = [*before, *value]
                case dict(before):
                    values[name] = {**before, **value}
                case _:
                    values[name] = value
        return Site(**values)


def is_mapping(known: Field) -> bool:
    """Whether a field holds names and values."""
    return get_origin(known.parts[0]) is dict


def find_site(named: str | None) -> tuple[Site, Path | None]:
    """The site of this cluster, and its file if there is one.

    Args:
        named: what --site says; "none" for no file.

    Raises:
        ConfigError: for a file that is not there or says what cannot be, with its line.
    """
    if named == "none":
        return Site(), None
    if named is not None:
        return read_site(named), Path(named)
    if os.environ.get(VARIABLE):
        return read_site(os.environ[VARIABLE]), Path(os.environ[VARIABLE])
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = home / "litscope" / "site.yaml"
    return (read_site(path), path) if path.is_file() else (Site(), None)


def read_site(path: str | Path) -> Site:
    """A site file.

    Raises:
        ConfigError: for a file that is not there or says what cannot be, with its line.
    """
    known = {name: f for f in Site.fields() for name in f.names}
    values: dict[str, Any] = {}
    for entry in read(path):
        name = entry.key.replace("-", "_")
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(
                f"{entry.where}: {entry.key!r} is not a key of a site file.{hint} Keys: "
                f"{', '.join(f.name for f in Site.fields())}."
            )
        target = known[name]
        if target.name in values:
            raise ConfigError(f"{entry.where}: {entry.key} is another name of {target.name}, which is set already.")
        value = _value(target, entry)
        if allowed := target.refusal(value):
            raise ConfigError(f"{entry.where}: {entry.key} {_shown(value)}: {allowed}")
        values[target.name] = value
    return Site(**values)


def _value(known: Field, entry: Entry) -> Any:
    """What a file says of a field, in its type."""
    if is_mapping(known):
        if not entry.is_mapping:
            raise ConfigError(f"{entry.where}: {entry.key} takes names and values: {{NAME: value}}.")
        return {below.key: _text(below, may_be_bare=known.name == "sbatch") for below in entry.value}
    if known.is_list:
        value = entry.value if isinstance(entry.value, list) else [entry.text]
        if entry.is_mapping or None in value:
            raise ConfigError(f"{entry.where}: {entry.key} takes a list: [one, another].")
        return value
    if known.is_bool:
        if not isinstance(entry.value, bool):
            raise ConfigError(f"{entry.where}: {entry.key} is true or false.")
        return entry.value
    if int in known.parts:
        if not isinstance(entry.value, int) or isinstance(entry.value, bool):
            raise ConfigError(f"{entry.where}: {entry.key} is a whole number.")
        return entry.value
    return _text(entry)


def _text(entry: Entry, may_be_bare: bool = False) -> str | None:
    """A scalar as written. `true`, or nothing, stands for an option without a value where that may be."""
    if may_be_bare and (entry.value is None or entry.value is True):
        return None
    if entry.text is None:
        raise ConfigError(f"{entry.where}: {entry.key} takes a single value.")
    return entry.text


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(name if text is None else f"{name}={text}" for name, text in value.items())
    return " ".join(value) if isinstance(value, list) else str(value)
