"""Scratch of matmuls: the rules by hand, and against the allocator."""

import json
import os
import random
import subprocess
import sys
from contextlib import suppress
from itertools import product as combinations
from pathlib import Path

import pytest

from harness.prediction.mlp.matmul import (
    Layout,
    UnknownScratchError,
    brgemm_bytes,
    gemm_bytes,
    read_cpu_flags,
    scratch_of,
)
from harness.prediction.torch_rules import (
    SCRATCH_OF_VECTORS,
    SCRATCH_WITH_SUMS,
    SCRATCH_WITHOUT_SUMS,
)
from harness.prediction.versions import TorchVersion, describing
from tests.prediction.matmul_cases import Product

CORE = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})
BF16 = CORE | {"avx512_vnni", "avx512_bf16"}
LAYOUTS: tuple[Layout, ...] = ("NN", "NT", "TN")


@pytest.mark.parametrize(
    ("shape", "threads", "size"),
    [
        ((64, 48, 32), 1, 64 * 32 * 4 + 128),
        ((64, 48, 32), 2, 64 * 32 * 4 + 128),
        # 160 elements -> three blocks of 64; of two threads each 80 -> 128
        ((10, 4096, 16), 1, 192 * 4 + 128),
        ((10, 4096, 16), 2, 256 * 4 + 128),
        # 272 elements -> 320; two threads: 136 = 8 whole rows of 16 + 8 -> 128 each, less
        ((17, 64, 16), 2, 320 * 4 + 128),
        # two threads: 136 = 8 rows of 17, 136 -> 192 each
        ((16, 64, 17), 2, 384 * 4 + 128),
        ((16, 16, 16), 1, 0),
        ((17, 16, 16), 1, 320 * 4 + 128),
    ],
)
def test_blocks_of_64_elements_a_thread(
    shape: tuple[int, int, int], threads: int, size: int
) -> None:
    assert gemm_bytes(*shape, "NN", threads=threads) == size


def test_one_row_of_dot_products_takes_none() -> None:
    assert gemm_bytes(1, 64, 257, "NT", threads=1) == 0
    assert gemm_bytes(257, 64, 1, "NT", threads=1) == 0
    assert gemm_bytes(5000, 1, 1, "NN", threads=1) == 0
    assert gemm_bytes(1, 64, 257, "NN", threads=1) == 320 * 4 + 128


def booked(threads: int, *buffers: int) -> int:
    """Return the scratchpad of the buffers of a thread and of its 16 addresses of 40 bytes."""
    return sum(threads * size + 128 for size in (640, *buffers))


@pytest.mark.parametrize(
    ("product", "size"),
    [
        (Product(16, 16, 16, "NN", 1), 0),
        # k to 64; all rows in one block, or half of them where there are two threads
        (Product(64, 48, 32, "NN", 1), booked(1, 64 * 64 * 2, 64 * 32 * 4)),
        (Product(64, 48, 32, "NT", 2), booked(2, 64 * 64 * 2, 32 * 32 * 4)),
        # the left factor is copied: rows of 48 -> 64 elements
        (Product(64, 48, 32, "TN", 1), booked(1, 64 * 64 * 2, 64 * 32 * 4, 64 * 64 * 2)),
        # blocks of 1024 along k, of 512 where the left factor is by columns: 512 + 32 a row
        (Product(64, 2000, 32, "NN", 1), booked(1, 64 * 1024 * 2, 64 * 32 * 4)),
        (Product(64, 2000, 32, "TN", 1), booked(1, 64 * 512 * 2, 64 * 32 * 4, 64 * 544 * 2)),
        # 4096 along k falls onto the same cache sets: copied from 1024 rows on
        (
            Product(1024, 4096, 32, "NN", 1),
            booked(1, 64 * 1024 * 2, 256 * 32 * 4, 256 * (1024 + 32) * 2),
        ),
        # two threads share k, each with all of the output
        (Product(16, 4096, 32, "TN", 2), booked(2, 64 * 512 * 2, 16 * 32 * 4, 16 * 544 * 2)),
        # one column is one row
        (Product(257, 64, 1, "NT", 1), booked(1, 64 * 64 * 2, 64 * 4)),
        (Product(1, 64, 257, "NN", 1), booked(1, 64 * 64 * 2, 64 * 4)),
    ],
    ids=str,
)
def test_blocks_that_are_packed_and_copied(product: Product, size: int) -> None:
    m, k, n, layout, threads = product
    assert brgemm_bytes(m, k, n, layout, threads=threads, rule=SCRATCH_WITH_SUMS) == size


