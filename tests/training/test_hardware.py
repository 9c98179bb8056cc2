"""Hardware settings are checked against the machine, with messages that say what is here."""

import os

import pytest

from litscope.config.recipe import HardwareConfig, ModelConfig, Recipe
from litscope.errors import ConfigError
from litscope.starter import Place
from litscope.training import hardware
from litscope.training.hardware import Gpu, Machine, check_hardware, plan

CPU = Machine(num_cores=4, memory_bytes=8 * 2**30, compiler="/usr/bin/g++")
TWO_GPUS = Machine(8, 2**36, (Gpu("H200", 2**37, True), Gpu("H200", 2**37, True)), compiler="/usr/bin/g++")
OLD_GPU = Machine(8, 2**36, (Gpu("T4", 2**34, False),))
MAC = Machine(8, 2**34, has_mps=True)


@pytest.mark.flag("accelerator", "devices")
def test_auto_takes_every_gpu_else_the_cpu():
    assert plan(HardwareConfig(), CPU).trainer_arguments() == {
        "accelerator": "cpu",
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
        "precision": "32-true",
        "sync_batchnorm": False,
    }
    gpus = plan(HardwareConfig(), TWO_GPUS)
    assert (gpus.accelerator, gpus.device_type, gpus.devices, gpus.strategy) == ("gpu", "cuda", 2, "ddp")
    assert plan(HardwareConfig(), MAC).device_type == "mps"


def test_auto_precision_follows_the_chosen_gpus():
    assert plan(HardwareConfig(), TWO_GPUS).precision == "bf16-mixed"
    assert plan(HardwareConfig(), OLD_GPU).precision == "32-true"
    assert plan(HardwareConfig(accelerator="cpu"), TWO_GPUS).precision == "32-true"


@pytest.mark.parametrize(
    ("given", "name"), [("16", "bf16-mixed"), ("bf16", "bf16-mixed"), ("32", "32-true"), ("bf16-true", "bf16-true")]
)
@pytest.mark.flag("precision")
def test_precision_names_on_a_cpu(given, name):
    assert plan(HardwareConfig(precision=given), CPU).precision == name


def test_mixed_16_on_a_cpu_is_said():
    assert "bf16-mixed" in plan(HardwareConfig(precision="16"), CPU).notes[0]
    assert plan(HardwareConfig(precision="16"), OLD_GPU).precision == "16-mixed"


@pytest.mark.flag("devices")
def test_a_list_of_devices_names_gpus():
    chosen = plan(HardwareConfig(devices="1,"), TWO_GPUS)
    assert (chosen.devices, chosen.num_devices, chosen.strategy) == ([1], 1, "auto")
    assert plan(HardwareConfig(devices="0,1"), TWO_GPUS).world_size == 2
    assert plan(HardwareConfig(devices="-1"), TWO_GPUS).devices == 2


@pytest.mark.parametrize(
    ("settings", "machine", "words"),
    [
        ({"accelerator": "gpu"}, CPU, ["--accelerator gpu", "4 cores", "--accelerator cpu"]),
        ({"accelerator": "cuda"}, MAC, ["--accelerator cuda", "mps"]),
        ({"accelerator": "mps"}, TWO_GPUS, ["--accelerator mps", "2 GPU"]),
        ({"accelerator": "tpu"}, CPU, ["TPUs are not supported"]),
        ({"accelerator": "gpus"}, CPU, ["unknown", "Did you mean 'gpu'"]),
        ({"devices": "3"}, TWO_GPUS, ["--devices 3", "2 GPU"]),
        ({"devices": "0,5"}, TWO_GPUS, ["no GPU 5"]),
        ({"devices": "0,0"}, TWO_GPUS, ["once each"]),
        ({"devices": "0,1"}, CPU, ["give a count"]),
        ({"devices": "0"}, CPU, ["at least 1"]),
        ({"devices": "many"}, CPU, ["--devices many", "auto"]),
        ({"strategy": "dpp"}, CPU, ["Did you mean 'ddp'"]),
        ({"strategy": "ddp"}, MAC, ["alone"]),
        ({"sync_batchnorm": True, "devices": "2"}, CPU, ["--sync-batchnorm", "2 cpu processes"]),
        ({"precision": "bf17"}, CPU, ["unknown", "bf16"]),
        ({"precision": "64"}, MAC, ["64-bit"]),
        ({"num_nodes": 0}, CPU, ["--num-nodes 0"]),
    ],
)
@pytest.mark.flag("accelerator", "devices", "strategy")
def test_what_cannot_work_is_refused_with_what_exists(settings, machine, words):
    with pytest.raises(ConfigError) as caught:
        plan(HardwareConfig(**settings), machine)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.flag("num_nodes")
