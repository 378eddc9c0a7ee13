"""Files and functions that a reader can take in at once (CONTRIBUTING.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "spyglass"
FILES = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_over_400_lines_and_no_function_over_60(name):
    text = FILES[name].read_text()
    assert text.count("\n") <= 400
    long = {
        f"{node.name}, line {node.lineno}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= 60
    }
    assert long == set()
