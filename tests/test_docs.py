"""The documentation names what there is, and its rules hold in the code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cnnfeat.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "cnnfeat").rglob("*.py"))


def test_the_command_reference_is_up_to_date():
    script = [sys.executable, str(ROOT / "docs" / "generate_cli.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_command_reference_is_what_the_program_prints():
    code = "import sys; sys.argv[0] = 'cnnfeat'; import cnnfeat.__main__ as m; m.main()"
    command = [sys.executable, "-c", code, "finetune", "--help"]
    wide = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=wide)
    assert done.stdout in (ROOT / "docs" / "cli.md").read_text()
    assert "--validation" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_or_the_docs(name):
    pages = (ROOT / "README.md").read_text() + (ROOT / "docs" / "cli.md").read_text()
    assert f"cnnfeat {name}" in pages


@pytest.mark.parametrize(
    ("package", "room"), [("h5py", "store"), ("click", "cli"), ("PIL", "images")]
)
def test_only_one_room_imports(package, room):
    pattern = re.compile(rf"^\s*(import|from) {package}\b", re.M)
    users = [path for path in SOURCES if pattern.search(path.read_text())]
    outside = [
        path.relative_to(ROOT).as_posix()
        for path in users
        if room not in path.relative_to(ROOT / "cnnfeat").parts
    ]
    assert users
    assert outside == []


def test_only_the_command_line_prints_or_exits():
    pattern = re.compile(r"^\s*(print|sys\.exit|exit)\(", re.M)
    users = [path for path in SOURCES if pattern.search(path.read_text())]
    assert [path for path in users if path.parent.name != "cli"] == []


def test_every_public_name_can_be_imported():
    import cnnfeat

    for name in cnnfeat.__all__:
        assert getattr(cnnfeat, name) is not None


def test_the_readme_has_the_two_commands_first():
    text = (ROOT / "README.md").read_text()
    block = re.search(r"```sh\n(.*?)```", text, re.S)
    assert block
    assert [line.split("#")[0].strip() for line in block[1].splitlines()] == [
        "make demo",
        "make test",
    ]


def test_the_gallery_is_small_and_shown():
    shown = re.findall(r"\]\((docs/gallery/[^)]*)\)", (ROOT / "README.md").read_text())
    kept = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/gallery/*")]
    assert sorted(shown) == sorted(kept)
    assert shown
    assert [path for path in kept if (ROOT / path).stat().st_size > 60_000] == []


@pytest.mark.parametrize("page", ["README.md", "docs/measurements.md", "docs/cli.md"])
def test_links_to_files_lead_somewhere(page):
    folder = (ROOT / page).parent
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert [link for link in links if not (folder / link).exists()] == []
