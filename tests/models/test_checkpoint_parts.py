"""Checkpoints in parts: read as whole ones by whoever reads a checkpoint; a part that is lacking or damaged is said."""

from pathlib import Path

import pytest
import torch

from litscope.errors import RunError
from litscope.models.checkpoint_file import load_checkpoint, map_checkpoint
from litscope.models.checkpoint_parts import PARTS, Divided, copy_checkpoint, remove_unnamed, save_file
from litscope.models.networks.weights import load_file
from litscope.training.loop.checkpoints import AtomicCheckpointIO

WHOLE = torch.arange(15.0).reshape(5, 3)
"""Divided over four processes: two rows, two, one and none."""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """As four processes write it."""
    return written(tmp_path / "last.ckpt", "step00000003-aa")


def written(path: Path, name: str) -> Path:
    for rank in range(4):
        save_file({"0": WHOLE[2 * rank : 2 * rank + 2].clone()}, path.parent / "parts" / name / f"{rank}.pt")
    state = {"weight": {"litscope_rows": "0", "shape": [5, 3]}, "bias": torch.ones(2)}
    save_file({"state_dict": state, "epoch": 3, PARTS: {"folder": f"parts/{name}", "count": 4}}, path)
    return path


def test_everybody_reads_whole_tensors(checkpoint: Path):
    for found in (load_checkpoint(checkpoint), load_file(checkpoint)):
        assert torch.equal(found["state_dict"]["weight"], WHOLE)
        assert torch.equal(found["state_dict"]["bias"], torch.ones(2))
        assert PARTS not in found


def test_a_look_at_the_rest_reads_no_part(checkpoint: Path):
    look = load_checkpoint(checkpoint, mmap=True)
    assert look["epoch"] == 3
    assert look["state_dict"]["weight"].shape == (5, 3)
    assert look["state_dict"]["weight"].is_meta


def test_a_process_reads_its_own_rows(checkpoint: Path):
    divided = map_checkpoint(checkpoint)["state_dict"]["weight"]
    assert isinstance(divided, Divided)
    for start, length in ((0, 5), (0, 3), (3, 2), (1, 3), (4, 1), (5, 0)):
        assert torch.equal(divided.narrow(0, start, length), WHOLE[start : start + length])


def test_a_part_that_is_lacking_or_damaged_is_named(checkpoint: Path):
    written(checkpoint.with_name("previous.ckpt"), "step00000002-bb")
    part = checkpoint.parent / "parts" / "step00000003-aa" / "1.pt"
    content = part.read_bytes()
    part.write_bytes(content[:300] + bytes([content[300] ^ 1]) + content[301:])
    with pytest.raises(RunError, match=r"is damaged.*Whole, beside it: previous\.ckpt"):
        load_checkpoint(checkpoint)
    part.unlink()
    with pytest.raises(RunError, match=r"in parts, and .*1\.pt is not there. Copy the folder parts/ with it"):
        load_checkpoint(checkpoint, mmap=True)


@pytest.mark.parametrize("named", ["../elsewhere", "parts/../../x", 3, None])
def test_parts_lie_nowhere_else(tmp_path: Path, named):
    save_file({"state_dict": {}, PARTS: {"folder": named, "count": 1}}, tmp_path / "last.ckpt")
    with pytest.raises(RunError, match="does not say where its parts are"):
        load_checkpoint(tmp_path / "last.ckpt")


def test_a_copy_has_its_parts_and_others_go_when_nobody_names_them(checkpoint: Path, tmp_path: Path):
    copy_checkpoint(checkpoint, tmp_path / "there" / "from.ckpt")
    assert torch.equal(load_checkpoint(tmp_path / "there" / "from.ckpt")["state_dict"]["weight"], WHOLE)
    written(checkpoint, "step00000004-cc")  # a later one, in its place
    written(checkpoint.with_name("best.ckpt"), "step00000002-bb")
    remove_unnamed(checkpoint.parent)
    assert {path.name for path in (checkpoint.parent / "parts").iterdir()} == {"step00000004-cc", "step00000002-bb"}
    assert torch.equal(load_checkpoint(checkpoint)["state_dict"]["weight"], WHOLE)


def test_parts_go_once_a_run_that_writes_whole_checkpoints_has_replaced_them(checkpoint: Path):
    """It went on under another strategy: the parts of its earlier checkpoints lay there for ever."""
    io, parts = AtomicCheckpointIO(), checkpoint.parent / "parts"
    whole = {"state_dict": {"weight": WHOLE}, "epoch": 4}
    io.save_checkpoint(whole, checkpoint)
    assert torch.equal(load_checkpoint(checkpoint.with_name("previous.ckpt"))["state_dict"]["weight"], WHOLE)
    (checkpoint.parent / "mine.ckpt").write_bytes(b"half a file")
    io.save_checkpoint(whole, checkpoint)
    assert parts.is_dir()  # the stranger's may name them
    (checkpoint.parent / "mine.ckpt").unlink()
    io.save_checkpoint(whole, checkpoint)
    assert not parts.exists()