@pytest.mark.parametrize(
    ("product", "size"),
    [
        # the sums of a block of 64 x 32 stay in registers
        (Product(64, 48, 32, "NN", 1), booked(1, 64 * 64 * 2)),
        (Product(64, 48, 32, "TN", 1), booked(1, 64 * 64 * 2, 64 * 64 * 2)),
        # k is split in blocks of 1024, so sums are kept between them
        (Product(64, 2000, 32, "NN", 1), booked(1, 64 * 1024 * 2, 64 * 32 * 4)),
    ],
    ids=str,
)
def test_before_onednn_3_10_only_split_products_keep_sums(product: Product, size: int) -> None:
    m, k, n, layout, threads = product
    assert brgemm_bytes(m, k, n, layout, threads=threads, rule=SCRATCH_WITHOUT_SUMS) == size


@pytest.mark.parametrize(
    ("product", "size"),
    [
        # sums of 5 rows, nothing packed; each thread has its own
        (Product(5, 999, 1, "NN", 1), booked(1, 5 * 4)),
        (Product(5, 999, 1, "TN", 3), booked(3, 5 * 4)),
        (Product(1, 999, 5, "NT", 1), booked(1, 5 * 4)),
        # 5000 rows in 20 blocks of 250, in 36 of 139 for three threads
        (Product(5000, 1, 1, "NT", 1), booked(1, 250 * 4)),
        (Product(5000, 1, 1, "NT", 3), booked(3, 139 * 4)),
        # a matrix and a matrix: as before
        (Product(64, 48, 32, "NN", 1), booked(1, 64 * 64 * 2, 64 * 32 * 4)),
    ],
    ids=str,
)
def test_since_onednn_3_13_nothing_is_packed_for_a_vector(product: Product, size: int) -> None:
    m, k, n, layout, threads = product
    assert brgemm_bytes(m, k, n, layout, threads=threads, rule=SCRATCH_OF_VECTORS) == size


