"""What this machine has, and whether a run's hardware settings can work on it.

`plan` turns the `hardware` part of a recipe into one `Plan`, or stops with a sentence that says
what exists here. It runs before the first step: in `fit`, in the preflight of `litscope check`,
and `litscope doctor` prints `find_machine()`. Torch is imported inside the functions.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from litscope.config.hardware import ACCELERATORS, PRECISIONS, HardwareConfig
from litscope.config.recipe import Recipe
from litscope.config.section import refuse
from litscope.config.strategies import SHARDED, strategy_meant, why_no_strategy
from litscope.errors import ConfigError, did_you_mean
from litscope.launch.places import check_places, check_port
from litscope.limits import memory_bytes, num_cores
from litscope.starter import Place, idle_tasks, place_of
from litscope.training.strategies.combinations import check_combination, unused_settings

DeviceType = Literal["cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Gpu:
    """One GPU. Memory in bytes."""

    name: str
    memory_bytes: int
    has_bf16: bool


@dataclass(frozen=True)
class Machine:
    """What can compute here. Cores and memory respect affinity and cgroup limits (containers, SLURM)."""

    num_cores: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    has_mps: bool = False
    compiler: str | None = None

    def lines(self) -> list[str]:
        """The machine in words, one line for each part."""
        lines = [f"cpu: {self.num_cores} cores, {self.memory_bytes / 2**30:.1f} GiB of memory"]
        lines += [f"gpu {i}: {g.name}, {g.memory_bytes / 2**30:.1f} GiB" for i, g in enumerate(self.gpus)]
        if self.has_mps:
            lines.append("mps: Apple GPU")
        lines.append(f"C++ compiler: {self.compiler or 'none (needed by --compile-model)'}")
        return lines


@dataclass(frozen=True)
class Plan:
    """Hardware settings that were checked against the machine, in the words of `L.Trainer`.

    Attributes:
        device_type: "cpu", "cuda" or "mps"; on "cuda" `accelerator` is "gpu".
        devices: a count, or a list of GPU numbers.
        num_devices: processes on this machine.
        world_size: processes on all machines: `num_devices * num_nodes`.
        strategy: what `--strategy` means here: Lightning's name, or one of `strategies.SHARDED`.
        precision: Lightning's full name, never "auto".
        notes: lines to tell the person.
    """

    accelerator: str
    device_type: DeviceType
    devices: int | list[int]
    num_devices: int
    num_nodes: int
    strategy: str
    precision: str
    sync_batchnorm: bool
    notes: list[str] = field(default_factory=list)

    @property
    def world_size(self) -> int:
        """Number of training processes on all machines."""
        return self.num_devices * self.num_nodes

    @property
    def is_sharded(self) -> bool:
        """Whether each process keeps a share of the network only."""
        return self.strategy in SHARDED

    def trainer_arguments(self) -> dict[str, Any]:
        """The keywords of `L.Trainer` that this plan fixes."""
        return {
            "accelerator": self.accelerator,
            "devices": self.devices,
            "num_nodes": self.num_nodes,
            "strategy": self.strategy,
            "precision": self.precision,
            "sync_batchnorm": self.sync_batchnorm,
        }


def check_hardware(recipe: Recipe, machine: Machine | None = None) -> Plan:
    """The plan of a whole recipe: `plan` of its hardware, and a compiler where `--compile-model` needs one.

    Raises:
        ConfigError: as `plan`; when `--compile-model` has no C++ compiler, or several machines no port to meet on.
    """
    machine, place = machine or find_machine(), place_of()
    checked = plan(recipe.hardware, machine, place)
    check_combination(recipe, checked)
    checked.notes.extend(unused_settings(recipe, checked))
    if place is None:
        check_port(checked.num_nodes)
    if recipe.model.compile and machine.compiler is None:
        raise ConfigError(
            "--compile-model needs a C++ compiler, and neither $CXX nor g++, clang++ or c++ is here. "
            "Install one (Debian: apt-get install g++), or leave --compile-model out."
        )
    return checked


def plan(hardware: HardwareConfig, machine: Machine | None = None, place: Place | None = None) -> Plan:
    """Check the hardware settings against the machine and fill in what is "auto".

    Args:
        hardware: the settings as given.
        machine: what is here; default: looked up now.
        place: among processes that another program started.

    Raises:
        ConfigError: naming the flag, its value, and what exists on this machine, or was started.
    """
    machine = machine or find_machine()
    device_type = _device_type(hardware.accelerator, machine)
    is_open = hardware.devices.strip() == "auto"
    if place is not None and is_open and device_type == "cpu":
        devices: int | list[int] = place.num_local
    else:
        devices = _devices(hardware.devices, device_type, machine)
    num_devices = len(devices) if isinstance(devices, list) else devices
    num_nodes = _num_nodes(hardware, place)
    if place is not None and num_devices != place.num_local:
        raise ConfigError(_disagree(hardware.devices, num_devices, is_open, place))
    world_size = num_devices * num_nodes
    strategy, notes = _strategy(hardware.strategy, world_size, device_type)
    _check_sync_batchnorm(hardware.sync_batchnorm, world_size, device_type)
    if strategy in SHARDED:
        _check_sharded_precision(hardware.precision, strategy)
    precision, about_precision = _precision(hardware.precision, device_type, machine, devices)
    notes += about_precision
    if device_type == "cpu" and num_devices > machine.num_cores:
        notes.append(
            f"--devices {num_devices}: more processes than the {machine.num_cores} cores here; they take turns."
        )
    if place is None and (idle := idle_tasks(world_size)):
        notes.append(idle)
    return Plan(
        accelerator="gpu" if device_type == "cuda" else device_type,
        device_type=device_type,
        devices=devices,
        num_devices=num_devices,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=precision,
        sync_batchnorm=hardware.sync_batchnorm and world_size > 1,
        notes=notes,
    )


def find_machine() -> Machine:
    """Look at this machine: cores, memory, GPUs, compiler. Imports torch (about a second)."""
    import torch

    gpus = []
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        has_bf16 = properties.major >= 8 or torch.version.hip is not None
        gpus.append(Gpu(properties.name, properties.total_memory, has_bf16))
    return Machine(
        num_cores=num_cores(),
        memory_bytes=memory_bytes(),
        gpus=tuple(gpus),
        has_mps=torch.backends.mps.is_available(),
        compiler=cpp_compiler(),
    )


def may_probe(recipe: Recipe, plan: Plan, kind: str) -> bool:
    """Whether a new run on data of this kind may try out how it is trained fastest (see `speed_probe`)."""
    training = recipe.training
    is_open = not (training.deterministic or training.fast_dev_run or recipe.model.finetune == "head")
    return is_open and (plan.device_type, plan.world_size, kind) == ("cpu", 1, "image")


def may_choose_bf16(recipe: Recipe, plan: Plan, kind: str) -> bool:
    """Whether a probe at the start of the run chooses the precision, unless the network is small."""
    return may_probe(recipe, plan, kind) and recipe.hardware.precision == "auto" and has_bf16_units()


def has_bf16_units() -> bool:
    """Whether this processor has instructions for bfloat16. Without them it is emulated, and slower than float32."""
    import torch

    if hasattr(torch.cpu, "get_capabilities"):  # torch 2.11 and later
        found = torch.cpu.get_capabilities()
        return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    flags = Path("/proc/cpuinfo")
    words = set(flags.read_text(errors="replace").split()) if flags.exists() else set()
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def cpp_compiler() -> str | None:
    """The C++ compiler that torch.compile would find: $CXX, else g++, clang++ or c++; None without one."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and (path := shutil.which(name)):
            return path
    return None


