"""The three files that a network leaves in, and how each is run again, by what its readers run it with.

onnx          by ONNX Runtime
pt2           `torch.export`, by torch
safetensors   the weights; by litscope, or by timm where the network is one of timm's as it is
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from litscope.delivery.portable import Portable, example, portable
from litscope.errors import LitscopeError, MissingExtra, ModelError
from litscope.evaluation.network import open_checkpoint
from litscope.evaluation.weights_file import weights_bytes
from litscope.models.networks.weights import HEADER

EXTRA_FILE = "litscope.json"
"""The name in a `.pt2` archive of what is no graph."""

_MOST_BYTES = 2**31
"""Largest ONNX file: protobuf's limit."""

Runner = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Inputs (B, ...) -> probabilities (B, C)."""


class Format(ABC):
    """One kind of file.

    Attributes:
        name: what `--to` calls it; files end so, after a dot.
        packages: that it needs, and that are an extra of this name.
        has_json: whether a JSON file with the description lies beside.
    """

    name: str
    packages: tuple[str, ...] = ()
    has_json = False

    def require(self) -> None:
        """Refuse to begin where a package is missing.

        Raises:
            MissingExtra: naming it.
        """
        for package in self.packages:
            if find_spec(package) is None:
                raise MissingExtra(package, self.name, f"--to {self.name}")

    @abstractmethod
    def write(self, network: Portable, description: dict[str, Any]) -> bytes:
        """The file's bytes.

        Raises:
            ModelError: if the network cannot be written so.
        """

    @abstractmethod
    def open(self, path: Path) -> Runner:
        """The network of a file."""


class Pt2(Format):
    """A graph of `torch.export`, with its weights."""

    name = "pt2"

    def write(self, network: Portable, description: dict[str, Any]) -> bytes:
        """See `Format`."""
        file = io.BytesIO()
        with _unheard():
            torch.export.save(
                _graph(network, self.name, description), file, extra_files={EXTRA_FILE: _text(description)}
            )
        return file.getvalue()

    def open(self, path: Path) -> Runner:
        """See `Format`."""
        with _unheard(), path.open("rb") as file:
            network = torch.export.load(io.BytesIO(file.read())).module()

        return _runner(network)


class Onnx(Format):
    """A graph of ONNX, with its weights."""

    name = "onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")

    def write(self, network: Portable, description: dict[str, Any]) -> bytes:
        """See `Format`."""
        size = sum(tensor.nbytes for tensor in network.state_dict().values())
        if size >= _MOST_BYTES:
            raise ModelError(
                f"The network has {size / 2**30:.1f} GiB of weights, and one ONNX file holds 2. Use --to pt2 or "
                "safetensors."
            )
        graph = _graph(network, self.name, description)
        try:
            with _unheard():
                program: Any = torch.onnx.export(
                    graph,
                    dynamo=True,
                    verbose=False,
                    input_names=[network.INPUT],
                    output_names=["probabilities"],
                )
                model = program.model_proto
        except Exception as error:
            raise _cannot(description, self.name, error) from error
        return _tidy(model, description).SerializeToString()  # type: ignore[no-any-return]

    def open(self, path: Path) -> Runner:
        """See `Format`."""
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (name,) = (given.name for given in session.get_inputs())
        return lambda inputs: np.asarray(session.run(None, {name: inputs})[0], np.float32)


class Safetensors(Format):
    """The weights, and what it takes to build the network around them."""

    name = "safetensors"
    has_json = True

    def write(self, network: Portable, description: dict[str, Any]) -> bytes:
        """See `Format`."""
        return weights_bytes(network.predictor, description)

    def open(self, path: Path) -> Runner:
        """See `Format`."""
        found = open_checkpoint(path, accelerator="cpu", precision="32-true")
        assert found is not None
        return _runner(portable(found))


FORMATS: dict[str, Format] = {made.name: made for made in (Onnx(), Pt2(), Safetensors())}
"""Format that `--to` may name."""


def _runner(network: torch.nn.Module) -> Runner:
    def run(inputs: NDArray[Any]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(network(torch.from_numpy(inputs)).numpy(), np.float32)

    return run


def _graph(network: Portable, to: str, description: dict[str, Any]) -> torch.export.ExportedProgram:
    """The network as a graph that takes any number of samples.

    Raises:
        ModelError: if torch cannot draw it.
    """
    sizes = {network.INPUT: {0: torch.export.Dim("batch")}}
    try:
        with _unheard(), torch.no_grad():
            inputs = (example(description["samples"]["encoding"]),)
            graph = torch.export.export(network, inputs, dynamic_shapes=sizes, strict=False)
    except Exception as error:  # torch raises what it likes, and the networks of two zoos run here
        raise _cannot(description, to, error) from error
    for node in graph.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return graph


def _cannot(description: dict[str, Any], to: str, error: Exception) -> LitscopeError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError(
        f"{description['arch']} cannot be exported to {to}: {reason} Use --to safetensors, which takes any network."
    )


def _tidy(model: Any, description: dict[str, Any]) -> Any:
    """An ONNX model with our description, and without what torch notes about the modules that it came from."""
    from onnx import checker, helper

    graph = model.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
    del graph.value_info[:]
    for part in (*graph.input, *graph.output):
        part.type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.name = description["arch"]
    model.doc_string = f"{description['inside']} {description['reading']['words']}"
    helper.set_model_props(model, {HEADER: _text(description)})
    checker.check_model(model, full_check=True)
    return model


def _text(description: dict[str, Any]) -> str:
    return json.dumps(description, ensure_ascii=False)


@contextmanager
def _unheard() -> Iterator[None]:
    """Without torch's warnings and log lines about its insides; what goes wrong is raised, or the check finds it."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
