"""The one way in which DuckDB is opened: in memory, with the cores and the memory that this process may use.

A query comes from a person, or runs beside a training that others share the machine with. So it sees none of our own
variables, writes nothing to the disk and fetches no extension.
"""

from __future__ import annotations

from typing import Any

import duckdb

from litscope.limits import memory_bytes, num_cores

_SETTINGS: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_persistent_secrets": False,
    "python_enable_replacements": False,  # else a query could read our own Python variables
    "temp_directory": "",  # nothing is spilled to a disk
}

_SHARE_OF_MEMORY = 0.8
"""DuckDB's own share; of what the process may use, where DuckDB alone would ask the machine."""


def open_database(most_bytes: int | None = None) -> duckdb.DuckDBPyConnection:
    """An empty database in memory. The caller closes it.

    Args:
        most_bytes: of memory; None: most of what the process may use, for a query of our own.
    """
    most = int(_SHARE_OF_MEMORY * memory_bytes()) if most_bytes is None else most_bytes
    return duckdb.connect(":memory:", config=_SETTINGS | {"threads": num_cores(), "memory_limit": f"{most}B"})
