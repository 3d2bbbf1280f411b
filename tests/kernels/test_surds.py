"""Sums of fractions over square roots, and exact sums of products."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels.exact import GRAIN
from gncli.kernels.floats import FLOATS
from gncli.kernels.scratch import arithmetic
from gncli.kernels.surds import FACTORS, Term, exact_sums, exactly, levels, product_sums, rounded_sum


def terms(*pairs: tuple[Any, Any]) -> list[Term]:
    return [Term(Fraction(over), Fraction(under)) for over, under in pairs]


ULP = Fraction(1, 2**23)
SUMS = [
    ("nothing", terms(), 0.0),
    ("a zero", terms((0, 7)), 0.0),
    ("roots that cancel", terms((1, 2), (-2, 8)), 0.0),
    ("roots of one class that cancel", terms((3, 18), (-1, 2), (5, 3), (-10, 12)), 0.0),
    ("equal roots that cancel", terms((1, 5), (-1, 5), (3, 1)), 3.0),
    ("a square root", terms((1, Fraction(1, 4))), 2.0),
    ("a tie to even", terms((1, 1), (ULP / 2, 1)), 1.0),
    ("a tie to even, above", terms((1 + ULP, 1), (ULP / 2, 1)), float(1 + 2 * ULP)),
    ("a tie of commensurable roots", terms((1, 2), (-1, 2), (2, 4), (ULP, 4)), 1.0),
    ("a little above a tie", terms((1 + ULP / 2, 1), (Fraction(1, 2**900), 3)), float(1 + ULP)),
    ("a little below a tie", terms((1 + ULP / 2, 1), (Fraction(-1, 2**900), 3)), 1.0),
    ("far less above a tie", terms((1 + ULP / 2, 1), (Fraction(1, 2**4000), 3)), float(1 + ULP)),
    ("an overflow", terms((2**200, 3)), np.inf),
    ("the middle beyond the largest", terms(((2**25 - 1) * 2**103, 1)), np.inf),
    ("that, less roots that cancel", terms(((2**25 - 1) * 2**103, 1), (1, 2), (-2, 8)), np.inf),
    ("less than that", terms(((2**25 - 1) * 2**103 - 1, 1)), float(2**128 - 2**104)),
    ("a negative overflow", terms((-(2**200), 3)), -np.inf),
    ("an underflow", terms((-1, 4**200)), -0.0),
    ("two roots", terms((1, 2), (1, 3)), np.float32(0.5**0.5 + (1 / 3) ** 0.5)),
]


@pytest.mark.parametrize(("sum_", "expected"), [case[1:] for case in SUMS], ids=[case[0] for case in SUMS])
def test_a_sum_of_surds_is_correctly_rounded(sum_: list[Term], expected: float) -> None:
    with arithmetic():
        found = rounded_sum(sum_, FLOATS["float32"])
    assert found.tobytes() == np.float32(expected).tobytes()


def test_roots_of_one_signature_need_not_be_commensurable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gncli.kernels.surds.PRIMES", ())
    sum_ = terms((1 + ULP / 2, 1), (1, 2), (1, 3), (-2, 8), (-3, 27))
    assert rounded_sum(sum_, FLOATS["float32"]) == 1.0


def test_what_is_beyond_a_float64_overflows_and_its_nearest_is_exact() -> None:
    double = FLOATS["float64"]
    assert rounded_sum(terms((2**1100, 1)), double) == np.inf
    assert rounded_sum(terms((2**1001, 1), (1, 1)), double) == 2.0**1001
    for sign in (1, -1):  # a tie with infinity
        end = sign * (2**1024 - 2**970)
        assert rounded_sum(terms((end, 1), (1, 2), (-2, 8)), double) == sign * np.inf
        assert rounded_sum(terms((end, 1), (1, 2), (-2, 8)), double, -sign) == sign * np.finfo(float).max


@pytest.mark.parametrize("made", ["float32", "float64"])
@pytest.mark.parametrize("power", [0, 300, 350])
def test_a_zero_of_terms_of_any_size_is_found(power: int, made: str) -> None:
    root = terms((10**power, 2))
    with arithmetic():
        found = rounded_sum([*root, *root, *terms((-2 * 10**power, 2))], FLOATS[made])
    assert found.tobytes() == FLOATS[made].dtype.type(0).tobytes()


@pytest.mark.parametrize("values", [[1.0, 2.0**-60, -1.0], [3e-324, 5e-324], [2.0**800, 2.0**-1000], [0.0], [-0.1] * 9])
def test_the_levels_of_values_add_up_to_them_exactly(values: Sequence[float]) -> None:
    found = list(levels(np.array(values), None, (1, 1, len(values)), max(map(abs, values))))
    total, sizes = (
        sum(Fraction(int(sums[which, 0])) * Fraction(2) ** power for power, sums in found) for which in (0, 1)
    )
    assert (total, sizes) == (sum(map(Fraction, values)), sum(map(abs, map(Fraction, values))))
    assert exact_sums(np.array([values])) == [total * 2**GRAIN]


def wide(rng: np.random.Generator, spread: int) -> NDArray[np.float64]:
    return np.ldexp(rng.normal(size=(3, 20)), rng.integers(-spread, spread + 1, (3, 20)))


@pytest.mark.parametrize("spread", [1, 100, 240, 330])
def test_sums_of_products_are_exact(spread: int) -> None:
    rng = np.random.default_rng(spread)
    a, b, c = (wide(rng, spread) for _ in range(3))
    a[1, 3] = 0.0
    rest = a * 2.0**-60
    found = product_sums([[a, rest], [b], [c]])
    for row in range(3):
        exact = [
            (Fraction(p) + Fraction(q)) * Fraction(r) * Fraction(s)
            for p, q, r, s in zip(*(each[row].tolist() for each in (a, rest, b, c)), strict=True)
        ]
        assert exactly(found[row]) == sum(exact)
    assert exactly(product_sums([[np.array([[np.nan, 2.0, np.inf]])]])[0]) == 2
    assert product_sums([[np.zeros((1, 0))]]).tolist() == [0] and FACTORS * GRAIN == 3222
