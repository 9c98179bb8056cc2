"""A network in safetensors, as `litscope export --to safetensors` writes it, read as a checkpoint is.

The weights have the names that the architecture gives them. What it takes to build the network, and to read samples,
stands in the file's header as JSON (`delivery.description`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from litscope.errors import RunError
from litscope.models.forward import HYPER_PARAMETERS, LEARNED, SAMPLE_FACTS, Forward
from litscope.models.networks.weights import HEADER
from litscope.models.readout import READOUT

_PLACE = "net."
"""Where a predictor has its network."""


def weights_bytes(predictor: Forward, description: Mapping[str, Any]) -> bytes:
    """The file of a network.

    Args:
        predictor: on the CPU.
        description: has `network`, its settings, and `samples`, as a checkpoint's `SAMPLE_FACTS`;
            `learned`, as `Forward.learned` gives it.
    """
    state = {name.removeprefix(_PLACE): value.contiguous().clone() for name, value in predictor.state_dict().items()}
    return save(state, {HEADER: json.dumps(description, ensure_ascii=False)})


def is_weights_file(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a JSON object, and the object."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def read_weights_file(path: Path) -> dict[str, Any]:
    """A checkpoint's `hyper_parameters`, `state_dict`, `SAMPLE_FACTS`, `READOUT`; who opens it checks what they say.

    Raises:
        RunError: if the file is damaged, or holds weights alone.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            state = {f"{_PLACE}{name}": file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        found = None if header is None else json.loads(header)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read as safetensors: {error}") from error
    if not isinstance(found, dict):
        raise RunError(
            f"{path} holds weights alone: nothing in it says which network they are of. `litscope fit --weights` "
            "starts from such a file."
        )
    return {
        HYPER_PARAMETERS: found.get("network"),
        "state_dict": state,
        SAMPLE_FACTS: found.get("samples") or {},
        **({} if found.get("readout") is None else {READOUT: found["readout"]}),
        **{key: value for key, value in (found.get("learned") or {}).items() if key in LEARNED},
    }
