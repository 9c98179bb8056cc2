"""The network of a checkpoint, which may be from a stranger: what does not fit is said, and nothing in it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from litscope.errors import RunError, UserError
from litscope.models.checkpoint_file import load_checkpoint
from litscope.models.forward import HYPER_PARAMETERS, Forward
from litscope.models.predictor import Predictor

F = TypeVar("F", bound=Forward)


def load_network(path: Path, kind: type[F]) -> F:
    """The network of a checkpoint, with its weights, on the CPU.

    Args:
        kind: `Predictor`, or `Classifier` for a Trainer.

    Raises:
        RunError: if the file is missing or damaged, or its settings and weights are none of a classifier.
    """
    return _network_in(load_checkpoint(path), path, kind)


def predictor_in(checkpoint: dict[str, Any], path: Path) -> Predictor:
    """The predictor of a checkpoint that was read from `path`; errors as `load_network`."""
    return _network_in(checkpoint, path, Predictor)


def _network_in(checkpoint: dict[str, Any], path: Path, kind: type[F]) -> F:
    given, state = checkpoint.get(HYPER_PARAMETERS), checkpoint["state_dict"]
    if not isinstance(given, dict) or not isinstance(state, dict):
        raise RunError(f"{path} is a checkpoint, but none of litscope: it has no 'hyper_parameters' and 'state_dict'.")
    try:
        with torch.device("meta"):  # takes no memory: sizes that somebody made up are found before they are reserved
            _check_shapes(kind(**given), state)
        network = kind(**given)
        network.take_from(checkpoint)
        network.load_state_dict(state)
    except (UserError, RuntimeError, TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"{path} is not a checkpoint of this version's classifier: {reason}") from error
    return network


def _check_shapes(network: Forward, state: dict[str, Any]) -> None:
    """Raises ValueError if the weights are not those that the settings ask for."""
    expected = network.state_dict()
    for name, tensor in expected.items():
        found = state.get(name)
        if not isinstance(found, Tensor):
            raise ValueError(f"it has no weights {name!r}")
        if found.layout != torch.strided or found.is_meta or found.is_floating_point() != tensor.is_floating_point():
            raise ValueError(f"the weights {name!r} are {found.dtype}, {found.layout}; they are plain {tensor.dtype}")
        if found.shape != tensor.shape:
            raise ValueError(
                f"the weights {name!r} are {tuple(found.shape)}; its settings ask for {tuple(tensor.shape)}"
            )
    if unknown := [name for name in state if name not in expected]:
        raise ValueError(f"its settings have no place for the weights {unknown[0]!r}")