def _device_type(accelerator: str, machine: Machine) -> DeviceType:
    """The kind of device that `--accelerator` means here."""
    if accelerator == "tpu":
        raise ConfigError(f"--accelerator tpu: TPUs are not supported. {_what_is_here(machine)}")
    if accelerator not in ACCELERATORS:
        raise ConfigError(
            f"--accelerator {accelerator}: unknown. Known: {', '.join(ACCELERATORS)}."
            + did_you_mean(accelerator, ACCELERATORS)
        )
    if accelerator in ("gpu", "cuda"):
        if machine.gpus:
            return "cuda"
        if machine.has_mps and accelerator == "gpu":
            return "mps"
        raise ConfigError(f"--accelerator {accelerator}: no GPU that this torch can use. {_what_is_here(machine)}")
    if accelerator == "mps":
        if machine.has_mps:
            return "mps"
        raise ConfigError(f"--accelerator mps: no Apple GPU. {_what_is_here(machine)}")
    if accelerator == "auto" and machine.gpus:
        return "cuda"
    return "mps" if accelerator == "auto" and machine.has_mps else "cpu"


def _devices(text: str, device_type: DeviceType, machine: Machine) -> int | list[int]:
    """A count of devices, or the list of GPU numbers, from what `--devices` says."""
    text = str(text).strip()
    here = {"cpu": None, "cuda": len(machine.gpus), "mps": 1}[device_type]
    if text == "auto":
        return here or 1
    if "," in text:
        return _device_numbers(text, device_type, machine)
    try:
        count = int(text)
    except ValueError:
        raise ConfigError(
            f"--devices {text}: neither a count (2), nor GPU numbers (0,3), nor auto. {_what_is_here(machine)}"
        ) from None
    if count == -1 and here is not None:
        return here
    if count < 1:
        raise ConfigError(f"--devices {count}: at least 1 is needed. {_what_is_here(machine)}")
    if here is not None and count > here:
        raise ConfigError(f"--devices {count}: there are not that many. {_what_is_here(machine)}")
    return count


