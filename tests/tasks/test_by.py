"""Cells: what ``--by`` means, and parts of a tensor as tensors of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gncli.errors import ParameterError
from gncli.io import ArraySource
from gncli.io.part import Part
from tests.marks import examples
from tests.runs import cut

MEANT: list[tuple[str, tuple[int, ...], tuple[str, ...], tuple[int, ...]]] = [
    ("C", (1,), ("C",), (2, 5, 7)),
    ("c,n", (0, 1), ("N", "C"), (5, 7)),
    ("-1,0", (0, 3), ("0", "3"), (6, 5)),
    ("W", (3,), ("W",), (2, 6, 5)),
    ("N,C,H,W", (0, 1, 2, 3), ("N", "C", "H", "W"), ()),
]
REFUSED = [
    ("D", {}, "layout NCHW has no axis 'D'; choose from N, C, H, W, numbers of axes, or group"),
    ("channels", {}, "layout NCHW has no axis 'channels'; did you mean C?"),
    ("gruop", {}, "layout NCHW has no axis 'gruop'; did you mean group?"),
    ("", {}, "layout NCHW has no axis ''; choose from N, C, H, W, numbers of axes, or group"),
    ("4", {}, "a tensor of 4 axes has no axis 4; axes count from 0"),
    ("C,1", {}, "--by names axis 1 twice; name each axis once"),
    ("C", {"num_groups": 2}, "--groups needs --by group; add --by group, or leave out --groups"),
    ("group", {"num_groups": 5}, "6 channels cannot be split into 5 groups; choose one of 1, 2, 3, 6"),
]


@pytest.mark.parametrize(("text", "axes", "names", "cell_shape"), MEANT)
def test_axes_are_named_by_letter_or_number(
    text: str, axes: tuple[int, ...], names: tuple[str, ...], cell_shape: tuple[int, ...]
) -> None:
    by = cut(text, (2, 6, 5, 7), "C")
    assert (by.axes, by.names, by.cell_shape, by.note((0,) * len(axes))) == (axes, names, cell_shape, "")


def test_a_layout_needs_no_channels_unless_cells_are_of_channels() -> None:
    by = cut("t", (2, 5, 6), "C", "NTD")
    assert (by.axes, by.names, by.cell_shape) == ((1,), ("T",), (2, 6))
    for text, message in (
        ("C", "layout NTD has no axis 'C'; choose from N, T, D, numbers of axes, or group"),
        ("group", "layout 'NTD' has no channel axis C; write one letter per axis, such as NCHW, NHWC or CHW"),
    ):
        with pytest.raises(ParameterError) as caught:
            cut(text, (2, 5, 6), "C", "NTD")
        assert str(caught.value) == message


@pytest.mark.parametrize(("text", "more", "message"), REFUSED)
def test_what_is_no_axis_says_what_is(text: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        cut(text, (2, 6, 5, 7), "C", **more)
    assert str(caught.value) == message


def test_groups_are_cells_with_their_channels() -> None:
    by = cut("group", (2, 6, 5, 7), "C", num_groups=3)
    assert (by.sizes, by.cell_shape, by.note((1, 2))) == ((2, 3), (2, 5, 7), "channels 4-5")
    alone = cut("group", (6, 5), "C", "CL", num_groups=6)
    assert (alone.names, alone.sizes, alone.note((0, 3))) == (("N", "G"), (1, 6), "channel 3")


@settings(derandomize=True, deadline=None, max_examples=examples(60))
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from("CF"), st.data())
def test_a_part_is_the_slice(shape: list[int], order: Any, data: st.DataObject) -> None:
    x = np.array(np.arange(np.prod(shape)).reshape(shape), order=order)
    source = ArraySource(x)
    box = []
    for size in shape:
        start = data.draw(st.integers(0, size - 1))
        box.append((start, data.draw(st.integers(start + 1, size))))
    part = Part(source, tuple(box))
    expected = x[tuple(slice(*side) for side in box)]
    assert part.shape == expected.shape
    flat = expected.reshape(-1, order=source.order)
    first = data.draw(st.integers(0, flat.size - 1))
    out = np.empty(data.draw(st.integers(1, flat.size - first)), x.dtype)
    part.read_into(out, first)
    np.testing.assert_array_equal(out, flat[first : first + out.size])


@pytest.mark.parametrize("text", ["C", "N,C", "N,C,W", "group"])
@pytest.mark.parametrize("most", [1, 3, 4, 10, 1000])
def test_ranges_cover_all_cells_in_order(text: str, most: int) -> None:
    by = cut(text, (2, 6, 5, 7), "C", num_groups=3 if text == "group" else None)
    cells = np.arange(by.count).reshape(by.sizes)
    seen: list[int] = []
    for box in by.ranges(most):
        slices = tuple(slice(box[axis][0] // by.unit(axis), box[axis][1] // by.unit(axis)) for axis in by.axes)
        part = cells[slices].reshape(-1).tolist()
        assert len(part) <= most
        seen += part
    assert seen == list(range(by.count))
