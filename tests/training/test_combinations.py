"""What a network that is divided over processes does not go together with is refused, with what does."""

import pytest

from litscope.config.flags import recipe_from_keywords
from litscope.errors import ConfigError, DataError
from litscope.training.hardware import Gpu, Machine, check_hardware
from litscope.training.prepare import prepare

CPU = Machine(num_cores=4, memory_bytes=8 * 2**30, compiler="/usr/bin/g++")
TWO_GPUS = Machine(8, 2**36, (Gpu("H200", 2**37, True),) * 2, compiler="/usr/bin/g++")

ON_TWO = {"dataset": "digits", "devices": "2", "accelerator": "cpu", "strategy": "fsdp"}


def check(machine=CPU, **flags):
    return check_hardware(recipe_from_keywords(**{**ON_TWO, **flags}), machine)


@pytest.mark.flag("strategy", "cpu_offload", "activation_checkpointing")
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"precision": "16"}, ["--precision 16", "no 16-mixed under fsdp_full", "bf16-mixed"]),
        ({"precision": "64"}, ["--precision 64", "Use 32"]),
        ({"cpu_offload": True}, ["--cpu-offload", "computes on cpu", "Leave it out"]),
        ({"cpu_offload": True, "strategy": "ddp"}, ["--cpu-offload", "--strategy fsdp_full"]),
        ({"channels_last": True}, ["--channels-last", "--strategy ddp"]),
        ({"compile_model": True}, ["--compile-model", "--strategy fsdp", "--strategy ddp"]),
        ({"finetune": "head"}, ["--finetune head", "--finetune full"]),
        ({"num_members": 3}, ["--num-members 3", "--strategy ddp"]),
        ({"optimizer": "lamb"}, ["--optimizer lamb", "adamw, adam, sgd, rmsprop"]),
        ({"wandb_watch": True}, ["--wandb-watch", "--strategy ddp"]),
        ({"activation_checkpointing": True, "strategy": "ddp", "compile_model": True}, ["--activation-checkpointing"]),
        ({"activation_checkpointing": True, "devices": "1", "finetune": "head"}, ["--finetune head"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_does_not_go_together_is_refused(flags, words):
    with pytest.raises(ConfigError) as caught:
        check(**flags)
    for word in words:
        assert word in str(caught.value)


def test_batch_norms_over_all_devices_are_for_ddp():
    with pytest.raises(ConfigError, match="--sync-batchnorm does not work with --strategy zero2: give --strategy ddp"):
        check(TWO_GPUS, accelerator="gpu", strategy="zero2", sync_batchnorm=True)


def test_what_goes_together_is_planned():
    plan = check(TWO_GPUS, accelerator="gpu", strategy="zero3", cpu_offload=True, precision="bf16")
    assert (plan.strategy, plan.is_sharded, plan.precision) == ("fsdp_full", True, "bf16-mixed")
    assert plan.notes == ["--strategy zero3: ZeRO stage 3 is fsdp_full here"]
    plan = check(strategy="no_shard", fsdp_wrap="block", checkpoint_format="sharded")
    assert (plan.strategy, plan.is_sharded) == ("ddp", False)
    assert [note.partition(":")[0] for note in plan.notes] == [
        "--strategy no_shard",
        "--fsdp-wrap block",
        "--checkpoint-format sharded",
    ]


def test_one_process_has_nobody_to_share_with():
    plan = check(devices="1")
    assert (plan.strategy, plan.is_sharded) == ("auto", False)
    assert "nobody to share with" in plan.notes[0]


@pytest.mark.parametrize(("arch", "data"), [("mlp", "table.csv"), ("vgg11", "images"), ("convnet", "images")])
def test_a_named_network_without_blocks_is_refused_before_data_and_weights_are_looked_for(arch, data):
    """Neither is there."""
    recipe = recipe_from_keywords(
        **{**ON_TWO, "dataset": data}, arch=arch, fsdp_wrap="block", pretrained=arch == "vgg11"
    )
    with pytest.raises(ConfigError, match=rf"--fsdp-wrap block: {arch} has no repeated blocks\. Use size:1e6, or auto"):
        prepare(recipe)


def test_a_network_with_blocks_is_not():
    for arch in ("resnet18", "vit_tiny_patch16_224"):
        recipe = recipe_from_keywords(**{**ON_TWO, "dataset": "nowhere"}, arch=arch, fsdp_wrap="block")
        with pytest.raises(DataError, match="nowhere"):
            prepare(recipe)
