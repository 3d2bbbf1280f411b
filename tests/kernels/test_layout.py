"""Layouts: what letters say, and what is said of letters that say nothing."""

from __future__ import annotations

import pytest

from gncli.errors import ParameterError
from gncli.kernels.layout import Layout, axes_between, doubt

AXES = [
    ("NCHW", 0, 1),
    ("NHWC", 0, 3),
    ("NC", 0, 1),
    ("NLC", 0, 2),
    ("CNHW", 1, 0),
    ("WHCN", 3, 2),
    ("CHW", None, 0),
    ("HWC", None, 2),
    ("BHWC", 0, 3),
    ("BTC", 0, 2),
    ("XYZCB", 4, 3),
    ("C", None, 0),
]
USUAL = [((2, 3), "NC"), ((2, 3, 4), "NCL"), ((2, 3, 4, 5), "NCHW"), ((2, 3, 4, 5, 6), "NCDHW")]
EXAMPLE = "write one letter per axis, such as NCHW, NHWC or CHW"
LETTERS = "N or B is the batch, C the channels, H W D L T S X Y Z are space"
REFUSED = [
    ("ACHW", f"layout 'ACHW' has A, which stands for no axis; {LETTERS}"),
    ("NCHG", f"layout 'NCHG' has G, which stands for no axis; {LETTERS}"),
    ("NBC", f"layout 'NBC' has two batch axes, N and B; {EXAMPLE}"),
    ("", f"layout '' is not made of the letters A to Z; {EXAMPLE}"),
    ("nchw", f"layout 'nchw' is not made of the letters A to Z; {EXAMPLE}"),
    ("NC HW", f"layout 'NC HW' is not made of the letters A to Z; {EXAMPLE}"),
    ("NCΗW", f"layout 'NCΗW' is not made of the letters A to Z; {EXAMPLE}"),  # noqa: RUF001  # a Greek capital eta
    ("NHW", f"layout 'NHW' has no channel axis C; {EXAMPLE}"),
    ("NCC", f"layout 'NCC' has C twice; {EXAMPLE}"),
    ("NCNH", f"layout 'NCNH' has N twice; {EXAMPLE}"),
    ("NCHH", f"layout 'NCHH' has H twice; {EXAMPLE}"),
]
MISFITS = [
    (None, (), "a tensor of 0 axes has no usual layout; say --layout, one letter per axis, such as CHW"),
    (None, (7,), "a tensor of 1 axis (7) has no usual layout; say --layout, one letter per axis, such as CHW"),
    (
        None,
        (1,) * 6,
        "a tensor of 6 axes (1x1x1x1x1x1) has no usual layout; say --layout, one letter per axis, such as CHW",
    ),
    ("NCHW", (2, 3), "layout NCHW has 4 letters, the tensor 2 axes (2x3); give one letter per axis"),
    ("channels-last", (1,) * 4, "layout 'channels-last' has no letters; did you mean NHWC?"),
    ("Channels_First", (1,) * 3, "layout 'Channels_First' has no letters; did you mean NCL?"),
    ("c", (2, 3), "layout C has 1 letters, the tensor 2 axes (2x3); give one letter per axis"),
]


@pytest.mark.parametrize(("letters", "batch", "channel"), AXES)
def test_letters_say_which_axis_is_batch_and_which_is_channels(letters: str, batch: int | None, channel: int) -> None:
    layout = Layout(letters)
    assert (layout.batch, layout.channel, str(layout)) == (batch, channel, letters)


@pytest.mark.parametrize(("shape", "letters"), USUAL)
def test_two_to_five_axes_have_a_usual_layout(shape: tuple[int, ...], letters: str) -> None:
    assert Layout.of(None, shape) == Layout(letters)


def test_letters_may_be_small_where_they_are_given_for_a_tensor() -> None:
    assert Layout.of("nhwc", (1, 2, 3, 4)) == Layout("NHWC")


@pytest.mark.parametrize(("letters", "sentence"), REFUSED)
def test_letters_that_name_no_axes_are_refused_with_an_example(letters: str, sentence: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Layout(letters)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(("letters", "shape", "sentence"), MISFITS)
def test_a_layout_must_have_a_letter_for_each_axis(letters: str | None, shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Layout.of(letters, shape)
    assert str(caught.value) == sentence


DOUBTED = [
    ((8, 14, 14, 64), "NCHW", "NHWC"),
    ((8, 56, 56, 72), "NCHW", "NHWC"),  # a multiple of 8
    ((2, 1, 1, 4), "NCHW", "NHWC"),  # a power of two
    ((2, 3, 7, 7, 16), "NCDHW", "NDHWC"),
]
CERTAIN = [(), (8, 64), (8, 14, 64), (8, 64, 14, 14), (8, 14, 14, 3), (8, 14, 14, 50), (8, 14, 15, 64), (1,) * 6]


@pytest.mark.parametrize(("shape", "usual", "other"), DOUBTED)
def test_a_usual_layout_is_doubted_where_the_last_axis_looks_like_channels(
    shape: tuple[int, ...], usual: str, other: str
) -> None:
    assert doubt(shape) == f"the layout is {usual} by default: if the channels are last, say --layout {other}"


@pytest.mark.parametrize("shape", CERTAIN)
def test_other_shapes_raise_no_doubt(shape: tuple[int, ...]) -> None:
    assert doubt(shape) is None


def test_axes_are_matched_by_their_letters() -> None:
    assert axes_between(Layout("NCHW"), Layout("HWNC")) == (2, 3, 0, 1)
    with pytest.raises(ParameterError, match="layouts NCHW and NCDH have different letters; write the same letters"):
        axes_between(Layout("NCHW"), Layout("NCDH"))
