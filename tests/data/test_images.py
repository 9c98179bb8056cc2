"""Images: one rule for each kind of file, and nothing decoded that is damaged or too large."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from litscope.data.reading import images
from litscope.data.reading.images import DECODER_BOUND, MAX_PIXELS, decode, read_header, resize_crop
from litscope.errors import DataError

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5  # (H, W) 0..235


def _bytes(image, fmt="PNG", **options):
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def _photo(height=61, width=83, seed=0):
    """Smooth colours with some noise, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("fmt", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_files_give_their_pixels(fmt):
    photo = _photo()
    assert np.array_equal(decode(_bytes(Image.fromarray(photo), fmt), 3), photo)


def test_a_damaged_second_picture_does_not_hide_the_first():
    """Flipped bytes behind the first frame: whatever Pillow makes of them, the header is read or the reason is told."""
    frames = [Image.fromarray(_photo(20, 20, seed)) for seed in range(3)]
    whole = _bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    random, num_read = np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(whole[: random.integers(len(whole) // 3, len(whole) + 1)])
        for at in random.integers(len(whole) // 3, len(damaged), 6) if len(damaged) > len(whole) // 3 else ():
            damaged[at] = random.integers(256)
        with Image.open(io.BytesIO(bytes(damaged))) as image:
            images._traits(image)
            num_read += 1
    assert num_read == 300


def test_webp_and_gif():
    photo = _photo()
    assert np.array_equal(decode(_bytes(Image.fromarray(photo), "WEBP", lossless=True), 3), photo)
    assert np.array_equal(decode(_bytes(Image.fromarray(RAMP), "GIF"), 1)[:, :, 0], RAMP)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [40, 90])
def test_simplejpeg_and_pillow_agree(quality, subsampling, progressive):
    data = _bytes(Image.fromarray(_photo()), "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    by_pillow = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data, 3).astype(int) - by_pillow).max() <= DECODER_BOUND


@pytest.mark.slow
def test_real_jpegs_agree_with_pillow(cifar10_small):
    for path in sorted(cifar10_small.glob("test/*/*.jpg"))[:100]:
        by_pillow = np.asarray(Image.open(path).convert("RGB")).astype(int)
        assert np.abs(decode(path, 3).astype(int) - by_pillow).max() <= DECODER_BOUND


def test_one_bit_and_gray():
    bits = Image.fromarray(RAMP > 100)
    assert bits.mode == "1"
    assert np.array_equal(decode(_bytes(bits), 1)[:, :, 0], np.where(RAMP > 100, 255, 0))
    gray = decode(_bytes(Image.fromarray(RAMP)), 3)
    assert np.array_equal(gray, np.repeat(RAMP[:, :, None], 3, axis=2))


def test_colour_to_gray_is_luma_in_both_decoders():
    photo = _photo().astype(np.int64)
    luma = (photo @ np.array([19595, 38470, 7471]) + 32768) >> 16
    assert np.array_equal(decode(_bytes(Image.fromarray(_photo())), 1)[:, :, 0], luma)
    jpeg = _bytes(Image.fromarray(_photo()), "JPEG", quality=95)
    expected = (decode(jpeg, 3).astype(np.int64) @ np.array([19595, 38470, 7471]) + 32768) >> 16
    assert np.array_equal(decode(jpeg, 1)[:, :, 0], expected)


def test_alpha_is_put_on_white():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (255, 0, 0, 255)
    rgba[0, 1] = (255, 0, 0, 0)  # hidden red: white
    rgba[1, 0] = (0, 0, 0, 128)
    out = decode(_bytes(Image.fromarray(rgba)), 3)
    assert out[0, 0].tolist() == [255, 0, 0]
    assert out[0, 1].tolist() == [255, 255, 255]
    assert abs(int(out[1, 0, 0]) - 127) <= 1
    gray = Image.fromarray(np.array([[[0, 255], [0, 0]]], np.uint8))
    assert gray.mode == "LA"
    assert decode(_bytes(gray), 1).ravel().tolist() == [0, 255]


def test_palette_with_and_without_transparency():
    indexed = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    indexed.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    plain = decode(_bytes(indexed), 3)
    assert plain[0].tolist() == [[255, 0, 0], [0, 255, 0]]
    see_through = decode(_bytes(indexed, transparency=1), 3)
    assert see_through[0].tolist() == [[255, 0, 0], [255, 255, 255]]
    assert not read_header(_bytes(indexed)).gray


def test_a_gray_palette_is_gray():
    indexed = Image.fromarray(RAMP).convert("P")
    indexed.putpalette([v for k in range(256) for v in (k, k, k)])
    assert read_header(_bytes(indexed)).gray
    assert np.array_equal(decode(_bytes(indexed), 1)[:, :, 0], RAMP)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("fmt", ["PNG", "GIF", "BMP", "TIFF"])
def test_the_palette_is_seen_in_the_header(fmt, gray, tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (100, 100), dtype=np.uint8)
    indexed = Image.fromarray(values).convert("P")
    indexed.putpalette([v for k in range(256) for v in (k, k, k if gray else 255 - k)])
    data = _bytes(indexed, fmt)
    assert read_header(data).gray == gray
    if fmt in ("PNG", "GIF"):
        assert read_header(data[: len(data) // 2]).gray == gray  # nothing is decoded


def test_a_transparent_colour_of_rgb_is_put_on_white():
    data = _bytes(Image.fromarray(np.array([[[9, 9, 9], [1, 2, 3]]], np.uint8)), transparency=(9, 9, 9))
    assert decode(data, 3).tolist() == [[[255, 255, 255], [1, 2, 3]]]


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_is_scaled_not_clipped(fmt):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    image = Image.fromarray(values)
    assert decode(_bytes(image, fmt), 1).ravel().tolist() == [0, 1, 128, 255]
    assert read_header(_bytes(image, fmt)).gray


def test_big_endian_16_bit_tiff():
    values = np.array([[0, 32896], [65535, 257]], np.uint16)
    header = struct.pack(">2sHI", b"MM", 42, 8)
    tags = [(256, 3, 1, 2 << 16), (257, 3, 1, 2 << 16), (258, 3, 1, 16 << 16), (259, 3, 1, 1 << 16)]
    tags += [(262, 3, 1, 1 << 16), (273, 4, 1, 200), (277, 3, 1, 1 << 16), (278, 3, 1, 2 << 16), (279, 4, 1, 8)]
    directory = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", *tag) for tag in tags) + bytes(4)
    data = (header + directory).ljust(200, b"\0") + values.astype(">u2").tobytes()
    assert Image.open(io.BytesIO(data)).mode == "I;16B"
    assert decode(data, 1)[:, :, 0].tolist() == [[0, 128], [255, 1]]


def test_32_bit_integers_outside_16_bits_have_no_scale():
    ok = Image.fromarray(np.array([[0, 65535]], np.int32))
    assert decode(_bytes(ok, "TIFF"), 1).ravel().tolist() == [0, 255]
    with pytest.raises(DataError, match=r"-1 to 70000.*\.npy"):
        decode(_bytes(Image.fromarray(np.array([[-1, 70000]], np.int32)), "TIFF"), 1)


def test_floats_are_read_as_0_to_1():
    unit = Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert decode(_bytes(unit, "TIFF"), 1).ravel().tolist() == [0, 128, 255]
    for bad in (255.0, float("nan"), -0.1):
        with pytest.raises(DataError, match=r"only 0\.\.1"):
            decode(_bytes(Image.fromarray(np.array([[0.0, bad]], np.float32)), "TIFF"), 1)


def test_cmyk_ycbcr_lab_hsv():
    cmyk = Image.fromarray(_photo()).convert("CMYK")
    expected = np.asarray(cmyk.convert("RGB"))
    assert np.array_equal(decode(_bytes(cmyk, "TIFF"), 3), expected)
    in_jpeg = decode(_bytes(cmyk, "JPEG", quality=100, subsampling=0), 3).astype(int)
    assert np.abs(in_jpeg - expected).mean() < 2
    ycbcr = Image.fromarray(_photo()).convert("YCbCr")
    assert np.array_equal(decode(_bytes(ycbcr, "TIFF"), 3), np.asarray(ycbcr.convert("RGB")))
    for mode in ("LAB", "HSV"):
        converted = images._to_gray_or_rgb(Image.new(mode, (2, 2), (128, 128, 128)))
        assert converted.mode == "RGB"


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(fmt, orientation):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = (255, 0, 0)
    upright[8:, 16:] = (0, 0, 255)
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = Image.fromarray(upright) if inverse is None else Image.fromarray(upright).transpose(inverse)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(fmt, {})
    data = _bytes(stored, fmt, exif=exif, **options)
    out = decode(data, 3)
    assert out.shape == (16, 24, 3)
    assert np.abs(out.astype(int) - upright).max() <= 4
    header = read_header(data)
    assert (header.height, header.width) == (16, 24)


def test_an_animation_is_its_first_picture():
    frames = [Image.fromarray(np.full((4, 4), v, np.uint8)) for v in (10, 200)]
    for fmt, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("PNG", {})):
        data = _bytes(frames[0], fmt, save_all=True, append_images=frames[1:], **options)
        assert np.unique(decode(data, 1)).tolist() == [10], fmt


def _huge_png(side):
    """A valid header of a side x side picture, and no pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


_QUIET = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")


@pytest.mark.parametrize("side", [pytest.param(9_460, marks=_QUIET), 9_461, 20_000])
def test_pixels_are_counted_before_they_are_decoded(side):
    for read in (read_header, lambda data: decode(data, 3)):
        with pytest.raises(DataError, match=f"{MAX_PIXELS:,}"):
            read(_huge_png(side))


def test_a_large_jpeg_is_refused_from_its_header():
    data = bytearray(_bytes(Image.fromarray(_photo()), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    for read in (read_header, lambda data: decode(data, 3)):
        with pytest.raises(DataError, match="60000 x 60000 pixels"):
            read(bytes(data))


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_cut_file_is_an_error(fmt, share):
    data = _bytes(Image.fromarray(_photo()), fmt)
    with pytest.raises(DataError):
        decode(data[: int(share * len(data))], 3)


def test_other_things_are_errors_with_a_reason(tmp_path):
    with pytest.raises(DataError, match="not an image"):
        decode(b"<html></html>", 3)
    with pytest.raises(DataError, match="no such file"):
        decode(tmp_path / "absent.jpg", 3)
    with pytest.raises(DataError, match="is a directory"):
        read_header(tmp_path)
    with pytest.raises(DataError, match=r"not 4.*\.npy"):
        decode(_bytes(Image.fromarray(_photo())), 4)


def test_a_jpeg_that_only_pillow_reads_is_read():
    data = _bytes(Image.fromarray(_photo()), "JPEG", quality=90)
    scan = data.index(b"\xff\xda")
    odd = data[:scan] + b"\0\0\0" + data[scan:]  # stray bytes before a marker
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(odd)
    assert np.array_equal(decode(odd, 3), decode(data, 3))


def test_damaged_exif_leaves_the_pixels():
    data = _bytes(Image.fromarray(_photo()), "JPEG")
    block = b"Exif\0\0II*\0\xff\xff\xff\xff"
    odd = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    assert np.array_equal(decode(odd, 3), decode(data, 3))


def test_a_long_exif_block_does_not_hide_the_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = _bytes(Image.fromarray(_photo(40, 60)), "JPEG", exif=exif)
    filler = b"\xff\xe2" + struct.pack(">H", 60_002) + bytes(60_000)
    path = tmp_path / "a.jpg"
    tables = data.index(b"\xff\xdb")
    path.write_bytes(data[:tables] + filler * 2 + data[tables:])
    assert (read_header(path).height, read_header(path).width) == (60, 40)
    assert decode(path, 3).shape == (60, 40, 3)


def test_a_large_jpeg_may_be_decoded_smaller():
    data = _bytes(Image.fromarray(_photo(400, 640)), "JPEG", quality=95)
    small = decode(data, 3, min_side=100)
    assert small.shape == (100, 160, 3)
    reference = np.asarray(Image.fromarray(_photo(400, 640)).resize((160, 100), Image.Resampling.BOX)).astype(int)
    assert np.abs(small.astype(int) - reference).mean() < 3
    assert decode(data, 3, min_side=300).shape[0] >= 300


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_resize_is_the_centre_of_the_resized_image(dtype, channels):
    rng = np.random.default_rng(channels)
    array = rng.integers(0, 256, (40, 100, channels)).astype(dtype)
    out = resize_crop(array, 16)
    assert out.shape == (16, 16, channels)
    assert out.dtype == dtype
    for k in range(channels):
        whole = np.asarray(Image.fromarray(array[:, :, k]).resize((40, 16), Image.Resampling.BILINEAR))
        inside = out[:, 1:-1, k].astype(float)  # at the cut edges antialiasing sees no pixels outside
        assert np.abs(inside - whole[:, 13:27]).max() <= 1


def test_resize_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize_crop(stripes, 16)[:, 1:-1].astype(int) - 127).max() <= 1


def test_enlarging_works():
    out = resize_crop(np.full((8, 6, 1), 9, np.uint8), 32)
    assert out.shape == (32, 32, 1)
    assert np.unique(out).tolist() == [9]


def test_an_image_that_fits_is_not_touched():
    array = np.zeros((8, 8, 1), np.uint8)
    assert resize_crop(array, 8) is array


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM"])
@pytest.mark.filterwarnings("ignore")
def test_flipped_bits_give_an_image_or_a_data_error(fmt):
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if fmt in ("JPEG", "PNG", "WEBP") else {}
    data = _bytes(Image.fromarray(_photo()), fmt, **options)
    rng = np.random.default_rng(0)
    num_read = 0
    for n in range(200):
        spoilt = bytearray(data)
        for place in rng.integers(0, len(data) if n % 2 else 300, 2):
            spoilt[place] ^= 1 << rng.integers(0, 8)
        try:
            header, pixels = read_header(bytes(spoilt)), decode(bytes(spoilt), 3)
        except DataError:
            continue
        num_read += 1
        assert pixels.shape == (header.height, header.width, 3)
    assert 0 < num_read < 200
