"""The pages of `gncli/docs`, the help pages, and the docstrings of the public names: run, followed and read."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import gncli
from gncli.commands.group import gncli as group
from gncli.commands.options import SECTIONS
from tests import refusals, transcripts

DOCS = Path(gncli.__file__).parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
README = transcripts.ROOT / "README.md"
LINKING = [README, transcripts.ROOT / "CHANGELOG.md", transcripts.ROOT / "sample_data" / "README.md", *PAGES]

RECIPES = [pytest.param(recipe, id=recipe.title) for recipe in transcripts.recipes((DOCS / "recipes.md").read_text())]
FOR_A_CLUSTER = "A tensor larger than memory, and than one machine"
WANTED = {
    "Activations in a Zarr store",
    "Check a kernel against gncli",
    "Is my kernel as good as PyTorch's",
    "Are my kernel's gradients right",
    "Two GroupNorms disagree",
    "LayerNorm of (N, T, D)",
    "BatchNorm2d in eval mode",
    "diffusers' GroupNorm + SiLU",
    "Which channel is dead",
    "Gate a CI job on a tensor",
    "A job array, and a run that was killed",
    "From an object store and back",
    FOR_A_CLUSTER,
}

COMMANDS = [pytest.param(command, id=name) for name, command in {"": group, **group.commands}.items()]
LINK = re.compile(r"\]\((?!\w+:)([^)#]*)(?:#([^)]*))?\)")
PLACE = re.compile(r"`((?:gncli|tests|sample_data|\.ci)/[\w/.<>]*)`")
SECTION = re.compile(r"^(\w+)\n-{3,}$", re.MULTILINE)


def text(page: Path) -> str:
    """Return a page without its blocks of code, in which nothing is a link."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as made:
        made.bind(("localhost", 0))
        return int(made.getsockname()[1])