def _device_numbers(text: str, device_type: DeviceType, machine: Machine) -> list[int]:
    """GPU numbers from "0,3"; "0," means GPU 0 alone."""
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(f"--devices {text}: not a list of GPU numbers such as 0,3.") from None
    if device_type != "cuda":
        raise ConfigError(f"--devices {text}: a list chooses among GPUs; here give a count. {_what_is_here(machine)}")
    missing = sorted(set(numbers) - set(range(len(machine.gpus))))
    if missing or not numbers or len(set(numbers)) != len(numbers):
        what = f"no GPU {missing[0]}" if missing else "numbers must be given once each"
        raise ConfigError(f"--devices {text}: {what}. {_what_is_here(machine)}")
    return numbers


def _num_nodes(hardware: HardwareConfig, place: Place | None) -> int:
    """How many machines there are. Refuses several whose environment does not let them find each other; a timeout would
    take minutes."""
    given = hardware.num_nodes
    if given is not None and given < 1:
        raise ConfigError(f"--num-nodes {given}: at least 1 is needed.")
    if place is None:
        check_places(given or 1)
        return given or 1
    if given is not None and given != place.num_nodes:
        more = "srun --nodes" if place.starter == "srun" else "torchrun --nnodes"
        raise ConfigError(
            f"--num-nodes {given}: {place.words()}. Give --num-nodes {place.num_nodes} or leave it out, or start it on "
            f"as many machines: {more}={given}."
        )
    return place.num_nodes


def _disagree(asked: str, num_devices: int, is_open: bool, place: Place) -> str:
    """What to say where a machine has another number of processes than of devices."""
    more = "srun --ntasks-per-node" if place.starter == "srun" else "torchrun --nproc-per-node"
    if not is_open:
        return (
            f"--devices {asked}: {place.words()}. Give --devices {place.num_local} or leave it out, or start a process "
            f"for each device: {more}={num_devices}."
        )
    gpus = f"{num_devices} GPU{'' if num_devices == 1 else 's'}"
    if num_devices > place.num_local:
        return (
            f"{place.words()}, which has {gpus}. Start a process for each: {more}={num_devices}. Or leave some idle: "
            f"--devices {place.num_local}."
        )
    visible = ""
    if place.starter == "srun":
        visible = f" (--gpus-per-node={place.num_local}, not --gpus-per-task: each task must see those of its machine)"
    return (
        f"{place.words()}, where this one sees {gpus}. Ask for as many GPUs as processes{visible}, or start fewer: "
        f"{more}={num_devices}. Or train on CPUs: --accelerator cpu."
    )


