"""When several networks train in one run."""

from litscope.config.flags import recipe_from_keywords
from litscope.experiments.many_runs import why_apart


def test_a_divided_network_trains_alone():
    flags = {"dataset": "iris", "arch": "mlp"}
    assert why_apart(recipe_from_keywords(**flags, strategy="no_shard")) is None
    assert (
        why_apart(recipe_from_keywords(**flags, strategy="zero3")) == "--strategy zero3 divides one network at a time"
    )
