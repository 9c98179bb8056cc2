"""Decoding in threads: the pixels are those of `images.resize_crop`, and nothing is left behind."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from litscope.data.reading.decoding import AHEAD, RESIZE_BOUND, BatchDecoder, open_pool, resize
from litscope.data.reading.images import decode, resize_crop
from litscope.errors import DataError


def files(read, channels=3):
    """A reader of images of 8 pixels."""
    reader = SimpleNamespace(read=read, channels=channels, dtype=np.dtype(np.uint8))
    reader.foreseeing = lambda ids: nullcontext(reader)
    return reader


def numbered(id_, min_side=0):
    return np.full((8, 8, 3), id_, np.uint8)


def batches(num, size=4):
    return [np.arange(k * size, (k + 1) * size) for k in range(num)]


def decoding_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("litscope-decode")]


class TestResize:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("shape", [(40, 100), (101, 64), (75, 75), (20, 31), (33, 16)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_is_pillows_within_the_bound(self, channels, shape, dtype):
        array = np.random.default_rng(channels).integers(0, 256, (*shape, channels)).astype(dtype)
        for size in (16, 33, 64):
            out, expected = resize(array, size), resize_crop(array, size)
            assert out.shape == (size, size, channels)
            assert out.dtype == dtype
            assert np.abs(out.astype(float) - expected).max() <= (RESIZE_BOUND if dtype == np.uint8 else 0)

    def test_is_pillows_on_real_photographs(self, spacewarps):
        for path in sorted((spacewarps / "images").rglob("*.jpg"))[:20]:
            pixels = decode(path, 3)
            difference = resize(pixels, 224).astype(int) - resize_crop(pixels, 224)
            assert np.abs(difference).max() <= RESIZE_BOUND
            assert (difference != 0).mean() < 0.02

    def test_an_image_that_fits_is_not_touched(self):
        array = np.zeros((8, 8, 3), np.uint8)
        assert resize(array, 8) is array


class TestThreads:
    @pytest.mark.parametrize("num_threads", [0, 1, 3])
    def test_batches_come_in_order_and_in_channels_last_memory(self, num_threads):
        decoder = BatchDecoder(files(numbered), 8, num_threads)
        found = list(decoder.batches(batches(9)))
        assert [batch["sample_id"].tolist() for batch, _ in found] == [ids.tolist() for ids in batches(9)]
        for batch, broken in found:
            image = batch["image"]
            assert image.permute(0, 2, 3, 1).is_contiguous()
            assert (image == batch["sample_id"][:, None, None, None]).all()
            assert broken == {}
        decoder.close()

    def test_each_thread_works_alone_and_the_callers_threads_stay(self):
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            pool = open_pool(2)
            assert {pool.submit(torch.get_num_threads).result() for _ in range(8)} == {1}
            assert torch.get_num_threads() == 2
            pool.shutdown()
            with ThreadPoolExecutor(1) as later:
                assert later.submit(torch.get_num_threads).result() == 2
        finally:
            torch.set_num_threads(before)

    def test_no_more_is_decoded_than_a_little_ahead(self):
        read = []

        def slow(id_, min_side=0):
            read.append(id_)
            return numbered(id_)

        decoder = BatchDecoder(files(slow), 8, num_threads=1)
        found = decoder.batches(batches(40, size=16))
        next(found)
        decoder.close()  # waits for what is under way
        assert len(read) <= 16 * (1 + AHEAD)

    def test_threads_end_with_the_decoder_and_start_again(self):
        decoder = BatchDecoder(files(numbered), 8, num_threads=2)
        before = len(decoding_threads())
        for _ in range(2):
            found = decoder.batches(batches(5))
            next(found)
            assert len(decoding_threads()) > before
            found.close()
            decoder.close()
            assert len(decoding_threads()) == before

    def test_what_was_decoded_ahead_is_dropped_with_the_iterator(self):
        gate, read = threading.Event(), []

        def held(id_, min_side=0):
            if id_ >= 16:
                gate.wait(10)
            read.append(id_)
            return numbered(id_)

        decoder = BatchDecoder(files(held), 8, num_threads=1)
        found = decoder.batches(batches(30, size=16))
        next(found)
        found.close()
        gate.set()
        decoder.close()
        assert len(read) <= 16 + 8, "the part under way is finished, the others are not begun"

    @pytest.mark.parametrize("num_threads", [0, 2])
    def test_broken_images_leave_the_others_in_order(self, num_threads):
        def some(id_, min_side=0):
            if id_ in (1, 6, 7):
                raise DataError(f"{id_} is broken")
            return numbered(id_)

        decoder = BatchDecoder(files(some), 8, num_threads)
        first, second = list(decoder.batches(batches(2)))
        assert first[0]["sample_id"].tolist() == [0, 2, 3]
        assert first[0]["image"][:, 0, 0, 0].tolist() == [0, 2, 3]
        assert first[1] == {1: "1 is broken"}
        assert second[1] == {6: "6 is broken", 7: "7 is broken"}
        decoder.close()

    @pytest.mark.parametrize("num_threads", [0, 2])
    def test_any_other_error_reaches_the_caller(self, num_threads):
        def wrong(id_, min_side=0):
            raise RuntimeError("a mistake in a reader")

        decoder = BatchDecoder(files(wrong), 8, num_threads)
        with pytest.raises(RuntimeError, match="a mistake"):
            list(decoder.batches(batches(3)))
        decoder.close()
