"""Checkpoints in shards: the index is read as Hugging Face's library writes it, and believed in nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gncli.errors import ChangedError, GncliError, InputError, LimitError
from gncli.io import open_source, open_sources
from gncli.io.formats import sharded
from tests.archives import ARRAY, entry, tensors
from tests.arrays import assert_same_bits
from tests.files import read_all, saved
from tests.runs import diff, normalize, stats

NBYTES = ARRAY.nbytes
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
SHARDS = {ONE: ["layers.10.w", "layers.9.w"], TWO: ["head", "layers.2.w"]}
INDEX = "model.safetensors.index.json"


def shard(path: Path, names: list[str], dtype: str = "F32") -> None:
    header = {name: entry(dtype, (2, 3), at * NBYTES, (at + 1) * NBYTES) for at, name in enumerate(names)}
    path.write_bytes(tensors(header, b"".join((ARRAY * len(name)).tobytes() for name in names)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a checkpoint of two shards."""
    checkpoint = tmp_path / "m"
    checkpoint.mkdir()
    for file, names in SHARDS.items():
        shard(checkpoint / file, names)
    say(checkpoint)
    return checkpoint


def say(folder: Path, total: object = 4 * NBYTES, **changed: str | None) -> None:
    """Write the index, in which some tensors are elsewhere, or nowhere."""
    told: dict[str, str | None] = {name: file for file, names in SHARDS.items() for name in names}
    told |= changed
    weight_map = {name: file for name, file in told.items() if file is not None}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2))


@pytest.mark.parametrize("named", ["", INDEX])
def test_the_tensors_of_all_shards_come_in_natural_order(folder: Path, named: str) -> None:
    listing = open_sources(str(folder / named))
    assert listing.many
    found = {source.name.partition("::")[2]: read_all(source) for source in listing}
    assert list(found) == ["head", "layers.2.w", "layers.9.w", "layers.10.w"]
    for name, values in found.items():
        assert_same_bits(values, ARRAY * len(name))


def test_one_tensor_is_named_in_every_command(folder: Path, tmp_path: Path) -> None:
    tensor = f"{folder / INDEX}::layers.9.w"
    (found,) = stats([tensor]).tensors
    assert (found.name, found.shape) == (tensor, (2, 3))  # type: ignore[union-attr]
    assert normalize(tensor, num_groups=3, eps=0.1).status == 0
    np.save(tmp_path / "b.npy", ARRAY * 10)
    assert diff(f"{folder}::layers.9.w", str(tmp_path / "b.npy")).equal
    with pytest.raises(InputError, match=r"no such tensor; did you mean layers.10.w\?"):
        open_source(f"{folder}::layers.11.w")
    with pytest.raises(InputError, match=r"holds 4 tensors: head, layers.2.w, .*name one, as FILE::NAME"):
        open_source(str(folder))


def test_a_tensor_that_is_not_read_is_skipped(folder: Path) -> None:
    shard(folder / TWO, SHARDS[TWO], "X32")
    listing = open_sources(str(folder))
    assert (listing.skipped, [source.name.partition("::")[2] for source in listing]) == (
        2,
        ["layers.9.w", "layers.10.w"],
    )
    with pytest.raises(InputError, match="of a type that is not read"):
        open_source(f"{folder}::head")


def test_the_index_may_be_written_by_others(folder: Path) -> None:
    text = (folder / INDEX).read_text()
    for metadata in ("null", "{}", '{"format": "pt", "total_size": "much"}', '{"total_size": 96.0}', "[1]"):
        (folder / INDEX).write_text(text.replace('{\n    "total_size": 96\n  }', metadata).replace("\n  ", "\n"))
        assert len(list(open_sources(str(folder / INDEX)))) == 4, metadata
    (folder / "adapter.safetensors").write_bytes(b"no shard of this index")
    (folder / "model-1-of-2.bin").write_bytes(b"")
    assert len(list(open_sources(str(folder)))) == 4


def swap(folder: Path) -> None:
    (folder / ONE).rename(folder / "kept")
    (folder / TWO).rename(folder / ONE)
    (folder / "kept").rename(folder / TWO)


def link(folder: Path, to: str) -> None:
    (folder / ONE).unlink()
    (folder / ONE).symlink_to(to)


