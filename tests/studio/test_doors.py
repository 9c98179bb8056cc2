"""One contract for every door of the studio: the service itself, HTTP and gRPC over sockets, the console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from acted_runs import DEAD, set_process
from asked_runs import act, asked_run, write_images
from console_door import OfConsole
from doors import Door, OfHttp, OfService, Refused, only_run, served, studio_over
from grpc_door import OfGrpc, served_by_grpc

from litscope.ledger.journal.actions import answer, entries
from litscope.rundir import RunDir
from litscope.studio.service import Studio

DOORS = ("service", "http", "grpc", "console")


@pytest.fixture(params=DOORS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = asked_run(tmp_path / "runs" / "one", dataset=write_images(tmp_path / "images"), hue=list(range(15)))
    set_process(made, pid=DEAD)
    return made


class Current:
    """The studio of the test that runs. To build a server takes longer than all that a test asks it."""

    def __init__(self) -> None:
        self.studio: Studio | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.studio, name)


@pytest.fixture(scope="module")
def http_door() -> Iterator[tuple[Current, Door]]:
    current = Current()
    with served(cast(Studio, current)) as (http, _):
        yield current, http


@pytest.fixture
def door(kind: str, run: RunDir, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Door]:
    studio = studio_over(run.path.parent, cache=tmp_path / "cache")
    if kind == "service":
        yield OfService(studio)
        return
    if kind == "console":
        yield OfConsole(studio)
        return
    if kind == "grpc":
        with served_by_grpc(studio) as (channel, _):
            yield channel
        return
    current, http = request.getfixturevalue("http_door")
    current.studio = studio
    yield http


@pytest.fixture
def name(run: RunDir, tmp_path: Path) -> str:
    return only_run(studio_over(run.path.parent, cache=tmp_path / "cache"))


def ids(found: dict) -> list[int]:  # type: ignore[type-arg]
    return [row["sample_id"] for row in found["rows"]]


def test_runs_and_their_pages(door: Door, run: RunDir, name: str) -> None:
    found = door.ask("runs")
    (line,) = found["runs"]
    assert (line["id"], line["name"], line["state"], line["epoch"], line["step"]) == (name, "one", "crashed", 4, 35)
    assert line["num_samples"] == {"train": 12, "val": 3}
    assert found["folders"] == [str(run.path.parent)]
    page = door.ask("page", name)
    assert page["classes"] == ["ant", "bee", "wasp"]
    assert page["kind"] == "image"
    assert page["metrics"] == ["train/loss", "val/accuracy"]
    columns = {column["name"]: column for column in page["columns"]}
    assert columns["suspicion"]["is_high_bad"] is True
    assert columns["hue"]["group"] == "source"
    assert columns["split"]["values"] == ["train", "val"]
    assert page["controls"]["edit"] is None
    assert "Nothing trains this run" in page["controls"]["pause"]
    assert "lr: 0.1" in page["recipe"]
    lr = next(one for one in page["settings"] if one["name"] == "lr")
    assert (lr["requested"], lr["applied"], lr["state"]) == (None, 0.1, "none")


def test_curves(door: Door, run: RunDir, name: str) -> None:
    act(run, "discard", [3])
    found = door.ask("curves", name, names=["val/accuracy"], x="epoch")
    assert found["series"]["val/accuracy"]["x"] == [1.0, 2.0, 3.0, 4.0]
    assert found["series"]["val/accuracy"]["y"] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert [(mark["what"], mark["x"], mark["status"]) for mark in found["marks"]] == [("discard", 1.0, "applied")]
    assert set(door.ask("curves", name)["series"]) == {"train/loss", "val/accuracy"}
    with pytest.raises(Refused, match=r"'val/acuracy' was not logged\. Did you mean 'val/accuracy'"):
        door.ask("curves", name, names=["val/acuracy"])


def test_samples_come_in_windows_of_an_order_that_does_not_move(door: Door, run: RunDir, name: str) -> None:
    first = door.ask("samples", name, filter="split = train", count=3, sparklines=True)
    assert ids(first)[:2] == [7, 2]
    assert (first["total"], first["total_all"], first["is_current"]) == (12, 15, True)
    row = first["rows"][0]
    assert (row["label_name"], row["pred_name"], row["is_right"]) == ("bee", "wasp", False)
    assert row["sparkline"] == pytest.approx([0.02] * 4, abs=0.003)
    act(run, "discard", [7], is_applied=False)
    again = door.ask("samples", name, view=first["view"], start=0, count=3)
    assert ids(again) == ids(first)
    assert (again["is_current"], again["revision"]) == (False, first["revision"] + 1)
    assert again["rows"][0]["is_discarded"] is True
    assert again["rows"][0]["pending"] == ["discard"]
    assert ids(door.ask("samples", name, filter="split = train and not is_discarded", count=1)) == [2]
    assert door.ask("position", name, view=first["view"], sample_id=2) == 1
    with pytest.raises(Refused, match="ViewExpired"):
        door.ask("samples", name, view="v0")


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("label_name != pred_name", [2, 7]),
        ("not is_right and split = train", [2, 7]),
        ("split = val", [12, 13, 14]),
        ('"bee/0"', [1, 4, 7]),
        ('key ~ "BEE/0" and hue > 3', [4, 7]),
        ("label_name in (bee, 'wasp') and hue between 1 and 4", [1, 2, 4]),
        ("sample_id in (3, 5) or hue = 9", [3, 5, 9]),
        ("suspicion is missing", []),
        ("never_learned", [2, 7]),
        ("inside(confidence, aum, 0 -9, 0.2 -9, 0.2 9, 0 9)", [2, 7]),
        ("steps(10, 10) and mean_loss > 2", [2, 7]),
    ],
)
def test_filters(door: Door, name: str, condition: str, wanted: list[int]) -> None:
    assert ids(door.ask("samples", name, filter=condition, sort="sample_id")) == wanted
    assert door.ask("count", name, filter=condition) == len(wanted)


def test_steps_are_sorted_by_the_loss_that_they_had(door: Door, name: str) -> None:
    found = door.ask("samples", name, filter="steps(0, 9)", sort="-step_loss", count=3)
    assert ids(found) == [7, 2, 5]  # 5 was not learned yet
    assert found["rows"][2]["values"]["step_loss"] == pytest.approx(1.204, abs=1e-3)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("mean_lss > 1", "'mean_lss' is no column of this run's samples. Did you mean 'mean_loss'"),
        ("mean_loss >", "A number, a text or a column is needed; at character 12 of the filter it ends there"),
        ("mean_loss = cat", "mean_loss holds numbers; 'cat' is none"),
        ("split > train", "have no order"),
        ("mean_loss", "mean_loss alone is no condition"),
        ("(" * 100 + "is_right" + ")" * 100, "At most 40 brackets"),
        ("is_right; drop table samples", "Character 9 of the filter"),
        ("inside(confidence, aum, 0 0, 1 1)", "3 to 500 corners"),
    ],
)
def test_a_filter_that_is_none_is_refused_with_its_place(door: Door, name: str, condition: str, message: str) -> None:
    with pytest.raises(Refused, match="AskedWrong") as refused:
        door.ask("samples", name, filter=condition)
    assert message in str(refused.value)


def test_counts_and_spreads(door: Door, name: str) -> None:
    found = door.ask("facets", name, by="label_name", filter="split = train")
    assert {one["value"]: one["num_samples"] for one in found["values"]} == {"ant": 4, "bee": 4, "wasp": 4}
    found = door.ask("histogram", name, column="hue", bins=3)
    assert found["counts"] == [5, 5, 5]
    with pytest.raises(Refused, match="holds no numbers"):
        door.ask("histogram", name, column="key")


def test_one_sample(door: Door, run: RunDir, name: str) -> None:
    act(run, "tag", [5], tag="odd")
    found = door.ask("sample", name, sample_id=5)
    assert found["sample"]["tags"] == ["odd"]
    assert found["visits"]["pred_name"] == ["bee", "bee", "wasp", "wasp"]
    assert [(one["epoch"], one["was"], one["now"]) for one in found["changes"]] == [(2, "bee", "wasp")]
    assert found["image"] == {"width": 8, "height": 8, "has_image": True}
    scores = {one["name"]: one for one in found["scores"]}
    assert scores["first_learned_epoch"]["value"] == 2
    assert scores["suspicion"]["rank"] == 3
    assert [one["what"] for one in found["actions"]] == ["tag"]
    for wrong in (15, 99):
        with pytest.raises(Refused, match=f"There is no sample {wrong}|'{wrong}' is no key .*, and no id from 0 to 14"):
            door.ask("sample", name, sample_id=wrong)


def test_the_review_goes_on_by_verdicts(door: Door, run: RunDir, name: str) -> None:
    found = door.ask("review", name, count=2)
    assert [item["sample"]["sample_id"] for item in found["items"]] == [7, 2]
    assert found["items"][0]["typical_of_label"] == [10, 4, 1]
    assert "believes it is wasp" in found["items"][0]["why"]
    assert (found["verdicts"]["num"], found["stop"]["should_stop"]) == (0, False)
    door.act(name, what="relabel", samples={"ids": [7]}, label="believed")
    door.act(name, what="tag", samples={"ids": [2]}, tag="ok")
    found = door.ask("review", name, count=2, skip=[5])
    assert not {7, 2, 5} & {item["sample"]["sample_id"] for item in found["items"]}
    assert found["verdicts"] == {"num": 2, "num_wrong": 1, "last": [True, False]}
    assert found["precision"]["text"].startswith("1 of 2")
    for i in (0, 1, 3, 4, 6, *range(8, 12)):
        act(run, "tag", [i], is_applied=False, tag="ok")
    assert door.ask("review", name)["stop"]["should_stop"] is False  # not yet twenty


def test_typical_samples(door: Door, name: str) -> None:
    assert door.ask("typical", name, label="bee", count=2) == [10, 4]
    with pytest.raises(Refused, match="no class 'be'"):
        door.ask("typical", name, label="be")


def test_maps_count_first_and_show_points_where_few_are(door: Door, name: str) -> None:
    few = door.ask("map", name, x="variability", y="confidence")
    assert (few["mode"], few["total"], few["num_in_view"]) == ("points", 15, 15)
    many = door.ask("map", name, x="variability", y="confidence", max_points=3, width=4, height=4)
    assert (many["mode"], many["color"]["names"]) == ("bins", ["right", "wrong"])
    part = door.ask("map", name, x="variability", y="confidence", y0=0.0, y1=0.2)
    assert part["num_in_view"] == 2
    with pytest.raises(Refused, match="no axis"):
        door.ask("map", name, x="key", y="confidence")


def test_tables(door: Door, name: str) -> None:
    found = door.ask("confusion", name, split="train")
    assert sorted(map(tuple, found["cells"])) == [(0, 0, 4), (1, 1, 3), (1, 2, 1), (2, 0, 1), (2, 2, 3)]
    assert found["accuracy"] == pytest.approx(10 / 12)
    rows = {row["name"]: row for row in door.ask("classes", name, split="train")["rows"]}
    assert (rows["bee"]["recall"], rows["bee"]["most_taken_for"], rows["bee"]["num_train"]) == (0.75, "wasp", 4)
    found = door.ask("calibration", name, split="train", bins=3)
    assert sum(one["count"] for one in found["bins"]) == 12
    with pytest.raises(Refused, match="no rows of split 'test'"):
        door.ask("confusion", name, split="test")


@pytest.mark.thorough
def test_sql_answers_one_select_and_nothing_else(door: Door, name: str, tmp_path: Path) -> None:
    found = door.ask("sql", name, query="select split, count(*) as n from manifest group by split order by split")
    assert (found["rows"], found["is_cut"]) == ([["train", 12], ["val", 3]], False)
    outside = tmp_path / "secret.csv"
    outside.write_text("a\n1\n")
    for query in (
        f"select * from '{outside}'",
        f"select * from read_csv('{outside}')",
        f"copy (select 1) to '{tmp_path / 'out.csv'}'",
        "select 1; select 2",
        "attach 'x.db'",
        "set enable_external_access = true",
        "install httpfs",
    ):
        with pytest.raises(Refused):
            door.ask("sql", name, query=query)
    assert not (tmp_path / "out.csv").exists()


def test_acting_writes_the_journal_and_can_be_taken_back(door: Door, run: RunDir, name: str) -> None:
    view = door.ask("samples", name, filter="split = train", sort="-suspicion")["view"]
    chosen = {"view": view, "ranges": [[0, 3]], "without": [2], "ids": [9]}
    tried = door.act(name, what="discard", samples=chosen, dry_run=True)
    assert (tried["action"], tried["num_samples"]) == (None, {"train": 3})
    assert not entries(run)
    done = door.act(name, what="discard", note="blurred", samples=chosen)
    (entry,) = entries(run)
    assert entry.action["sample_id"] == [5, 7, 9]
    assert entry.action["key"][1] == "train/bee/07.png"
    assert (entry.action["why"], "where" in entry.action) == ("blurred", False)
    assert (done["action"]["status"], done["num_samples"]) == ("pending", {"train": 3})
    assert "No trainer is running" in done["sentence"]
    assert door.ask("page", name)["num_discarded"] == 3
    back = {name: value for name, value in done["undo"].items() if value not in (None, "", False)}
    door.act(name, **back)
    assert door.ask("page", name)["num_discarded"] == 0
    journal = door.ask("journal", name)
    assert [(one["what"], one["status"]) for one in journal["actions"]] == [("undo", "pending"), ("discard", "undone")]


def test_what_nobody_looked_at_is_no_verdict(door: Door, run: RunDir, name: str) -> None:
    door.act(name, what="tag", tag="ok", samples={"filter": "split = train and is_right"})
    (entry,) = entries(run)
    assert entry.action["where"] == "split = train and is_right"
    assert door.ask("review", name)["verdicts"]["num"] == 0


def test_an_edit_of_validation_samples_warns(door: Door, name: str) -> None:
    done = door.act(name, what="discard", samples={"ids": [12]})
    assert "metrics before and after this edit cannot be compared" in done["warning"]
    assert door.act(name, what="tag", tag="odd", samples={"ids": [12]})["warning"] is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"what": "pause"}, "RunError: .* is not training, so there is nothing to pause"),
        ({"what": "relabel", "samples": {"ids": [1]}, "label": "bea"}, "ConfigError: .*Did you mean 'bee'"),
        ({"what": "relabel", "samples": {"ids": [1]}}, "needs `label`"),
        ({"what": "discard"}, "No samples are chosen"),
        ({"what": "discard", "samples": {"filter": "split = train"}}, "would leave none to train on"),
        ({"what": "discard", "samples": {"ids": [99]}}, "NotThere: There is no sample 99"),
        ({"what": "set", "settings": {"lr": -1}}, "lr=-1: it must be a number above 0"),
        ({"what": "set", "settings": {"learning_rate": 1}}, "is not a setting"),
        ({"what": "reweight", "samples": {"ids": [1]}, "weight": -1.0}, "finite number from 0"),
        ({"what": "undo"}, "There is no action"),
        ({"what": "untag", "tag": "none", "samples": {"ids": [1]}}, "no samples tagged 'none'"),
    ],
)
def test_what_makes_no_sense_is_refused_and_not_written(
    door: Door, run: RunDir, name: str, asked: dict[str, object], message: str
) -> None:
    with pytest.raises(Refused, match=message):
        door.act(name, **asked)
    assert not run.actions.exists()


def test_ids_that_no_array_holds_are_refused(run: RunDir, name: str, tmp_path: Path) -> None:
    with served(studio_over(run.path.parent, cache=tmp_path / "cache")) as (door, _):
        with pytest.raises(Refused, match=f"NotThere: There is no sample {2**63}"):
            door.act(name, what="discard", samples={"ids": [1, 2**63]})
        door.act(name, what="discard", samples={"ids": [1, 2], "without": [2, -(2**70)]})
    assert entries(run)[-1].action["sample_id"] == [1]


def test_what_was_asked_and_what_is_applied_are_apart(door: Door, run: RunDir, name: str) -> None:
    def lr() -> tuple[object, object, str, object]:
        (one,) = [one for one in door.ask("page", name)["settings"] if one["name"] == "lr"]
        return one["requested"], one["applied"], one["state"], one["reason"]

    door.act(name, what="set", settings={"lr": 0.5})
    assert lr() == (0.5, 0.1, "pending", None)
    first = entries(run)[-1].action["id"]
    answer(run, first, "applied", step=10, epoch=1, attempt=1)
    assert lr() == (0.5, 0.5, "applied", None)
    door.act(name, what="set", settings={"lr": 9.0})
    answer(run, entries(run)[-1].action["id"], "refused", step=11, epoch=1, attempt=1, reason="too much")
    assert lr() == (9.0, 0.5, "refused", "too much")


@pytest.mark.thorough
def test_two_runs_side_by_side(door: Door, run: RunDir, name: str, tmp_path: Path) -> None:
    other = asked_run(run.path.parent / "two", num_epochs=2, dataset="elsewhere")
    door.ask("runs")
    import time

    time.sleep(1.1)  # the list of folders may be a second old
    names = {line["name"]: line["id"] for line in door.ask("runs")["runs"]}
    found = door.ask("compare", runs=[names["one"], names["two"]])
    assert [row["name"] for row in found["settings"]] == ["data.dataset"]
    assert found["num_common"] == 15
    only = found["fates"]["right_only_in_first"]
    assert (only["num_samples"], only["samples"][0]["sample_id_first"]) == (1, 5)
    assert other.path.name == "two"


def test_a_sample_is_found_by_its_key(door: Door, name: str) -> None:
    for word in ("7", "train/bee/07.png", "07.png"):
        found = door.ask("find", name, name=word)
        assert found == 7
    with pytest.raises(Refused, match=r"RunError: 'bee' is no key of a sample.*Keys with it: train/bee/01\.png"):
        door.ask("find", name, name="bee")


def test_a_picture(kind: str, door: Door, name: str, tmp_path: Path) -> None:
    if isinstance(door, OfConsole):
        door.said(f"image 3 {tmp_path}/3.png --side 96")
        assert (tmp_path / "3.png").read_bytes()[:4] == b"\x89PNG"
        with pytest.raises(Refused, match="is there already"):
            door.said(f"image 3 {tmp_path}/3.png")
        return
    if isinstance(door, OfGrpc):
        assert door.ask("image", name, sample_id=3, side=96)["content"][:4] == b"\x89PNG"
        return
    if not isinstance(door, OfHttp):
        assert door.studio.image(name, 3, 96).content[:4] == b"\x89PNG"  # type: ignore[attr-defined]
        return
    status, headers, body = door.raw(f"/api/runs/{name}/samples/3/image?size=96")
    assert (status, headers["content-type"], body[:4]) == (200, "image/png", b"\x89PNG")
    known = {"Authorization": "Bearer a token of the tests", "If-None-Match": headers["etag"]}
    assert door.raw(f"/api/runs/{name}/samples/3/image?size=96", headers=known)[0] == 304
    assert door.raw(f"/api/runs/{name}/samples/99/image")[0] == 404
