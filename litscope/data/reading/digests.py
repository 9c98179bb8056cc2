"""Digests: 16 bytes that say whether two samples have the same content. No torch.

    a file          blake2b of its bytes
    a row of pixels blake2b of its bytes, as they lie in memory
    a row of a table a hash of its cells by column, whatever the columns' order and the types they were read as

Of files and pixels nobody can make two with one digest. A table's hash is no cryptographic one, for a million rows may
not cost a Python call each: it is two independent 64-bit sums of well-mixed cells, so that of N rows that differ by
accident any two agree with a probability of at most about N² / 2^129 (for a million rows: 10^-27).

The digests are kept in manifests. So what is hashed here must not change with a version of litscope or Arrow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from litscope.data.reading.gaps import NUMBER_GAPS
from litscope.data.reading.regular import check_regular

DIGEST_BYTES = 16
DIGEST_TYPE = pa.binary(DIGEST_BYTES)

_WHOLE = r"^[+-]?[0-9]{1,18}$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_TRUTH = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}

_SEEDS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03))  # one for each half of a digest
_ODD = np.uint64(0xDA942042E4DD58B5)
_TEXT, _NUMERIC, _GAP = np.uint64(0x8CB92BA72F3D8DD7), np.uint64(0xA0761D6478BD642F), np.uint64(0xE7037ED1A0B428DB)

Words = npt.NDArray[np.uint64]
"""(2, n): the two halves of n hashes."""

_BLOCK = 1 << 14  # rows at a time: what is computed of them stays in the processor's cache


def new_digest() -> hashlib.blake2b:
    """A digest of bytes that come in pieces."""
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def bytes_digest(data: Any) -> bytes:
    """The digest of a file's bytes, or of a row's."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def file_digest(path: Path) -> bytes:
    """The digest of a whole file. Raises OSError, and DataError for what is no regular file."""
    check_regular(path)
    digest = new_digest()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.digest()


def array_digests(array: npt.NDArray[Any]) -> pa.Array:
    """(N,) digests of the rows of an array (N, ...), by their bytes."""
    rows = np.ascontiguousarray(array).reshape(len(array), -1)
    return pa.array([bytes_digest(row) for row in rows], DIGEST_TYPE)


def table_digests(table: pa.Table, names: Sequence[str]) -> pa.Array:
    """(N,) digests of the rows of a table.

    A cell counts as the number, the truth value or the text that it is, not as its column's type: 1, 1.0 and the text
    "1" are the same, for the type of a column in a CSV file depends on the other rows. All ways to write a gap between
    numbers are one, in every column: whether a dash is a gap or a word depends on the other rows, too.

    Args:
        table: (N rows) the columns as they were read.
        names: the columns that count, in any order.
    """
    table = table.select(list(names))
    of_names = [np.frombuffer(bytes_digest(name.encode()), "<u8").astype(np.uint64)[:, None] for name in names]
    found = np.empty((table.num_rows, 2), "<u8")
    for start in range(0, table.num_rows, _BLOCK):
        block = table.slice(start, _BLOCK)
        total: Words = np.zeros((2, block.num_rows), np.uint64)
        for values, of_name in zip(block.columns, of_names, strict=True):
            total += _mix(_cells(values) ^ of_name)
        found[start : start + _BLOCK] = _mix(total).T
    return pa.FixedSizeBinaryArray.from_buffers(DIGEST_TYPE, table.num_rows, [None, pa.py_buffer(found.tobytes())])


def _cells(values: pa.ChunkedArray) -> Words:
    """A hash of each cell of a column."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if pa.types.is_null(kind):
        return _gaps(len(array))
    if pa.types.is_decimal(kind):
        array = array.cast(pa.float64())
    if pa.types.is_integer(kind) or pa.types.is_floating(array.type):
        return _numbers(array)
    distinct = array.cast(pa.string()).dictionary_encode()
    at = distinct.indices.fill_null(len(distinct.dictionary)).to_numpy(zero_copy_only=False)
    return np.concatenate([_texts(distinct.dictionary), _gaps(1)], axis=1)[:, at]


def _texts(texts: pa.StringArray) -> Words:
    """Hashes of texts: of what is a number as of that number, of what means a gap as of a gap."""
    texts = pc.utf8_trim_whitespace(texts)
    for written, meant in _TRUTH.items():
        texts = pc.if_else(pc.equal(texts, written), meant, texts)
    found = _letters(texts)
    is_whole = pc.match_substring_regex(texts, _WHOLE).to_numpy(zero_copy_only=False)
    is_number = pc.match_substring_regex(texts, _NUMBER).to_numpy(zero_copy_only=False) & ~is_whole
    unsigned = pc.replace_substring_regex(texts, r"^\+", "")
    for chosen, kind in ((is_whole, pa.int64()), (is_number, pa.float64())):
        if chosen.any():
            found[:, chosen] = _numbers(unsigned.filter(pa.array(chosen)).cast(kind))
    is_gap = pc.is_in(texts, value_set=pa.array(NUMBER_GAPS)).to_numpy(zero_copy_only=False)
    found[:, is_gap] = _gaps(int(is_gap.sum()))
    return found


def _numbers(array: pa.Array) -> Words:
    """Hashes of numbers by their value as float64; of a whole number that float64 cannot hold, by all of its digits."""
    is_gap = array.is_null().to_numpy(zero_copy_only=False)
    exact = array.fill_null(0).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        value = exact.astype(np.float64) + 0.0  # minus zero is zero
        rest = np.zeros(len(value), np.uint64)
        if exact.dtype.kind in "iu":
            is_held = (np.abs(value) < 2.0**63) & (value.astype(exact.dtype) == exact)
            rest = np.where(is_held, 0, exact).astype(np.int64).view(np.uint64)
    found = _halves(value.view(np.uint64) ^ _NUMERIC) + rest * _ODD
    is_gap = is_gap | np.isnan(value)
    if is_gap.any():
        found[:, is_gap] = _gaps(int(is_gap.sum()))
    return found


def _letters(texts: pa.StringArray) -> Words:
    """Hashes of texts by their UTF-8 bytes: a sum over the bytes, each mixed with its place."""
    data = texts.cast(pa.large_binary())
    lengths = pc.binary_length(data).to_numpy(zero_copy_only=False).astype(np.int64)
    letters = np.frombuffer(b"".join(data.to_pylist()), np.uint8).astype(np.uint64)
    starts = np.cumsum(lengths) - lengths
    places = (np.arange(len(letters)) - np.repeat(starts, lengths)).astype(np.uint64)
    running: Words = np.zeros((2, len(letters) + 1), np.uint64)
    np.cumsum(_halves(letters | places << np.uint64(8)), axis=1, out=running[:, 1:])
    total = running[:, starts + lengths] - running[:, starts]  # sums wrap around, and so do their differences
    return _mix(total ^ lengths.astype(np.uint64) ^ _TEXT)


def _gaps(count: int) -> Words:
    return np.tile(_halves(np.array([_GAP])), count)


def _halves(values: npt.NDArray[np.uint64]) -> Words:
    """(n,) -> (2, n), mixed with a seed for each half."""
    return _mix(np.stack([values + seed for seed in _SEEDS]))


def _mix(values: Words) -> Words:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014), in place: each bit that goes in changes half of them."""
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
