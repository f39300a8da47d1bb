"""Triton kernels of the concept step for 16-bit models: each image tensor is read once, everything else is float32.

Imported only by :mod:`workbench.recording.fused`, once a CUDA device is there and Triton with it. The last dimension of
every tensor is contiguous; other strides are free.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _pairs(tile, ROWS: tl.constexpr, DIM: tl.constexpr):
    """Even and odd columns (row, dim / 2) of a tile (row, dim)."""
    return tl.split(tl.reshape(tile, (ROWS, DIM // 2, 2)))


@triton.jit
def _image(
    image,
    cos,
    sin,
    rows,
    inside,
    row_stride,
    table_stride,
    ROTARY: tl.constexpr,
    BLOCK: tl.constexpr,
    DIM: tl.constexpr,
):
    """Even and odd columns of the image's vectors in float32, rotated and rounded as the model does."""
    dims = tl.arange(0, DIM)
    tile = tl.load(image + rows[:, None] * row_stride + dims[None, :], mask=inside[:, None], other=0.0)
    even, odd = _pairs(tile.to(tl.float32), BLOCK, DIM)
    if ROTARY:
        at = rows[:, None] * table_stride + dims[None, :]
        cos_even, cos_odd = _pairs(tl.load(cos + at, mask=inside[:, None], other=0.0), BLOCK, DIM)
        sin_even, sin_odd = _pairs(tl.load(sin + at, mask=inside[:, None], other=0.0), BLOCK, DIM)
        dtype: tl.constexpr = image.dtype.element_ty
        rotated_even = (even * cos_even + (-odd) * sin_even).to(dtype).to(tl.float32)
        rotated_odd = (odd * cos_odd + even * sin_odd).to(dtype).to(tl.float32)
        even, odd = rotated_even, rotated_odd
    return even, odd