def test_what_depends_on_the_size_of_a_cache_is_refused() -> None:
    """Rows that are a power of 2 apart fall onto the same cache sets; then k is split."""

    def size(k: int, layout: Layout, threads: int) -> int:
        return brgemm_bytes(1, k, 64, layout, threads=threads, rule=SCRATCH_OF_VECTORS)

    with pytest.raises(UnknownScratchError, match=r"\(64, 8192\) x .* 2 threads.*cache"):
        size(8192, "NN", 2)
    assert size(8192, "NT", 2) == size(2048, "NN", 2) == booked(2, 32 * 4)
    assert size(8192, "NN", 1) == booked(1, 64 * 4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_full_precision_takes_none_on_any_processor(dtype: str) -> None:
    assert scratch_of(dtype, 1, frozenset()) is None


def test_the_kernel_is_the_processors() -> None:
    rules = {7: SCRATCH_WITHOUT_SUMS, 13: SCRATCH_WITH_SUMS, 15: SCRATCH_OF_VECTORS}
    for minor, rule in rules.items():
        with describing(TorchVersion(2, minor)):
            of_core, of_bf16 = scratch_of("bfloat16", 2, CORE), scratch_of("bfloat16", 2, BF16)
        assert of_core is not None
        assert of_bf16 is not None
        expected = brgemm_bytes(1, 480, 32, "NT", threads=2, rule=rule)
        assert of_bf16(1, 480, 32, "NT") == expected
        assert of_core(64, 48, 32, "NT") == gemm_bytes(64, 48, 32, "NT", threads=2)
    assert scratch_of("float16", 1, CORE) is None


def test_kernels_that_were_not_followed_are_named() -> None:
    with pytest.raises(UnknownScratchError, match=r"bfloat16 matmuls .* amx_bf16"):
        scratch_of("bfloat16", 1, BF16 | {"amx_bf16"})
    with pytest.raises(UnknownScratchError, match="without AVX-512"):
        scratch_of("bfloat16", 1, frozenset({"avx2"}))


def test_a_cap_on_onednn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(UnknownScratchError, match="ONEDNN_MAX_CPU_ISA"):
        scratch_of("bfloat16", 1)
    assert scratch_of("float32", 1) is None


def test_features_are_read_as_linux_names_them(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f\nbugs\t\t:\n")
    assert read_cpu_flags(file) == {"fpu", "avx2", "avx512f"}
    assert read_cpu_flags(tmp_path / "absent") == frozenset()


EDGES = (1, 2, 5, 7, 16, 17, 32, 40, 41, 48, 64, 65, 96, 127, 128, 256, 257, 300, 512, 784, 1025)
LONG = (*EDGES, 2000, 2048, 4096, 8192)


ONE_ALONG_K = [(70, 1, 70), (300, 1, 17), (65, 1, 129)]


def drawn_products(count: int) -> list[Product]:
    """Return products at and between the edges of the kernels' blocks, the same each time.

    Of one element along k, all are of one layout: oneDNN takes one primitive for any.
    """
    draw = random.Random(20)
    shapes = [(64, 48, 32), (10, 4096, 16), (300, 100, 7), (5, 999, 1), (1, 1, 1), (16, 16, 16)]
    shapes += [(1024, 4096, 32), (2048, 4096, 100), (1, 4096, 1), (5000, 1, 1), (16, 4096, 32)]
    found = [
        Product(*shape, layout, threads)
        for shape, layout, threads in combinations(shapes, LAYOUTS, (1, 2, 3, 8))
    ]
    while len(found) < count:
        m, k, n = draw.choice(EDGES), draw.choice(LONG), draw.choice(EDGES)
        if draw.random() < 0.4:
            m, k, n = (int(2 ** draw.uniform(0, 11)) for _ in range(3))
        layout: Layout = "TN" if k == 1 else draw.choice(LAYOUTS)
        found.append(Product(m, k, n, layout, draw.choice((1, 1, 2, 2, 3, 4, 8, 24))))
    return found


def measured_alone(products: list[Product], **environment: str) -> list[list[int]]:
    """Return the scratch of each product, measured in a process that multiplied nothing else."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.prediction.matmul_cases"],
        input=json.dumps(products),
        env=os.environ | environment,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: list[list[int]] = json.loads(child.stdout)
    return found


def differing(
    products: list[Product], expected: list[int], found: list[list[int]]
) -> list[tuple[Product, int, list[int]]]:
    """Return the products whose scratch is not as expected: none at all where that is 0."""
    triples = zip(products, expected, found, strict=True)
    return [(p, size, taken) for p, size, taken in triples if taken != [size] * (size > 0)]


def expected_scratch(products: list[Product]) -> dict[Product, int]:
    """Return what each product takes on this processor, but for those that are not known.

    Skip the test where none is.
    """
    found = {}
    for product in products:
        m, k, n, layout, threads = product
        try:
            scratch = scratch_of("bfloat16", threads)
        except UnknownScratchError as error:
            pytest.skip(str(error))
        assert scratch is not None
        with suppress(UnknownScratchError):
            found[product] = scratch(m, k, n, layout)
    return found


def assert_the_allocator_sees(expected: dict[Product, int]) -> None:
    products = list(expected)
    assert differing(products, list(expected.values()), measured_alone(products)) == []


@pytest.mark.slow
@pytest.mark.exact
def test_the_allocator_sees_the_same() -> None:
    expected = expected_scratch(drawn_products(700))
    assert len(expected) > 600
    assert_the_allocator_sees(expected)


@pytest.mark.slow
@pytest.mark.exact
@pytest.mark.skipif(not read_cpu_flags() >= BF16, reason="the other kernel is this processor's own")
def test_the_allocator_sees_the_same_of_the_kernel_without_bf16_instructions() -> None:
    """oneDNN is kept from them by a variable; PyTorch, which asks the processor, is not.

    So dot products of one row go to oneDNN here, as all others do.
    """
    products = drawn_products(400)
    found = measured_alone(products, ONEDNN_MAX_CPU_ISA="AVX512_CORE")
    expected = [gemm_bytes(m, k, n, "TN", threads=threads) for m, k, n, _, threads in products]
    assert differing(products, expected, found) == []


@pytest.mark.slow
@pytest.mark.exact
@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_one_element_along_k_only_columns_are_copied(layout: Layout) -> None:
    """In a process that has multiplied no such shape: a kept primitive would serve any layout."""
    products = [Product(*shape, layout, threads) for shape in ONE_ALONG_K for threads in (1, 2)]
    assert_the_allocator_sees(expected_scratch(products))
