"""Pictures are written whole, show what they should, and leave matplotlib as it was."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from litscope.pictures import lettering
from litscope.pictures.charts import cell_colours, confusion_matrix, curves, lr_curve
from litscope.pictures.colours import BLACK, INK, LEAST_CONTRAST, ORANGE_TEXT, SECOND_INK, WHITE, contrast, rgb, text_on
from litscope.pictures.colours import BLUE as COLOUR_OF_RIGHT
from litscope.pictures.contact_sheet import _font, contact_sheet

BLUE, ORANGE = (0x1F, 0x6F, 0xD1), (0xE2, 0x71, 0x1D)
TILE, GAP = 160, 14

pytestmark = pytest.mark.pictures


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def num_pixels(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((np.abs(picture - color).max(axis=-1) <= 2).sum())


def tile(picture: np.ndarray, column: int = 0) -> np.ndarray:
    left = GAP + column * (TILE + GAP)
    return picture[GAP : GAP + TILE, left : left + TILE]


def epochs(n: int, **columns: list[object]) -> list[dict[str, object]]:
    return [
        {"epoch": i, **{name.replace("_", "/", 1): values[i] for name, values in columns.items()}} for i in range(n)
    ]


# ---- curves ----------------------------------------------------------------------------------


def test_curves_show_training_and_validation(tmp_path: Path) -> None:
    rows = epochs(3, train_loss=[1.0, 0.5, 0.2], val_loss=[1.0, 0.6, 0.7], lr=[0.1, 0.05, 0.0])
    curves(rows, tmp_path / "c.png")
    both = read(tmp_path / "c.png")
    assert num_pixels(both, BLUE) > 300
    assert num_pixels(both, ORANGE) > 300
    curves(epochs(3, train_loss=[1.0, 0.5, 0.2]), tmp_path / "t.png")
    alone = read(tmp_path / "t.png")
    assert num_pixels(alone, ORANGE) == 0
    assert alone.shape[1] * 2 == pytest.approx(both.shape[1], abs=2)  # one panel for each thing recorded


@pytest.mark.parametrize(
    "rows",
    [
        epochs(1, train_loss=[0.5], val_loss=[0.4], val_accuracy=[0.9]),
        epochs(3, train_loss=[None, 0.5, math.nan], val_loss=[math.inf, None, None]),
        epochs(2, lr=[0.0, 0.0]),
        epochs(2),
        [],
    ],
)
def test_gaps_single_epochs_and_missing_columns(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    curves(rows, tmp_path / "c.png")
    assert read(tmp_path / "c.png").shape[0] > 300


# ---- confusion matrix ------------------------------------------------------------------------


def test_right_is_blue_wrong_is_orange_and_stronger_with_its_share(tmp_path: Path) -> None:
    confusion_matrix(np.diag([5, 5]), ["a", "b"], tmp_path / "right.png")
    confusion_matrix(np.array([[0, 5], [5, 0]]), ["a", "b"], tmp_path / "wrong.png")
    right, wrong = read(tmp_path / "right.png"), read(tmp_path / "wrong.png")
    cells = 2 * 100 * 100  # each at least this many pixels
    assert num_pixels(right, BLUE) > cells > num_pixels(right, ORANGE) == 0
    assert num_pixels(wrong, ORANGE) > cells > num_pixels(wrong, BLUE) == 0


@pytest.mark.thorough
@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_cells_are_large_enough_to_read(tmp_path: Path, num_classes: int) -> None:
    matrix = np.eye(num_classes, dtype=int) * 7
    confusion_matrix(matrix, [f"a rather long class name {i}" for i in range(num_classes)], tmp_path / "c.png")
    picture = read(tmp_path / "c.png")
    side = math.sqrt(num_pixels(picture, BLUE) / num_classes)
    assert side > {2: 60, 10: 50, 100: 14}[num_classes]
    assert max(picture.shape) < 2600
    left_of_cells = picture[:, : (np.abs(picture - BLUE).max(axis=-1) <= 2).any(axis=0).argmax()]
    assert (left_of_cells.max(axis=-1) < 128).sum() > 20 * num_classes  # the names
    edge = np.concatenate([picture[:2].ravel(), picture[-2:].ravel(), picture[:, :2].ravel(), picture[:, -2:].ravel()])
    assert (edge == 255).all()  # nothing is cut away


def test_classes_without_samples_and_an_empty_matrix(tmp_path: Path) -> None:
    confusion_matrix(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]]), ["a", "b", "ü"], tmp_path / "c.png")
    confusion_matrix(np.zeros((3, 3), int), ["a", "b", "c"], tmp_path / "e.png")
    assert num_pixels(read(tmp_path / "e.png"), BLUE) == 0


# ---- learning-rate sweep ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["$a^$", "cost $\\frac$ $", "\x1b[31mred", "new\nline", "猫"])
def test_a_name_is_drawn_as_it_is(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    confusion_matrix(np.eye(2), [name, "b"], tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 0
    assert ("the font has no signs for some of the names" in capsys.readouterr().err) == (name == "猫")


@pytest.mark.slow
def test_a_sweep_shows_its_suggestion(tmp_path: Path) -> None:
    lr = np.geomspace(1e-6, 1, 50)
    loss = 2 - np.log10(lr) * 0.1
    lr_curve([lr, lr[:30]], [loss, loss[:30]], 1e-3, tmp_path / "a.png", smooth=[loss, loss[:30]], spread=(5e-4, 2e-3))
    lr_curve([lr], [loss], None, tmp_path / "b.png")
    with_one, without = read(tmp_path / "a.png"), read(tmp_path / "b.png")
    lines = (np.abs(with_one - ORANGE).max(axis=-1) <= 2).sum(axis=0)
    assert lines.max() > 200  # a vertical line
    assert num_pixels(without, ORANGE) < num_pixels(with_one, ORANGE)


def test_a_loss_that_blows_up_does_not_flatten_the_rest(tmp_path: Path) -> None:
    lr = np.geomspace(1e-6, 1, 60)
    loss = np.concatenate([np.linspace(2, 1, 50), [1e3, 1e9, 1e30, np.inf, np.nan] * 2])
    lr_curve([lr], [loss], 1e-3, tmp_path / "a.png")
    drawn = (np.abs(read(tmp_path / "a.png") - BLUE).max(axis=-1) < 90).any(axis=1).nonzero()[0]
    assert drawn.max() - drawn.min() > 200


def test_sweeps_that_were_never_finite(tmp_path: Path) -> None:
    lr_curve([[1e-3, 1e-2]], [[math.nan, math.inf]], None, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


# ---- contact sheet ---------------------------------------------------------------------------


def test_a_small_image_is_enlarged_without_blurring(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[2, 5] = (255, 0, 0)
    contact_sheet([image], ["x"], tmp_path / "s.png")
    shown = tile(read(tmp_path / "s.png"))
    expected = np.zeros((TILE, TILE, 3), int)
    expected[40:60, 100:120] = (255, 0, 0)
    np.testing.assert_array_equal(shown, expected)


def test_a_large_image_keeps_its_shape(tmp_path: Path) -> None:
    contact_sheet([np.full((400, 800, 3), 200, np.uint8)], ["x"], tmp_path / "s.png")
    shown = tile(read(tmp_path / "s.png"))
    assert (shown[40:120] == 200).all()
    assert (shown[:38] != 200).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 4), (10, 10, 10)), ((4, 4, 1), (10, 10, 10)), ((4, 4, 2), (10, 20, 20)), ((4, 4, 3), (10, 20, 30)),
     ((4, 4, 7), (10, 20, 30))],
)  # fmt: skip
def test_any_number_of_bands(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    bands = shape[2] if len(shape) == 3 else 1
    image = np.broadcast_to(10 * np.arange(1, bands + 1, dtype=np.uint8), (4, 4, bands)).reshape(shape)
    contact_sheet([image], ["x"], tmp_path / "s.png")
    assert tile(read(tmp_path / "s.png"))[80, 80].tolist() == list(expected)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int16])
def test_other_types_are_stretched(tmp_path: Path, dtype: type) -> None:
    image = (
        np.repeat(np.linspace(-300 if dtype is not np.uint16 else 0, 5000, 100), 100).reshape(100, 100).astype(dtype)
    )
    contact_sheet([image], ["x"], tmp_path / "s.png")
    column = tile(read(tmp_path / "s.png"))[30:130, 80, 0]
    assert (column[0], column[-1]) == (0, 255)
    assert (np.diff(column) >= 0).all()


def test_constant_and_broken_images_do_not_fail(tmp_path: Path) -> None:
    nothing = np.full((5, 5), np.nan, np.float32)
    partly = np.where(np.eye(5) > 0, np.inf, 1.0)
    contact_sheet([nothing, partly, np.ones((1, 1, 3), np.float32)], ["a", "b", "c"], tmp_path / "s.png")
    assert (tile(read(tmp_path / "s.png"))[80, 80] == 0).all()


@pytest.mark.parametrize(
    ("num_images", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (10, 5, 2), (20, 5, 4), (100, 10, 10)]
)
def test_the_grid(tmp_path: Path, num_images: int, columns: int, rows: int) -> None:
    contact_sheet([np.zeros((2, 2), np.uint8)] * num_images, ["a\nb"] * num_images, tmp_path / "s.png")
    height, width, _ = read(tmp_path / "s.png").shape
    assert width == GAP + columns * (TILE + GAP)
    assert height == GAP + rows * (TILE + 6 + 2 * 17 + GAP)
    contact_sheet([np.zeros((2, 2), np.uint8)] * num_images, ["a"] * num_images, tmp_path / "s.png", columns=2)
    assert read(tmp_path / "s.png").shape[1] <= GAP + 2 * (TILE + GAP)


def test_a_long_caption_keeps_to_its_tile(tmp_path: Path) -> None:
    black = np.zeros((4, 4), np.uint8)
    contact_sheet([black, black], ["W" * 300 + "\n" + "some/very/long/path" * 9, "x"], tmp_path / "s.png")
    picture = read(tmp_path / "s.png")
    between = picture[:, GAP + TILE + 1 : 2 * GAP + TILE - 1]
    assert (between == 255).all()
    font = _font(13)
    for text in ("train/folder/of/images/00017.jpg" * 3, "ab", "a"):
        fitted = lettering.cut(text, lambda line: font.getlength(line) <= 100)
        assert font.getlength(fitted) <= 100
        assert (fitted[0], fitted[-1]) == (text[0], text[-1])


# ---- text that is read -----------------------------------------------------------------------


def text_contrast(picture: np.ndarray) -> float:
    """That of the colour most unlike the background to the background, of a piece of a picture with text on it."""
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    background = tuple(colours[counts.argmax()].tolist())
    return max(contrast(tuple(colour.tolist()), background) for colour in colours)


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast(rgb(BLACK), rgb(WHITE)) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb(WHITE)) == pytest.approx(4.478, abs=1e-3)  # the usual example: just too little
    assert contrast(rgb(WHITE), rgb("#767676")) == pytest.approx(4.542, abs=1e-3)


def test_text_is_read_on_every_cell_and_on_white() -> None:
    for share in np.linspace(0, 1, 201):
        counts = np.array([[share, 1 - share], [1 - share, share]])
        for colour in cell_colours(counts).reshape(-1, 3).tolist():
            assert contrast(rgb(text_on(tuple(colour))), tuple(colour)) >= LEAST_CONTRAST
    for text in (INK, SECOND_INK, ORANGE_TEXT, COLOUR_OF_RIGHT):
        assert contrast(rgb(text), rgb(WHITE)) >= LEAST_CONTRAST
    assert contrast(ORANGE, rgb(WHITE)) < LEAST_CONTRAST, "orange of lines is too light for text"


@pytest.mark.parametrize("right", [100, 70, 55, 30])
def test_the_counts_of_a_confusion_matrix_are_read(tmp_path: Path, right: int) -> None:
    confusion_matrix(np.array([[right, 100 - right], [100 - right, right]]), ["a", "b"], tmp_path / "c.png")
    picture = read(tmp_path / "c.png")
    is_cell = np.abs(picture - cell_colours(np.array([[right, 100 - right]] * 2))[0, 0]).max(axis=-1) <= 1
    rows, columns = is_cell.any(axis=1).nonzero()[0], is_cell.any(axis=0).nonzero()[0]
    cell = picture[rows[0] + 4 : rows[0] + 100, columns[0] + 4 : columns[0] + 100]
    assert text_contrast(cell) >= LEAST_CONTRAST


def test_the_lines_of_a_contact_sheet_are_read(tmp_path: Path) -> None:
    contact_sheet([np.zeros((2, 2), np.uint8)], ["cat → dog?\nkey"], tmp_path / "s.png", title="a run")
    picture = read(tmp_path / "s.png")
    below = picture[-(2 * 17 + GAP + 6) :]
    for line in (picture[: GAP + 20], below[:20], below[20:38]):
        assert text_contrast(line) >= LEAST_CONTRAST


def test_a_long_name_is_broken_not_cut(tmp_path: Path) -> None:
    def fits(line: str) -> bool:
        return len(line) <= 12

    assert lettering.wrapped("golden_retriever puppy", fits, 4) == ["golden_", "retriever", "puppy"]
    assert "".join(lettering.wrapped("a" * 30, fits, 4)) == "a" * 30
    assert lettering.wrapped("a b", fits, 4) == ["a b"]
    lines = lettering.wrapped("one two three four five six seven", fits, 2)
    assert (lines[0], len(lines), lines[1][0], lines[1][-1]) == ("one two", 2, "t", "n")
    black = np.zeros((4, 4), np.uint8)
    contact_sheet([black, black], ["cat → dog?\nkey"] * 2, tmp_path / "short.png")
    contact_sheet([black, black], ["a_rather_long_name of_a_class → another_such_name?\nkey"] * 2, tmp_path / "s.png")
    more = read(tmp_path / "s.png").shape[0] - read(tmp_path / "short.png").shape[0]
    assert more in (2 * 17, 3 * 17)


def test_a_title_says_what_a_picture_shows(tmp_path: Path) -> None:
    black = np.zeros((4, 4), np.uint8)
    contact_sheet([black], ["a"], tmp_path / "plain.png")
    contact_sheet([black], ["a"], tmp_path / "s.png", title="a run: the 1 hardest sample of train, by its mean loss")
    plain, titled = read(tmp_path / "plain.png"), read(tmp_path / "s.png")
    top = titled.shape[0] - plain.shape[0]
    assert top >= 3 * 22, "broken to the width of one tile"
    assert (titled[top:] == plain).all()
    assert (titled[:top].max(axis=-1) < 100).sum() > 200
    confusion_matrix(np.eye(2), ["a", "b"], tmp_path / "c.png")
    confusion_matrix(np.eye(2), ["a", "b"], tmp_path / "t.png", title="a run: $x split\x1b[31m")
    assert read(tmp_path / "t.png").shape[0] > read(tmp_path / "c.png").shape[0]


def test_curves_show_the_monitored_metric(tmp_path: Path) -> None:
    rows = epochs(3, train_loss=[1.0, 0.5, 0.2], val_f1=[0.2, 0.9, 0.5], train_f1=[0.1, 0.5, 0.6])
    curves(rows, tmp_path / "a.png")
    curves(rows, tmp_path / "b.png", monitor="val/f1", mode="max")
    without, shown = read(tmp_path / "a.png"), read(tmp_path / "b.png")
    assert num_pixels(without, ORANGE) == 0
    assert num_pixels(shown, ORANGE) > 300
    assert shown.shape[1] == pytest.approx(2 * without.shape[1], abs=2)
    curves(rows, tmp_path / "c.png", monitor="train/loss", mode="min")
    assert num_pixels(read(tmp_path / "c.png"), BLUE) > num_pixels(without, BLUE), "its best epoch is marked"


# ---- manners ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_matplotlib_s_settings_and_pyplot_are_left_alone(tmp_path: Path) -> None:
    code = f"""if True:
        import sys, pathlib, numpy as np
        import matplotlib
        before = dict(matplotlib.rcParams)
        from litscope.pictures.charts import confusion_matrix, curves, lr_curve
        from litscope.pictures.contact_sheet import contact_sheet
        folder = pathlib.Path({str(tmp_path)!r})
        curves([{{"epoch": 0, "train/loss": 1.0}}], folder / "a.png")
        confusion_matrix(np.eye(2), ["a", "b"], folder / "b.png")
        lr_curve([[1, 2]], [[1, 2]], 1.5, folder / "c.png")
        contact_sheet([np.zeros((2, 2), np.uint8)], ["a"], folder / "d.png")
        assert dict(matplotlib.rcParams) == before
        print([name in sys.modules for name in ("matplotlib.pyplot", "torch")])
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[False, False]", done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png", "d.png"]


def test_importing_pictures_imports_no_matplotlib() -> None:
    modules = "litscope.pictures.charts, litscope.pictures.contact_sheet"
    code = f"import sys, {modules}; print([n in sys.modules for n in ('matplotlib', 'PIL', 'torch')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[False, False, False]"
