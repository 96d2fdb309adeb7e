"""The README keeps its word: its commands, links, code and command names are those of the repository."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def blocks(text: str, language: str) -> list[str]:
    """The fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


class TestTheTwoCommands:
    """The first two blocks take a fresh machine from clone to done."""

    commands = blocks(README, "bash")[:2]

    def test_each_is_one_line(self) -> None:
        """Each is a single line to paste."""
        assert [command.strip().count("\n") for command in self.commands] == [0, 0]

    def test_each_starts_from_a_clone(self) -> None:
        """Each is complete: it clones, enters the clone, makes an environment and installs."""
        for command in self.commands:
            steps = re.split(r"&&|;", command)
            assert [step.split()[0] for step in steps[:2]] == ["git", "cd"]
            assert "python3 -m venv .venv" in command
            assert ".venv/bin/pip install -e" in command

    def test_the_first_runs_the_main_job(self) -> None:
        """The first ends with `raycolab demo`, and needs nothing of Debian but what makes environments."""
        assert "&& .ci/packages python3-venv && python3 -m venv" in self.commands[0]
        assert self.commands[0].strip().endswith("&& .venv/bin/raycolab demo")

    def test_the_second_runs_the_tests(self) -> None:
        """With what they need beside Python; it ends with pytest, all of it."""
        assert "&& .ci/packages &&" in self.commands[1]
        assert self.commands[1].strip().endswith("&& .venv/bin/python -m pytest")

    def test_ci_runs_the_second(self) -> None:
        """.ci/run reads it from the README, from the clone on, and has it as its last line."""
        script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
        (reading,) = re.findall(r"^readme_line=\$\((.*)\)$", script, re.MULTILINE)
        read = subprocess.run(["bash", "-c", reading], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert read.strip() == self.commands[1].strip().partition("; cd raycolab && ")[2]
        assert script.strip().splitlines()[-1].startswith('eval "${readme_line//')


def test_relative_links_resolve() -> None:
    """Each link that is not a URL, on any of the pages, leads to a file of the repository."""
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    links = [link for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text) if not re.match(r"https?://", link)]
    assert "examples/MAIN.ipynb" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_python_blocks_compile() -> None:
    """Each Python block is Python."""
    found = blocks(README, "python")
    assert found
    for block in found:
        ast.parse(block)


def test_python_blocks_use_public_names() -> None:
    """Each `raycolab.name` in a Python block exists."""
    import raycolab

    used = {
        node.attr
        for block in blocks(README, "python")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "raycolab"
    }
    assert used
    assert {name for name in used if not hasattr(raycolab, name)} == set()


def test_subcommands_exist() -> None:
    """Each `raycolab something` in the README is a command."""
    from raycolab.cli.program import cli

    named = set(re.findall(r"(?:^|[`/ ])raycolab ([a-z]+)\b", "\n".join(blocks(README, "bash")), re.MULTILINE))
    named |= set(re.findall(r"`raycolab ([a-z]+)", README))
    assert {"demo", "head", "join", "submit", "status", "results", "down"} <= named
    assert named - set(cli.commands) == set()


def test_options_exist() -> None:
    """Each option that the README's table of commands names is one of that row's command."""
    from raycolab.cli.program import cli

    rows = re.findall(r"^\| `raycolab ([a-z]+)[^|]*\|(.*)\|$", README, re.MULTILINE)
    assert len(rows) > 10
    for command, text in rows:
        options = {option for each in cli.commands[command].params for option in each.opts}
        assert set(re.findall(r"`(--[a-z-]+)", text)) <= options, command