def test_several_machines_need_their_addresses(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(ConfigError, match="set MASTER_ADDR, NODE_RANK"):
        plan(HardwareConfig(num_nodes=2), CPU)
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("NODE_RANK", "0")
    both = plan(HardwareConfig(num_nodes=2, devices="2"), CPU)
    assert (both.world_size, both.num_devices, both.strategy) == (4, 2, "ddp")


SRUN, TORCHRUN = Place("srun", 1, 2, 0, 2), Place("torchrun", 0, 1, 0, 2)
FOUR_GPUS = Machine(8, 2**36, (Gpu("H200", 2**37, True),) * 4)


@pytest.mark.flag("num_nodes", "devices")
def test_what_srun_and_torchrun_started_are_the_devices():
    joined = plan(HardwareConfig(), CPU, SRUN)
    assert (joined.devices, joined.num_nodes, joined.world_size, joined.strategy) == (2, 2, 4, "ddp")
    assert plan(HardwareConfig(devices="2", num_nodes=2), CPU, SRUN).world_size == 4
    assert plan(HardwareConfig(), TWO_GPUS, TORCHRUN).devices == 2
    assert plan(HardwareConfig(devices="1,3"), FOUR_GPUS, TORCHRUN).devices == [1, 3]


@pytest.mark.parametrize(
    ("settings", "machine", "place", "words"),
    [
        ({"devices": "4"}, CPU, SRUN, "--devices 4: srun started 4 tasks, 2 on each of 2 machines. Give --devices 2"),
        ({"devices": "4"}, CPU, SRUN, "srun --ntasks-per-node=4."),
        (
            {"devices": "1"},
            CPU,
            TORCHRUN,
            "--devices 1: torchrun started 2 processes on this machine. Give --devices 2",
        ),
        ({"devices": "1"}, CPU, TORCHRUN, "torchrun --nproc-per-node=1."),
        (
            {"num_nodes": 1},
            CPU,
            SRUN,
            "--num-nodes 1: srun started 4 tasks, 2 on each of 2 machines. Give --num-nodes 2",
        ),
        ({"num_nodes": 2}, CPU, TORCHRUN, "torchrun --nnodes=2."),
        ({}, FOUR_GPUS, TORCHRUN, "on this machine, which has 4 GPUs. Start a process for each"),
        ({}, OLD_GPU, SRUN, r"where this one sees 1 GPU\. .*--gpus-per-node=2, not --gpus-per-task"),
        ({}, OLD_GPU, TORCHRUN, "Or train on CPUs: --accelerator cpu."),
    ],
)
@pytest.mark.flag("num_nodes", "devices")
def test_processes_and_devices_that_disagree_are_refused_with_both_numbers(settings, machine, place, words):
    with pytest.raises(ConfigError, match=words):
        plan(HardwareConfig(**settings), machine, place)


@pytest.mark.flag("sync_batchnorm")
def test_sync_batchnorm_with_one_process_changes_nothing():
    assert plan(HardwareConfig(sync_batchnorm=True), CPU).sync_batchnorm is False
    assert plan(HardwareConfig(sync_batchnorm=True), TWO_GPUS).sync_batchnorm is True


def test_more_processes_than_cores_is_said():
    assert "4 cores" in plan(HardwareConfig(devices="5"), CPU).notes[0]


def test_compile_needs_a_compiler():
    recipe = Recipe(model=ModelConfig(compile=True))
    with pytest.raises(ConfigError, match=r"--compile-model needs a C\+\+ compiler"):
        check_hardware(recipe, OLD_GPU)
    assert check_hardware(recipe, CPU).device_type == "cpu"
    assert check_hardware(Recipe(), OLD_GPU).device_type == "cuda"


def test_compiler_is_looked_up_as_torch_does(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert hardware.cpp_compiler() is None
    compiler = tmp_path / "my-cxx"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", "my-cxx")
    assert hardware.cpp_compiler() == str(compiler)


def test_this_machine_is_described():
    machine = hardware.find_machine()
    assert 1 <= machine.num_cores <= (os.cpu_count() or 1)
    assert f"{machine.num_cores} cores" in machine.lines()[0]
    assert plan(HardwareConfig(accelerator="cpu"), machine).precision == "32-true"
