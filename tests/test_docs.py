"""The documentation is true: pages build without a warning, code runs, commands exist.

Blocks of ``python`` and ``sh`` are run in a folder that holds the files they name, those of one page in one go and in
order. Where an HTML comment ``<!-- not run: reason -->`` stands before a block, and in blocks without a language, the
commands are only checked: the command exists and knows every option.
"""

from __future__ import annotations

import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kronos.bars import sample_bars

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]  # tests/test_readme.py runs what they begin with
KRONOS = [sys.executable, "-c", "import sys; from kronos.cli import main; sys.exit(main())"]
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    run: bool


def blocks(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(m["language"], m["text"], m["reason"] is None and bool(m["language"])) for m in found]


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command, comments taken off, continued lines joined; other text is passed over."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if re.match(r"(\.venv/bin/)?(kronos|python|make|pip) ", line):
            yield shlex.split(line, comments=True)


def call(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def options(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}


def check_exists(words: list[str]) -> None:
    """Fails where a command or an option is not there; nothing is done."""
    words = [re.sub(r"^(\[)?(.*?)\]?(…|\.\.\.)?$", r"\2", word) for word in words]  # [--option], BARS...
    program = words[0].removeprefix(".venv/bin/")
    if program == "kronos":
        done = call([*KRONOS, *words[1:], "--help"], ROOT)
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"
    elif program == "python" and words[1:2] == ["-m"] and words[2].startswith("benchmarks."):
        help_text = call([sys.executable, "-m", words[2], "--help"], ROOT).stdout
        assert not (missing := options(words[3:]) - set(re.findall(r"--?[\w-]+", help_text))), (words, missing)
    elif program == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file(), words
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets), words


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the pages name."""
    bars = sample_bars("sp500")
    bars.tail(500).to_csv(tmp_path / "my_bars.csv", index=False)
    (tmp_path / "bars").mkdir()
    for name in ("sp500", "nasdaq"):
        sample_bars(name).tail(300).to_csv(tmp_path / "bars" / f"{name}.csv", index=False)
    sample_bars("eurusd").tail(500).to_csv(tmp_path / "EURUSD-1h.csv", index=False)
    return tmp_path


def page_id(page: Path) -> str:
    return page.stem


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.run and b.language == "python" for b in blocks(p))], ids=page_id
)
def test_the_python_of_a_page_runs(page: Path, folder: Path) -> None:
    code = "\n".join(block.text for block in blocks(page) if block.language == "python" and block.run)
    done = call([sys.executable, "-W", "error", "-c", code], folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.run and b.language == "sh" for b in blocks(p))], ids=page_id
)
def test_the_commands_of_a_page_run(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if block.language != "sh" or not block.run:
            continue
        for words in commands(block.text):
            assert words[0] == "kronos", f"{page.name} runs {words[0]}; mark the block as not run"
            done = call([*KRONOS, *words[1:]], folder)
            assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=page_id)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    for block in blocks(page):
        if (not block.run or page in READMES) and block.language in ("", "sh"):
            for words in commands(block.text):
                check_exists(words)


def test_what_does_not_exist_is_noticed() -> None:
    for line in ("kronos forecast my.csv --horizn 3", "kronos prophesy", "make profit", "python scripts/none.py"):
        with pytest.raises(AssertionError):
            check_exists(shlex.split(line))


def test_the_documentation_builds_without_a_warning() -> None:
    zensical = shutil.which("zensical", path=str(Path(sys.executable).parent))
    if zensical is None:
        pytest.skip("zensical is not installed (pip install 'kronos-kline[docs]')")
    done = call([zensical, "build", "--strict", "--clean"], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "KronosPredictor" in (ROOT / "site" / "api" / "index.html").read_text(encoding="utf-8")


def test_both_readmes_say_the_same() -> None:
    """The same blocks (comments apart), pictures, links, tables and numbers of headings, in the same order."""

    def shape(page: Path) -> dict[str, list[str]]:
        text = page.read_text(encoding="utf-8")
        code = [re.sub(r"\s*#.*", "", block.text) for block in blocks(page)]
        prose = BLOCK.sub("", text)
        return {
            "code": code,
            "links": re.findall(r"\]\(([^)]+)\)", prose),
            "headings": re.findall(r"^#+", prose, re.MULTILINE),
            "rows": re.findall(r"^\|", prose, re.MULTILINE),
        }

    english, chinese = map(shape, READMES)
    assert {name: english[name] for name in english if name != "links"} == {
        name: chinese[name] for name in chinese if name != "links"
    }
    assert sorted(english["links"]) == sorted(chinese["links"])


def test_no_figure_is_left_to_be_filled_in() -> None:
    assert not [page.name for page in [*PAGES, *READMES] if "@@" in page.read_text(encoding="utf-8")]


def test_the_tests_that_the_parity_page_names_are_there() -> None:
    """Each line of its tables of names has one."""
    page = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| .* \|$", page[page.index("## Name by name") :], re.MULTILINE)
    lines = [line for line in lines if not line.endswith("| test |")]
    without = [line for line in lines if not re.search(r"\| `test_\w+`(, `test_\w+`)* \|$", line)]
    assert len(lines) > 150
    assert [line for line in without if "they import nothing of the published code" not in line] == []
    named = {name for line in lines for name in re.findall(r"`(test_\w+)`", line.split(" | ")[-1])}
    there = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert named - there == set()


# -- names ------------------------------------------------------------------------------------------------------------

DOTTED = re.compile(r"(?<![\w/.@-])(?<!b\")kronos(?:\.[A-Za-z_]\w*)+")
SOURCES = sorted(path for place in ("src", "examples") for path in (ROOT / place).rglob("*.py"))


@pytest.mark.parametrize("page", [*SOURCES, *PAGES, *READMES, ROOT / "ARCHITECTURE.md"], ids=str)
def test_every_dotted_name_of_the_package_is_there(page: Path) -> None:
    """In code, messages, comments and pages; not keys of files, which are bytes."""
    names = set(DOTTED.findall(page.read_text(encoding="utf-8")))
    assert not [name for name in sorted(names) if not is_there(name)]


def is_there(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True
