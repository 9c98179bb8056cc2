"""Whether all processes of a run have read the same data: where each machine has a copy of its own, one may differ."""

from __future__ import annotations

from litscope.data.manifest import Manifest
from litscope.errors import RunError
from litscope.live.ranks import Ranks
from litscope.starter import host_name


def check_same_data(ranks: Ranks, manifest: Manifest) -> None:
    """Refuse ranks with different samples: an id would mean one sample here and another one there.

    Every rank must come here.

    Args:
        manifest: of the data that this process has opened.

    Raises:
        RunError: on all ranks, naming the first that differs from rank 0.
    """
    if ranks.world_size == 1:
        return
    found = ranks.gather((manifest.fingerprint(), len(manifest), host_name()))
    first, num_first, first_host = found[0]
    for rank, (other, num_other, host) in enumerate(found):
        if other == first:
            continue
        differs = (
            f"has {num_other:,} samples, rank 0 on {first_host} {num_first:,}"
            if num_first != num_other
            else f"has other contents, labels or splits than rank 0 on {first_host}, or has them in another order"
        )
        raise RunError(
            f"The processes of this run have not read the same data: rank {rank} on {host} {differs}. Put the data on "
            "a disk that all machines share, or copy them to each anew."
        )
