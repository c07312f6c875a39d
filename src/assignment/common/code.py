"""Which code made a run: the commit it stood at, and a fingerprint of what took part."""

import ast
import functools
import hashlib
import inspect
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from assignment.common.settings import PROJECT


def commit() -> str:
    """Name the commit of the code that runs, marked when it was changed since."""
    git = shutil.which("git")
    if git is None or not Path(__file__).resolve().is_relative_to(PROJECT / "src"):
        return "unknown"  # an installed copy may stand in any repository, or in none
    command = [git, "describe", "--always", "--dirty=-changed", "--abbrev=12"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    return run.stdout.strip() or "unknown"


@functools.cache
def fingerprint(function: Callable[..., object]) -> str:
    """Combine the source of a function with that of all in its room which it names, in turn.

    Docstrings, lines of comment and what the rooms share (files, progress, ...) do not count.
    """
    room, digest, found = function.__module__.rpartition(".")[0], hashlib.sha256(), [function]
    for each in found:  # which grows on the way
        code, names = _code_and_names(each)
        digest.update(code.encode())
        scope = vars(sys.modules[each.__module__])
        scopes = [scope, *(vars(m) for m in scope.values() if inspect.ismodule(m))]
        for one in (part[name] for name in sorted(names) for part in scopes if name in part):
            inside = str(getattr(one, "__module__", "")).startswith(f"{room}.")
            if inside and (inspect.isfunction(one) or inspect.isclass(one)) and one not in found:
                found.append(one)
    return digest.hexdigest()[:16]


def _code_and_names(function: Callable[..., object]) -> tuple[str, set[str]]:
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except OSError:  # typed in, and not kept anywhere
        return "", set()
    lines, tree = source.splitlines(), list(ast.walk(ast.parse(source)))
    for node in tree:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            words = node.body[0]
            for line in range(words.lineno - 1, words.end_lineno or words.lineno):
                lines[line] = ""
    code = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    return code, {getattr(node, "id", getattr(node, "attr", "")) for node in tree}