@triton.jit
def _row(vectors, even, odd, scale, DIM: tl.constexpr):
    """Inner products of one scaled vector with the rows of a tile."""
    pairs = 2 * tl.arange(0, DIM // 2)
    first = tl.load(vectors + pairs).to(tl.float32) * scale
    second = tl.load(vectors + pairs + 1).to(tl.float32) * scale
    return tl.sum(even * first[None, :] + odd * second[None, :], axis=1)


@triton.jit
def _bits(values, inside):
    """The largest magnitude as an integer of the same order, in which NaN is above infinity."""
    return tl.max(tl.where(inside, tl.abs(values), 0.0).to(tl.int32, bitcast=True), axis=0)


@triton.jit(do_not_specialize=["concepts", "patches"])
def scores_kernel(
    vectors, image, cos, sin, scores, magnitude, scale, concepts, patches,
    vectors_batch, vectors_head, vectors_concept, image_batch, image_head, image_row, table_row,
    ROTARY: tl.constexpr, BLOCK: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """Scores (batch, head, concept, patch) of concepts and image; grid (blocks of patches, head, batch)."""
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < patches
    image += batch * image_batch + head * image_head
    even, odd = _image(image, cos, sin, rows, inside, image_row, table_row, ROTARY, BLOCK, DIM)
    vectors += batch * vectors_batch + head * vectors_head
    scores += (batch * tl.num_programs(1) + head) * concepts * patches + rows
    most = tl.zeros((), tl.int32)
    for _ in range(concepts):
        values = _row(vectors, even, odd, scale, DIM)
        tl.store(scores, values, mask=inside)
        most = tl.maximum(most, _bits(values, inside))
        vectors += vectors_concept
        scores += patches
    tl.atomic_max(magnitude, most)


@triton.jit(do_not_specialize=["concepts", "patches"])
def attention_kernel(
    query, key, value, cos, sin, scores, magnitude, parts, scale, concepts, patches,
    query_batch, query_head, query_concept, key_batch, key_head, key_row, value_batch, value_head, value_row, table_row,
    BLOCK: tl.constexpr, DIM: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Logits over the image, and the softmax-weighted values of one block of patches, before the blocks are joined.

    Grid (blocks of patches, head, batch). ``parts`` holds, for each block, the values weighted by the powers of its
    logits (batch, head, concept, block, dim), then its largest logit and the sum of the powers (batch, head, concept,
    block). Tensor cores multiply 16-bit numbers exactly and add in float32; a power is the sum of three of those.
    """
    block, blocks = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    heads = tl.num_programs(1)
    dtype: tl.constexpr = key.dtype.element_ty
    dims = tl.arange(0, DIM)
    rows = block * BLOCK + tl.arange(0, BLOCK)
    inside = rows < patches
    key += batch * key_batch + head * key_head
    even, odd = _image(key, cos, sin, rows, inside, key_row, table_row, True, BLOCK, DIM)
    keys = tl.trans(tl.reshape(tl.join(even, odd), (BLOCK, DIM)).to(dtype))
    value += batch * value_batch + head * value_head
    values = tl.load(value + rows[:, None] * value_row + dims[None, :], mask=inside[:, None], other=0.0)
    query += batch * query_batch + head * query_head
    first = (batch * heads + head) * concepts
    count = tl.num_programs(2).to(tl.int64) * heads * concepts * blocks
    most = tl.zeros((), tl.int32)
    for start in range(0, concepts, GROUP):
        group = start + tl.arange(0, GROUP)
        present = group < concepts
        queries = tl.load(query + group[:, None] * query_concept + dims[None, :], mask=present[:, None], other=0.0)
        logits = tl.dot(queries, keys) * scale
        there = present[:, None] & inside[None, :]
        tl.store(scores + (first + group)[:, None] * patches + rows[None, :], logits, mask=there)
        sizes = tl.where(there, tl.abs(logits), 0.0).to(tl.int32, bitcast=True)
        most = tl.maximum(most, tl.max(tl.max(sizes, axis=1), axis=0))
        logits = tl.where(inside[None, :], logits, float("-inf"))
        tops = tl.max(logits, axis=1)
        powers = tl.exp(logits - tops[:, None])
        high = powers.to(dtype)
        rest = powers - high.to(tl.float32)
        middle = rest.to(dtype)
        low = (rest - middle.to(tl.float32)).to(dtype)
        mixed = tl.dot(high, values, tl.dot(middle, values, tl.dot(low, values)))
        at = (first + group) * blocks + block
        tl.store(parts + at[:, None] * DIM + dims[None, :], mixed, mask=present[:, None])
        tl.store(parts + count * DIM + at, tops, mask=present)
        tl.store(parts + count * (DIM + 1) + at, tl.sum(powers, axis=1), mask=present)
    tl.atomic_max(magnitude, most)


@triton.jit(do_not_specialize=["concepts", "blocks"])
def joining_kernel(
    query, key, value, parts, attended, lse, scale, concepts, blocks,
    query_batch, query_head, query_concept, key_batch, key_head, key_concept, value_batch, value_head, value_concept,
    OWN: tl.constexpr, CONCEPTS: tl.constexpr, BLOCKS: tl.constexpr, STEP: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """Attention over the image, and over the concepts as well when ``OWN``; grid (concept, head, batch).

    ``attended`` is (batch, concept, head, dim), ``lse`` (image or concepts, batch, head, concept).
    """
    concept, heads = tl.program_id(0).to(tl.int64), tl.num_programs(1)
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    dims, others = tl.arange(0, DIM), tl.arange(0, CONCEPTS)
    present = others < concepts
    query += batch * query_batch + head * query_head + concept * query_concept
    key += batch * key_batch + head * key_head
    value += batch * value_batch + head * value_head
    own_query = tl.load(query + dims).to(tl.float32) * scale
    own_keys = tl.load(key + others[:, None] * key_concept + dims[None, :], mask=present[:, None], other=0.0)
    own_logits = tl.sum(own_keys.to(tl.float32) * own_query[None, :], axis=1)
    own_logits = tl.where(present, own_logits, float("-inf"))
    own_top = tl.max(own_logits, axis=0)

    place = (batch * heads + head) * concepts + concept
    every_place = tl.num_programs(2).to(tl.int64) * heads * concepts
    mixed = parts + place * blocks * DIM
    tops = parts + every_place * blocks * DIM + place * blocks
    sums = parts + every_place * blocks * (DIM + 1) + place * blocks
    every = tl.arange(0, BLOCKS)
    block_tops = tl.load(tops + every, mask=every < blocks, other=float("-inf"))
    block_sums = tl.load(sums + every, mask=every < blocks, other=0.0)
    image_top = tl.max(block_tops, axis=0)
    image_sum = tl.sum(block_sums * tl.exp(block_tops - image_top), axis=0)
    tl.store(lse + place, image_top + tl.log(image_sum))
    tl.store(lse + every_place + place, own_top + tl.log(tl.sum(tl.exp(own_logits - own_top), axis=0)))

    top = image_top
    if OWN:
        top = tl.maximum(image_top, own_top)
    total = image_sum * tl.exp(image_top - top)
    output = tl.zeros((DIM,), tl.float32)
    for start in range(0, blocks, STEP):
        some = start + tl.arange(0, STEP)
        weights = tl.exp(tl.load(tops + some, mask=some < blocks, other=float("-inf")) - top)
        joined = tl.load(mixed + some[:, None] * DIM + dims[None, :], mask=(some < blocks)[:, None], other=0.0)
        output += tl.sum(weights[:, None] * joined, axis=0)
    if OWN:
        own_values = tl.load(value + others[:, None] * value_concept + dims[None, :], mask=present[:, None], other=0.0)
        powers = tl.exp(own_logits - top)
        total += tl.sum(powers, axis=0)
        output += tl.sum(powers[:, None] * own_values.to(tl.float32), axis=0)
    tl.store(attended + ((batch * concepts + concept) * heads + head) * DIM + dims, output / total)


@triton.jit(do_not_specialize=["heads", "length"])
def reducing_kernel(scores, magnitude, half, rest, summed, most, heads, length, BLOCK: tl.constexpr):
    """Scores (head, length) in float16 with the rest, their sums over heads, their magnitude; grid (blocks of length).

    The rest is that of :func:`workbench.store.residuals.split`: all but the last rounding is exact.
    """
    if tl.program_id(0) == 0:
        tl.store(most, tl.load(magnitude))
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < length
    total = tl.zeros((BLOCK,), tl.float32)
    scores += places
    half += places
    rest += places
    for _ in range(heads):
        values = tl.load(scores, mask=inside, other=0.0)
        rounded = values.to(tl.float16)
        wide = rounded.to(tl.float32)
        exponents = tl.maximum(((wide.to(tl.int32, bitcast=True) >> 23) & 255) - 18, 117)
        per_step = ((254 - exponents) << 23).to(tl.float32, bitcast=True)
        # Added to 1.5 * 2^23, a small number is rounded to a whole one, ties to even, also in a fused product.
        counts = ((values - wide) * per_step + 12582912.0) - 12582912.0
        counts = tl.minimum(tl.maximum(counts, -128.0), 127.0)
        tl.store(half, rounded, mask=inside)
        tl.store(rest, counts.to(tl.int32).to(tl.int8), mask=inside)
        total += values
        scores += length
        half += length
        rest += length
    tl.store(summed + places, total, mask=inside)
