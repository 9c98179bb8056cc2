"""`litscope fit` on several ranks of this machine, whose epochs record, do not, or follow actions, by turns.

    python bench/rivals/scale_rounds.py --ranks N --rounds N FLAGS OF litscope fit (without --epochs)

As `recording_rounds.py`, on every rank alike. In an epoch of the arm `acting`, somebody reweights a sample every
`ACT_EVERY` steps. Reports of rank 0 `rates`: {arm: [samples of all ranks per second]}, and of the training steps of
epochs that record what ranks told each other: `collectives` and `bytes`, {kind: a step}.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import pickle
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recording_rounds import Rounds, install
from turns import say

ARMS = ("on", "off", "acting", "on again")
ACT_EVERY = 20

TENSORS = ("all_reduce", "broadcast", "all_gather", "all_gather_into_tensor", "reduce_scatter_tensor", "barrier")
OBJECTS = ("all_gather_object", "broadcast_object_list")
GRADIENTS = "gradients"


class Traffic:
    """Counts what this rank tells the others in training steps.

    Attributes:
        calls, bytes: by kind; bytes are those that this rank hands over.
        num_steps: steps that were counted.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.num_steps = 0
        self.is_counting = False

    def note(self, kind: str, num_bytes: int) -> None:
        """Count a call, if it is in a step that counts."""
        if self.is_counting:
            self.calls[kind] += 1
            self.bytes[kind] += num_bytes

    def a_step(self, counter: Counter[str]) -> dict[str, float]:
        """The mean of a counter over the steps."""
        return {kind: round(count / max(1, self.num_steps), 4) for kind, count in sorted(counter.items())}


def count_collectives(traffic: Traffic) -> None:
    """Wrap the functions of torch.distributed, and what DDP does with each bucket of gradients."""
    import torch.distributed as dist
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
    from torch.nn.parallel import DistributedDataParallel

    def wrapped(name: str, of: Callable[..., Any], size: Callable[..., int]) -> Callable[..., Any]:
        @functools.wraps(of)
        def call(*arguments: Any, **named: Any) -> Any:
            traffic.note(name, size(*arguments))
            return of(*arguments, **named)

        return call

    for name in TENSORS:
        setattr(dist, name, wrapped(name, getattr(dist, name), _bytes_of_tensor))
    for name in OBJECTS:
        setattr(dist, name, wrapped(name, getattr(dist, name), _bytes_of_objects))

    make = DistributedDataParallel.__init__

    def counting(group: Any, bucket: Any) -> Any:
        traffic.note(GRADIENTS, bucket.buffer().nbytes)
        was, traffic.is_counting = traffic.is_counting, False  # the hook reduces by a function that counts, too
        try:
            return allreduce_hook(group, bucket)
        finally:
            traffic.is_counting = was

    def counted(self: Any, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        self.register_comm_hook(None, lambda group, bucket: counting(group, bucket))  # it refuses our annotations

    DistributedDataParallel.__init__ = counted  # type: ignore[method-assign]


def _bytes_of_tensor(*arguments: Any) -> int:
    """Of the tensor that is handed over: the last one among the first two arguments."""
    return next((int(one.nbytes) for one in reversed(arguments[:2]) if hasattr(one, "nbytes")), 0)


def _bytes_of_objects(*arguments: Any) -> int:
    """Of the object among the first two arguments that is handed over."""
    return len(pickle.dumps(arguments[1] if len(arguments) > 1 else arguments[0]))


def install_steps(rounds: Rounds, traffic: Traffic) -> None:
    """Count in the steps of epochs that record; act in those of the arm that follows actions."""
    from litscope.ledger.journal.actions import submit
    from litscope.ledger.journal.verbs import request
    from litscope.training.loop.recorder import Recorder

    start, end = Recorder.on_train_batch_start, Recorder.on_train_batch_end

    @functools.wraps(start)
    def on_train_batch_start(self: Recorder, trainer: Any, *more: Any) -> None:
        traffic.is_counting = rounds.arm.startswith("on")
        start(self, trainer, *more)

    @functools.wraps(end)
    def on_train_batch_end(self: Recorder, trainer: Any, *more: Any) -> None:
        end(self, trainer, *more)
        traffic.num_steps += traffic.is_counting
        traffic.is_counting = False
        if rounds.arm == "acting" and trainer.is_global_zero and trainer.global_step % ACT_EVERY == 0:
            submit(self._claim.run, request("reweight", sample_id=[trainer.global_step], weight=1.0))

    Recorder.on_train_batch_start, Recorder.on_train_batch_end = on_train_batch_start, on_train_batch_end  # type: ignore[method-assign]


@contextlib.contextmanager
def beside(num_ranks: int) -> Iterator[None]:
    """The other ranks, as processes with the same command; all end well, or this one fails."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {**where, "NODE_RANK": "0"}
    command, others = [sys.executable, *sys.argv], []
    for rank in range(1, num_ranks):
        variables = {**os.environ, "NODE_RANK": str(rank)}
        others.append(subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL))
    try:
        yield
        codes = [other.wait(timeout=120) for other in others]
    finally:
        for other in others:
            other.kill()
    if any(codes):
        sys.exit(f"other ranks ended with {codes}")


def main() -> None:
    """Train, and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--arms", default=",".join(ARMS))
    options, flags = parser.parse_known_args()
    arms, is_first = tuple(options.arms.split(",")), "BENCH_RUN" not in os.environ
    rounds, traffic = Rounds(arms), Traffic()
    epochs = str(len(arms) * (options.rounds + 1))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as others:
        run = os.environ.setdefault("BENCH_RUN", str(Path(folder) / "run"))
        if options.ranks > 1:
            if is_first:
                others.enter_context(beside(options.ranks))
            count_collectives(traffic)
        from litscope.cli import main as litscope

        install(rounds)
        install_steps(rounds, traffic)
        words = ["fit", *flags, "--epochs", epochs, "--run-dir", run, "--json", "--devices", "1"]
        with contextlib.redirect_stdout(io.StringIO()):
            code = litscope([*words, "--num-nodes", str(options.ranks)])
        if code != 0:
            sys.exit(code)
    rates = {arm: [rate * options.ranks for rate in found] for arm, found in rounds.rates.items()}
    say("end", rates=rates, collectives=traffic.a_step(traffic.calls), bytes=traffic.a_step(traffic.bytes))


if __name__ == "__main__":
    main()
