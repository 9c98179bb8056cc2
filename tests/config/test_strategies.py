"""The names of strategies: ours, those of others, and those that mean two things."""

import pytest

from litscope.config.hardware import HardwareConfig
from litscope.config.strategies import strategy_meant, why_no_strategy
from litscope.errors import ConfigError


@pytest.mark.parametrize(
    ("word", "meant", "said"),
    [
        ("fsdp", "fsdp_full", None),
        ("fsdp_shard_grad", "fsdp_shard_grad", None),
        ("zero3", "fsdp_full", "ZeRO stage 3"),
        ("zero2", "fsdp_shard_grad", "ZeRO stage 2"),
        ("no_shard", "ddp", "nothing is sharded"),
        ("ddp_spawn", "ddp", "starts the processes of ddp itself"),
        ("ddp_find_unused_parameters_true", "ddp_find_unused_parameters_true", None),
    ],
)
def test_what_a_name_stands_for_is_said_where_it_is_another(word, meant, said):
    assert why_no_strategy(word) is None
    found, line = strategy_meant(word)
    assert found == meant
    assert line == "" if said is None else line.startswith(f"--strategy {word}: ") and said in line


@pytest.mark.flag("strategy")
@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("fsdp1", ["SHARD_GRAD_OP, type fsdp_shard_grad", "type fsdp_full"]),
        ("fsdp2", ["NO_SHARD, type ddp", "type fsdp_full, or fsdp_shard_grad"]),
        ("deepspeed_stage_3", ["stage 3 is fsdp_full", "stage 2 fsdp_shard_grad"]),
        ("fsdp_ful", ["unknown", "Did you mean 'fsdp_full'"]),
    ],
)
def test_a_name_that_is_none_is_refused_with_what_to_type(word, words):
    with pytest.raises(ConfigError) as caught:
        HardwareConfig(strategy=word).check()
    assert str(caught.value).startswith(f"--strategy {word}: ")
    for part in words:
        assert part in str(caught.value)


@pytest.mark.flag("fsdp_wrap")
@pytest.mark.parametrize("wrap", ["size:", "size:0", "size:1.5x", "layer"])
def test_a_way_to_wrap_that_is_none_is_refused(wrap):
    with pytest.raises(ConfigError, match=r"--fsdp-wrap .*: it is auto, block, or size:N"):
        HardwareConfig(fsdp_wrap=wrap).check()
    HardwareConfig(fsdp_wrap="size:2.5e5").check()
