"""A model on paper of training on many GPUs: write its table into docs/scale.md.

    python scripts/scale_model.py           write the table
    python scripts/scale_model.py --check   exit 1 if it is not what the numbers say

No machine of this size was at hand. Every number that is not arithmetic is an assumption below, with where it comes
from, so that whoever has such a machine can put in their own. `tests/project/test_scale_page.py` fails when the page is
out of date.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- written by scripts/scale_model.py -->", "<!-- end -->"

GB = 1e9


@dataclass(frozen=True)
class Assumptions:
    """What is put in: ResNet-50 on ImageNet, 8 machines of 8 GPUs of the kind of an A100.

    Attributes:
        images: of the training set.
        num_nodes, gpus_per_node, cores_per_node: the machines.
        batch: images of a GPU and step.
        images_per_s: that a GPU alone trains, mixed precision, pixels at hand (NVIDIA's published figures: 2,470 to
            2,600).
        backward: share of a step that is the backward pass, in which gradients travel.
        parameters: of the network; gradients and momentum are float32.
        bucket_bytes: of gradients that travel together; the last bucket is ready when the backward pass is over.
        node_bytes_per_s: that a machine sends, of which `link_use` is reached: one port of 100 Gbit/s, or eight of 200.
        hop_s: latency of a message between machines.
        small_calls: collectives of a few bytes on the GPU in a step, which wait (what a step's mean divides by).
        agreements_per_step: collectives on the CPU (Gloo) in which ranks agree about a stop, a checkpoint, actions.
        agreement_hop_s: latency of a message of Gloo over TCP.
        row_bytes: of a sample's visit in the ledger, as Parquet holds it.
        poll_s: seconds between two looks of rank 0 at the file of actions.
        write_bytes_per_s: of a shared folder, for one writer.
        checkpoint_every_s: seconds between two checkpoints.
        decoded_per_core_s: images that a core decodes in a second (`bench/run.py decode`: 917 of 375 x 500 pixels).
        stored_side: of a cached image, in pixels.
    """

    images: int = 1_281_167
    num_nodes: int = 8
    gpus_per_node: int = 8
    cores_per_node: int = 96
    batch: int = 128
    images_per_s: float = 2_500.0
    backward: float = 2 / 3
    parameters: int = 25_557_032
    bucket_bytes: float = 25 * 2**20
    node_bytes_per_s: float = 12.5 * GB
    link_use: float = 0.8
    hop_s: float = 20e-6
    small_calls: int = 1
    agreements_per_step: float = 0.1
    agreement_hop_s: float = 100e-6
    row_bytes: float = 30.0
    poll_s: float = 0.5
    write_bytes_per_s: float = 1.0 * GB
    checkpoint_every_s: float = 120.0
    decoded_per_core_s: float = 917.0
    stored_side: int = 256


def lines(given: Assumptions) -> list[tuple[str, str, str]]:
    """(what, how it is worked out, value) of one machine room."""
    world = given.num_nodes * given.gpus_per_node
    hops = 2 * math.ceil(math.log2(world))
    step_s = given.batch / given.images_per_s
    gradient_bytes = 4 * given.parameters
    # A ring over the machines: each sends 2 (n - 1) / n of the gradients; inside a machine links are faster by far.
    share = 2 * (given.num_nodes - 1) / given.num_nodes
    reduce_s = share * gradient_bytes / (given.node_bytes_per_s * given.link_use) + hops * given.hop_s
    last_bucket_s = reduce_s * min(1.0, given.bucket_bytes / gradient_bytes)
    exposed_s = max(last_bucket_s, reduce_s - given.backward * step_s)
    small_s = given.small_calls * hops * given.hop_s
    agree_s = given.agreements_per_step * hops * given.agreement_hop_s
    whole_s = step_s + exposed_s + small_s + agree_s
    steps, rate = math.ceil(given.images / (given.batch * world)), given.batch * world / whole_s
    checkpoint_bytes = 2 * gradient_bytes
    checkpoint_s = checkpoint_bytes / given.write_bytes_per_s
    pixels_bytes = 3 * given.stored_side**2
    decoded = given.num_nodes * given.cores_per_node * given.decoded_per_core_s
    link = f"({given.node_bytes_per_s / GB:g} GB/s x {given.link_use:g})"
    hop, agreement_hop = (f"{hops} hops x {1e6 * one:.0f} µs" for one in (given.hop_s, given.agreement_hop_s))
    cached = f"{given.images * pixels_bytes / GB:.0f} GB on each machine"
    return [
        ("global batch", f"{given.batch} x {world}", f"{given.batch * world:,} images"),
        ("computing", f"{given.batch} / {given.images_per_s:,.0f} images/s", _ms(step_s)),
        ("all-reduce of gradients", f"{share:.3g} x {gradient_bytes / 1e6:.0f} MB / {link} + {hop}", _ms(reduce_s)),
        ("of it not hidden", f"the last bucket, or what is beyond {_ms(given.backward * step_s)}", _ms(exposed_s)),
        ("what a step's mean divides by", f"{given.small_calls} x {hop}", _ms(small_s)),
        ("agreements, every tenth step", f"{given.agreements_per_step:g} x {agreement_hop}", _ms(agree_s)),
        ("**a step**", "the sum of computing and the last three", f"**{_ms(whole_s)}**"),
        ("**an epoch**", f"{steps} steps", f"**{steps * whole_s:.1f} s**, {rate:,.0f} images/s"),
        ("efficiency", f"of {world} x {given.images_per_s:,.0f} images/s", f"{step_s / whole_s:.0%}"),
        ("ledger, all ranks", f"{given.row_bytes:g} bytes an image", f"{rate * given.row_bytes / 1e6:.1f} MB/s"),
        ("ledger, an epoch", "the same", f"{given.images * given.row_bytes / 1e6:.0f} MB"),
        ("ledger, files", f"one of each rank every 5 s: {world} / 5", f"{world / 5:.0f} a second, joined later"),
        ("polling for actions", f"rank 0 alone, every {given.poll_s:g} s", f"{1 / given.poll_s:g} looks a second"),
        (
            "a checkpoint, for which all wait",
            f"{checkpoint_bytes / 1e6:.0f} MB (weights, momentum) at {given.write_bytes_per_s / GB:g} GB/s",
            f"{checkpoint_s:.2f} s, {checkpoint_s / given.checkpoint_every_s:.2%} of the time",
        ),
        (
            "decoding JPEG files as they come",
            f"{given.num_nodes * given.cores_per_node} cores x {given.decoded_per_core_s:,.0f} images/s",
            f"{decoded / rate:.1f} times what is needed",
        ),
        (
            "pixels from the cache instead",
            f"{given.images:,} x {pixels_bytes / 1e3:.0f} kB, {cached}",
            f"{rate / given.num_nodes * pixels_bytes / GB:.1f} GB/s on each",
        ),
    ]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"


def table() -> str:
    """The table: two machine rooms that differ in their network."""
    slow, fast = Assumptions(), Assumptions(node_bytes_per_s=200 * GB)
    rows = ["| | worked out | 100 Gbit/s for each machine | 8 x 200 Gbit/s |", "|---|---|---|---|"]
    for (what, how, value), (_, _, other) in zip(lines(slow), lines(fast), strict=True):
        rows.append(f"| {what} | {how} | {value} | {other if other != value else 'the same'} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Write the table, or with --check compare it."""
    text = PAGE.read_text()
    wanted = page(text)
    if "--check" in arguments:
        if wanted != text:
            print("docs/scale.md is out of date; run: .venv/bin/python scripts/scale_model.py")
        return int(wanted != text)
    if wanted != text:
        PAGE.write_text(wanted)
        print("wrote docs/scale.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