# The pages.


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_transcript_gives_what_it_shows(page: Path, tmp_path: Path) -> None:
    transcripts.prepare(tmp_path)
    for block in transcripts.blocks(page.read_text(encoding="utf-8")):
        for step in transcripts.steps(block):
            transcripts.compare(step.expected, transcripts.outcome(step.command, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_of_ten_lines_works_in_an_empty_directory(recipe: transcripts.Recipe, tmp_path: Path) -> None:
    assert len(recipe.script.splitlines()) <= 10
    if recipe.title == FOR_A_CLUSTER:
        pytest.importorskip("distributed")
    if "moto.server" in recipe.script:
        pytest.importorskip("moto")
    script = recipe.script.replace("8786", str(free_port()))  # another run may have a cluster of its own
    script = script.replace("5555", str(free_port()))
    transcripts.compare(recipe.shown, transcripts.screen(script, tmp_path))


def test_the_recipes_are_those_that_are_asked_for() -> None:
    assert {recipe.values[0].title for recipe in RECIPES} == WANTED  # type: ignore[union-attr]


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(transcripts.ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(text(page)):
        to = page.parent / target if target else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), f"{target}#{anchor}"
        if page in PAGES:  # which are installed without what lies beside the package
            assert to in PAGES, target


def test_the_readme_leads_to_every_page() -> None:
    targets = {target for target, _ in LINK.findall(text(README))}
    assert {page.relative_to(transcripts.ROOT).as_posix() for page in PAGES} <= targets


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(transcripts.ROOT).as_posix())
def test_every_file_that_is_named_is_there(page: Path) -> None:
    named = PLACE.findall(page.read_text(encoding="utf-8"))
    assert not [name for name in named if "<" not in name and not (transcripts.ROOT / name).exists()]


def test_the_design_names_every_module_and_package_at_the_top() -> None:
    package = Path(gncli.__file__).parent
    here = [path for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    names = {f"gncli/{path.name}{'/' * path.is_dir()}" for path in here}
    assert len(names) > 10
    assert names <= set(PLACE.findall((DOCS / "design.md").read_text(encoding="utf-8")))


def test_the_stops_of_the_walks_through_the_house_exist() -> None:
    page = (DOCS / "design.md").read_text(encoding="utf-8")
    walks = page[page.index("## Two walks downhill") :].split("\n## ")[0]
    stops = re.findall(r"`((?:commands|tasks|run|io|kernels|report)\.[\w.]+)`", walks)
    assert len(stops) > 30
    for stop in stops:
        pkgutil.resolve_name(f"gncli.{stop}")


@pytest.mark.slow
def test_the_table_of_errors_has_every_error_that_a_golden_shows() -> None:
    rows = [(row.status, re.escape(row.sentence).replace(refusals.VALUE, ".*")) for row in refusals.refusals()]
    lines = []
    for golden in sorted((transcripts.ROOT / "tests" / "golden").glob("*.txt")):
        for step in transcripts.steps(golden.read_text(encoding="utf-8")):
            if re.search(r" \| |; ", step.command):  # the status is that of another command
                continue
            said = [line.removeprefix("2> gncli: error: ") for line in step.expected if "2> gncli: error: " in line]
            status = re.fullmatch(r"\[status (\d)\]", step.expected[-1]) if step.expected else None
            lines += [(int(status[1]), line) for line in said if status and len(said) == 1]
    assert len(lines) > 50
    others = re.compile(
        "(invalid value for|no such (option|command)|missing|got unexpected|option|<stdout>: No space) "
    )
    unknown = [
        (status, line)
        for status, line in lines
        if not others.match(line)
        and not any(status == row and re.search(pattern, line, re.IGNORECASE) for row, pattern in rows)
    ]
    assert not unknown


def test_a_broken_link_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A title, of 2 words\n[a](gone.md#x) [b](#b) [c](https://example.org) `[d](d)`\n```\n[e](e)\n```\n"
    )
    assert LINK.findall(text(page)) == [("gone.md", "x"), ("", "b")]
    assert anchors(page) == {"a-title-of-2-words"}


def test_the_reference_has_every_command_and_option() -> None:
    reference = (DOCS / "reference.md").read_text(encoding="utf-8")
    for name, command in group.commands.items():
        page = reference[reference.index(f"## gncli {name}\n") :].split("\n## ")[0]
        options = [param for param in command.params if isinstance(param, click.Option)]
        assert options
        assert not [option.opts for option in options if ", ".join(option.opts) not in page]


# The help pages.


def examples(command: click.Command) -> list[str]:
    """Return the examples of a help page, without what is said beside them."""
    lines = [line.strip() for line in str(command.help).splitlines()]
    return [re.split(r"\s{2,}| > ", line)[0] for line in lines if line.startswith(("gncli ", "source <(gncli "))]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_page_begins_with_a_sentence_and_examples(command: click.Command) -> None:
    said, _, after = inspect.cleandoc(str(command.help)).partition("\n\n")
    assert re.fullmatch(r"[A-Z].*\.", said)
    first = after.removeprefix("\b\n").splitlines()[0]
    assert len(examples(command)) >= 2
    assert first.startswith(examples(command)[0]), "examples come before anything else"
    assert all(param.help for param in command.params if isinstance(param, click.Option))
    page = command.get_help(click.Context(command, info_name="gncli command", terminal_width=80))
    assert max(map(len, page.splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("stats", {"Other norms", "The verdict", "Many pairs"}),
        ("diff", {"Other norms", "Expectations", "A random tensor", "Work in parts"}),
    ],
)
def test_an_option_stands_in_the_section_that_names_it(name: str, left_out: set[str]) -> None:
    command = group.commands[name]
    page = command.get_help(click.Context(command, terminal_width=80))
    sections = dict(re.findall(r"^(\w[\w ]+):\n(.*?)(?:\n\n|\Z)", page, re.DOTALL | re.MULTILINE))
    assert list(sections) == [title for title in SECTIONS if title not in left_out]
    names = {param.name: param.opts[-1] for param in command.params}
    for title, shown in sections.items():
        listed = [names[option] for option in SECTIONS[title] if option in names]
        assert not [option for option in listed if f"  {option} " not in shown.replace("-q, ", "  ")]
    assert "  -s, --stat NAMES" in sections["Options"]
    assert ("  --ddof N" in sections["Options"]) is (name == "stats")
    assert not re.search(r"^  (\[TENSOR\]|A|B) ", sections["Options"], re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_a_help_page_can_be_typed(command: click.Command) -> None:
    for example in examples(command):
        for stage in example.split(" | "):
            words = shlex.split(stage.removeprefix("source <(").removesuffix(")"))
            if words[0] == "gncli":
                context = group.commands[words[1]].make_context(words[1], words[2:])
                assert context.params, example


def test_a_short_description_is_whole() -> None:
    listing = group.get_help(click.Context(group, info_name="gncli", terminal_width=80))
    assert "  stats " in listing
    assert "..." not in listing.partition("Commands:")[2]


# The public names.


def sections(thing: object) -> dict[str, str]:
    """Return the sections of a docstring, by their titles."""
    parts = SECTION.split(inspect.getdoc(thing) or "")
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def described(section: str) -> Iterator[str]:
    """Yield the names that a section describes."""
    for line in section.splitlines():
        if line and not line.startswith(" "):
            yield from (name.strip() for name in line.split(" : ")[0].split(","))


PUBLIC = [name for name in gncli.__all__ if name != "testing"] + [f"testing.{name}" for name in gncli.testing.__all__]


def public(name: str) -> Any:
    """Return what a public name stands for."""
    thing: Any = gncli
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def fields(thing: Any) -> list[str]:
    """Return the parameters of a public function or class."""
    return [name for name in inspect.signature(thing).parameters if name != "self"]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_documented(name: str) -> None:
    thing = public(name)
    if isinstance(thing, type) and issubclass(thing, gncli.GncliError) and thing is not gncli.GncliError:
        assert inspect.getdoc(thing) != inspect.getdoc(gncli.GncliError)  # what it means; the rest is inherited
        return
    found = sections(thing)
    assert list(described(found.get("Parameters", ""))) == fields(thing)
    assert ">>> " in found["Examples"]
    if not isinstance(thing, type):
        raised = set(described(found["Raises"])) - {"AssertionError"}
        assert (inspect.getdoc(thing) or "").startswith("Raise " if name.startswith("testing.") else "Return ")
        assert name.startswith("testing.") or found["Returns"].strip()
        assert raised
        assert raised <= set(gncli.__all__), "what is raised can be caught by its public name"
        return
    for member, value in vars(thing).items():
        called = value.fget if isinstance(value, property) else value
        if inspect.isfunction(called) and not member.startswith("_"):
            assert inspect.getdoc(called), member


@pytest.mark.parametrize("name", PUBLIC)
def test_the_examples_of_a_public_name_run(name: str) -> None:
    thing = public(name)
    found = doctest.DocTestFinder(recurse=False).find(thing, name, globs=vars(inspect.getmodule(thing)).copy())
    for example in found:
        assert not doctest.DocTestRunner().run(example).failed