def _strategy(word: str, world_size: int, device_type: DeviceType) -> tuple[str, list[str]]:
    """What `--strategy` means for this number of processes, and lines to tell."""
    if (why := why_no_strategy(word)) is not None:
        raise ConfigError(f"--strategy {word}: {why}")
    if device_type == "mps" and word != "auto":
        raise ConfigError(f"--strategy {word}: an Apple GPU works alone; leave --strategy out.")
    if device_type == "mps" and world_size > 1:
        raise ConfigError("--num-nodes: an Apple GPU works alone; use --accelerator cpu for several machines.")
    meant, line = strategy_meant(word)
    notes = [line] if line else []
    if meant in SHARDED and world_size == 1:
        return "auto", [*notes, f"--strategy {word}: one process has nobody to share with; it trains as on one device"]
    return ("ddp" if meant == "auto" and world_size > 1 else meant), notes


def _check_sharded_precision(precision: str, strategy: str) -> None:
    """Refuse what torch's `fully_shard` does not have, or Lightning not beside it."""
    name = PRECISIONS.get(precision)
    if name == "16-mixed":
        raise refuse(
            "precision", precision, f"there is no 16-mixed under {strategy}. Use bf16-mixed, or --strategy ddp."
        )
    if name == "64-true":
        raise refuse("precision", precision, f"there is no 64-true under {strategy}. Use 32, or --strategy ddp.")


def _check_sync_batchnorm(wanted: bool, world_size: int, device_type: DeviceType) -> None:
    """torch's SyncBatchNorm raises on the CPU in the first step; say so here."""
    if wanted and world_size > 1 and device_type != "cuda":
        raise ConfigError(
            f"--sync-batchnorm works on GPUs only, and this run has {world_size} {device_type} processes. Leave it out."
        )


def _precision(
    precision: str, device_type: DeviceType, machine: Machine, devices: int | list[int]
) -> tuple[str, list[str]]:
    """Lightning's name of the precision, and lines to tell."""
    gpus = _chosen_gpus(devices, machine) if device_type == "cuda" else []
    if precision == "auto":
        return ("bf16-mixed" if gpus and all(g.has_bf16 for g in gpus) else "32-true"), []
    if precision not in PRECISIONS:
        raise ConfigError(
            f"--precision {precision}: unknown. Known: auto, {', '.join(PRECISIONS)}."
            + did_you_mean(precision, PRECISIONS)
        )
    name = PRECISIONS[precision]
    if device_type == "mps" and name == "64-true":
        raise ConfigError("--precision 64: Apple GPUs have no 64-bit floats. Use 32, or --accelerator cpu.")
    if device_type == "cpu" and name == "16-mixed":
        return "bf16-mixed", ["--precision 16: on a CPU mixed precision is bf16-mixed; that is used."]
    if any(not g.has_bf16 for g in gpus) and name.startswith("bf16"):
        return name, [f"--precision {precision}: {gpus[0].name} has no bf16 units and emulates it; 16-mixed is faster."]
    return name, []


def _chosen_gpus(devices: int | list[int], machine: Machine) -> list[Gpu]:
    """The GPUs that a count or a list of numbers means."""
    return [machine.gpus[i] for i in (devices if isinstance(devices, list) else range(devices))]


def _what_is_here(machine: Machine) -> str:
    """A sentence for error messages."""
    parts = [f"a CPU with {machine.num_cores} cores"]
    if machine.gpus:
        parts.append(f"{len(machine.gpus)} GPU ({', '.join(sorted({g.name for g in machine.gpus}))})")
    if machine.has_mps:
        parts.append("an Apple GPU (mps)")
    hint = "" if machine.gpus or machine.has_mps else " Use --accelerator cpu or leave --accelerator out."
    return f"This machine has {' and '.join(parts)}.{hint}"
