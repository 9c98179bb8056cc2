"""Labels as strangers write them, and the classes that they become."""

import pyarrow as pa
import pytest

from litscope.data.sources.listing import index_labels, label_text
from litscope.data.sources.source import open_source
from litscope.errors import DataError


def test_white_space_around_labels_is_dropped():
    labels, classes, notes = index_labels(pa.array([" cat", "cat", "dog ", " ", None]), "label")
    assert labels.tolist() == [0, 0, 1, -1, -1]
    assert classes == ("cat", "dog")
    assert "3 values" in notes[0]


def test_labels_that_differ_in_case_are_pointed_out():
    _, classes, notes = index_labels(pa.array(["Cat", "cat"]), "label")
    assert classes == ("Cat", "cat")
    assert "differ only in case" in notes[0]


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (pa.array([2, 10, 1]), ("1", "2", "10")),
        (pa.array([True, False]), ("false", "true")),
        (pa.array(["1.0", "0", "2.00"]), ("0", "1", "2")),
        (pa.array(["007", "7"]), ("007", "7")),
        (pa.array(["-1", "+1"]), ("-1", "1")),
        (pa.array(["nan", "1", "2"]), ("1", "2")),
        (pa.chunked_array([["a"], ["b", "a"]]).dictionary_encode(), ("a", "b")),
        (pa.array(["1_1", "1_2", "11"]), ("11", "1_1", "1_2")),
        (pa.array(["1e5", "100000", "2"]), ("100000", "1e5", "2")),
        (pa.array(["007", "7", "7.0"]), ("007", "7")),
        (pa.array(["1.", "2.000", "1"]), ("1", "2")),
        (pa.array(["\N{FULLWIDTH DIGIT ONE}", "1", "2"]), ("1", "2", "\N{FULLWIDTH DIGIT ONE}")),
        (pa.array(["0x10", "16", "1,000"]), ("0x10", "1,000", "16")),
        (pa.array(["inf", "-inf", "1"]), ("-inf", "1", "inf")),
        (pa.array([1e16, 2e16, -0.0]), ("0", "10000000000000000", "20000000000000000")),
        (pa.array(["caf\u00e9", "cafe\u0301", "tea"]), ("caf\u00e9", "tea")),
    ],
)
def test_kinds_of_labels(values, classes):
    assert index_labels(values, "label")[1] == classes


@pytest.mark.parametrize("gap", ["nan", "NaN", "NA", "None", "null", "N/A", "<NA>", "?", "-"])
def test_what_means_no_label_among_numbers(gap):
    labels, classes, notes = index_labels(pa.array(["0.0", "1.0", gap, gap, "1"]), "label")
    assert labels.tolist() == [0, 1, -1, -1, 1]
    assert classes == ("0", "1")
    assert f"2 values of 'label' are {gap!r}, read as no label" in notes[0]


def test_among_words_only_nan_means_no_label():
    labels, classes, notes = index_labels(pa.array(["NA", "None", "cat", "nan", "null", "-"]), "label")
    assert labels.tolist() == [1, 2, 3, -1, 4, 0]
    assert classes == ("-", "NA", "None", "cat", "null")
    assert "1 values of 'label' are 'nan'" in notes[0]


def test_labels_of_a_csv_file_are_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,label\n1,1_1\n2,1_2\n3,11\n4,nan\n5,\n")
    manifest = open_source(path, val_split=0).manifest
    assert manifest.classes == ("11", "1_1", "1_2")
    assert manifest.labels.tolist() == [1, 2, 0, -1, -1]


@pytest.mark.parametrize(("num_rows", "num_values", "is_refused"), [(50, 25, False), (50, 26, True), (49, 49, False)])
def test_from_fifty_rows_on_half_of_them_are_the_most_classes(num_rows, num_values, is_refused):
    values = pa.array([f"id{i % num_values}" for i in range(num_rows)] + [""])
    if is_refused:
        with pytest.raises(DataError, match="26 different values in 50 rows"):
            index_labels(values, "label")
    else:
        assert len(index_labels(values, "label")[1]) == num_values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([0.5, 1.0, 2.0]), "fractions such as 0.5"),
        (pa.array(["1.25", "3"]), "fractions such as 1.25"),
        (pa.array(["a", "a", ""]), "All labels in 'label' are 'a'"),
        (pa.array(["", None]), "None of the 2 rows has a label"),
        (pa.array([f"id{i}" for i in range(60)]), "60 different values in 60 rows"),
        (pa.array([[1], [2]]), "of type list"),
    ],
)
def test_labels_that_are_no_classes(values, message):
    with pytest.raises(DataError, match=message):
        index_labels(values, "label")


@pytest.mark.parametrize(
    ("labels", "is_said"),
    [([0, 1, -1, -1], True), ([1, 2, -1], True), ([-1, 1], False), ([-2, -1, 0], False), ([0, 1], False)],
)
def test_minus_one_among_classes_may_mean_no_label(labels, is_said):
    _, classes, notes = index_labels(pa.array(labels), "y")
    assert len(classes) == len(set(labels)), "it stays a class"
    said = [note for note in notes if "-1 is a class like the others" in note]
    assert len(said) == is_said
    if is_said:
        assert f"of {labels.count(-1)} rows; if it means that a row has no label, leave 'y' empty there" in said[0]


@pytest.mark.parametrize("name", ["nan", "NaN", "'nan", "''nan", "NA", "-", "None"])
def test_a_class_whose_name_may_mean_no_label_is_found_again(name):
    for others in (["1", "2"], ["cat", "dog"]):
        texts = [label_text(each) for each in (name, *others)]
        labels, classes, _ = index_labels(pa.array(texts * 2), "label")
        assert set(classes) == {name, *others}
        assert classes[labels[0]] == name