def instead(folder: Path, make: Callable[[Path], None]) -> None:
    (folder / TWO).unlink()
    make(folder / TWO)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing shard": (lambda m: (m / TWO).unlink(), f"{INDEX}: names the shard {TWO}, which is not there"),
    "a dangling link": (lambda m: link(m, "gone"), f"names the shard {ONE}, which is not there"),
    "a link out of the folder": (
        lambda m: link(m, "/etc/hostname"),
        f"names the shard {ONE}, which is a link out of its",
    ),
    "a link to the folder above": (lambda m: link(m, ".."), "which is a link out of its folder"),
    "a shard more": (
        lambda m: (m / "model-00003-of-00003.safetensors").touch(),
        f"{INDEX}: names no tensor of model-00003-of-00003.safetensors, which lies next to it and is named as a shard; "
        "move it away",
    ),
    "the whole in one file": (
        lambda m: (m / "model.safetensors").touch(),
        "names no tensor of model.safetensors, which",
    ),
    "a tensor that is nowhere": (
        lambda m: say(m, ghost=ONE),
        f"{ONE}: does not hold ghost, which the index gives to it",
    ),
    "a tensor of another shard": (
        lambda m: say(m, head=ONE),
        f"{ONE}: does not hold head, which the index gives to it",
    ),
    "a tensor that is not named": (lambda m: say(m, head=None), f"{TWO}: holds head, which the index does not name"),
    "a tensor twice": (
        lambda m: shard(m / TWO, [*SHARDS[TWO], "layers.9.w"]),
        f"{TWO}: holds layers.9.w, which the index gives to {ONE}",
    ),
    "shards that are swapped": (swap, f"{ONE}: holds "),
    "another size": (lambda m: say(m, 95), "says total_size 95 bytes, and the tensors of its shards have 96"),
    "a shard that is cut": (lambda m: os.truncate(m / TWO, 100), f"{TWO}: is truncated: the"),
    "a shard of another format": (
        lambda m: (m / TWO).write_bytes(saved(ARRAY)),
        "is no .safet",
    ),
    "a folder as a shard": (lambda m: instead(m, Path.mkdir), f"{TWO}: is a directory"),
    "a FIFO as a shard": (lambda m: instead(m, os.mkfifo), f"{TWO}: is a FIFO"),
    "a name twice": (
        lambda m: (m / INDEX).write_text(f'{{"weight_map": {{"a": "{ONE}", "a": "{TWO}"}}}}'),
        "is not JSON (a key comes twice)",
    ),
    "a path": (
        lambda m: say(m, head=f"./{TWO}"),
        f"{INDEX}: gives head to './{TWO}', which is not the name of a file in",
    ),
    "a path of elsewhere": (lambda m: say(m, head=f"..\\{TWO}"), "which is not the name of a file"),
    "no name": (lambda m: say(m, head=""), "gives head to '', which"),
    "the folder above": (lambda m: say(m, head=".."), "gives head to '..', which"),
    "a zero": (lambda m: say(m, head=f"{TWO}\0"), "which is not the name of a file"),
    "no map": (lambda m: (m / INDEX).write_text('{"weight_map": ["a"]}'), "is JSON, and no index of shards: it has no"),
    "bytes that are no text": (lambda m: (m / INDEX).write_bytes(b'{"\xff": 1}'), "is not JSON ('utf-8'"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_an_index_that_is_not_true_is_refused_with_the_name_of_the_culprit(folder: Path, what: str) -> None:
    build, said = DAMAGE[what]
    build(folder)
    for name in (folder / INDEX, f"{folder / INDEX}::layers.9.w"):
        with pytest.raises(InputError) as caught:
            open_sources(str(name))
        assert said in str(caught.value).replace("::layers.9.w: ", ": "), caught.value


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    (folder / ONE).rename(folder / "blob")
    link_to = folder / ONE
    link_to.symlink_to("blob")
    assert_same_bits(read_all(open_source(f"{folder}::layers.9.w")), ARRAY * 10)


def test_a_large_index_is_refused_before_it_takes_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(folder / INDEX, sharded.MAX_INDEX_NBYTES + 1)
    with pytest.raises(LimitError, match=r"is 67,108,865 bytes long; the limit is 67,108,864"):
        open_sources(str(folder / INDEX))
    say(folder)
    monkeypatch.setattr(sharded, "MAX_MEMBERS", 2)
    with pytest.raises(LimitError, match="has more than 2 tensors"):
        open_sources(str(folder))


def test_a_shard_that_is_replaced_after_the_index_was_read_is_a_change(folder: Path) -> None:
    listing = open_sources(str(folder))
    assert next(listing).shape == (2, 3)
    shard(folder / ONE, [*SHARDS[ONE], "more"])
    assert next(listing).shape == (2, 3)
    with pytest.raises(ChangedError, match="was changed while it was read"):
        next(listing)


def test_a_pipe_has_no_folder(folder: Path) -> None:
    end = os.open(folder / INDEX, os.O_RDONLY)
    try:
        with pytest.raises(GncliError, match="is an index of files next to it, and a pipe has none; give the path"):
            open_sources("-", stdin=end)
    finally:
        os.close(end)
