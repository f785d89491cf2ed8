"""The shape of the package: who may import whom, docstrings, and size budgets."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from idlora_pl.cli.tools import TOOLS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "idlora_pl"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 40

# A folder or file, and what it must not import.
FORBIDDEN = {
    "metrics": ("idlora_pl.ltx2", "idlora_pl.training"),
    "data": ("idlora_pl.ltx2", "idlora_pl.training"),
    "media": ("idlora_pl.ltx2", "idlora_pl.training", "idlora_pl.data", "idlora_pl.metrics"),
    "report": ("idlora_pl.ltx2", "idlora_pl.training", "idlora_pl.data"),
    "ltx2": ("idlora_pl.generation.pipeline", "idlora_pl.training", "idlora_pl.data", "idlora_pl.metrics"),
    "nano": ("idlora_pl.generation.pipeline", "idlora_pl.training"),
    "pipeline.py": ("idlora_pl.training", "idlora_pl.data", "idlora_pl.metrics"),
    "training": ("idlora_pl.cli", "idlora_pl.cli.lightning"),
    "parity": ("idlora_pl.cli", "idlora_pl.cli.lightning", "idlora_pl.cli.tools", "idlora_pl.nano"),
}
# A library, and the only places that may import it.
OWNERS = {
    "av": ("media",),
    "diffusers": ("ltx2", "nano"),
    "peft": ("ltx2", "nano"),
    "transformers": ("ltx2", "scorers"),
    "speechbrain": ("scorers",),
    "mediapipe": ("scorers",),
    "onnxruntime": ("scorers",),
    "pocketsphinx": ("scorers",),
    "wandb": (),
}


def name_of(path: Path) -> str:
    """Dotted module name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Modules, and names of modules, that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}; write the full name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def belongs(name: str, package: str) -> bool:
    """Whether a dotted name is a package or lies inside it."""
    return name == package or name.startswith(package + ".")


IMPORTS = {path: imports_of(path) for path in FILES}


def inside(path: Path, place: str) -> bool:
    """Whether a file is a place of the package or lies in it."""
    return path == PACKAGE / place or (PACKAGE / place) in path.parents


def test_the_method_imports_torch_and_the_standard_library_alone():
    allowed = {"torch", "idlora_pl", *sys.stdlib_module_names}
    for path in FILES:
        if inside(path, "method"):
            assert {name.split(".")[0] for name in IMPORTS[path]} <= allowed, path
            own = {name for name in IMPORTS[path] if belongs(name, "idlora_pl")}
            assert all(belongs(name, "idlora_pl.method") for name in own), path


@pytest.mark.parametrize("place", FORBIDDEN)
def test_nothing_imports_upward(place):
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in FILES
        if inside(path, place)
        for name in IMPORTS[path]
        if any(belongs(name, package) for package in FORBIDDEN[place])
    ]
    assert wrong == []


def test_parity_is_imported_by_the_command_line_alone():
    users = {name_of(path) for path in FILES for name in IMPORTS[path] if belongs(name, "idlora_pl.parity")}
    assert {name for name in users if not belongs(name, "idlora_pl.parity")} == set()
    assert [name for name, place in TOOLS.items() if belongs(place.split(":")[0], "idlora_pl.parity")] == ["parity"]


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_only_by_its_owner(library):
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in FILES
        if not any(inside(path, place) for place in OWNERS[library])
        for name in IMPORTS[path]
        if belongs(name, library)
    ]
    assert wrong == []


def test_there_are_no_import_cycles():
    names = {name_of(path) for path in FILES}
    graph = {}
    for path in FILES:
        found = {name if name in names else name.rpartition(".")[0] for name in IMPORTS[path]}
        graph[name_of(path)] = (found & names) - {name_of(path)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_importing_the_package_loads_no_heavy_library():
    code = "import sys, idlora_pl; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "diffusers", "wandb", "lightning", "av"} & set(loaded.stdout.split())


def test_every_public_name_resolves_to_something_documented():
    import idlora_pl

    for name in idlora_pl.__all__:
        value = getattr(idlora_pl, name)
        assert name == "__version__" or value.__doc__, name
    assert len(idlora_pl.__all__) == 21


def test_an_unknown_public_name_is_refused():
    import idlora_pl

    with pytest.raises(AttributeError, match="'idlora_pl' has no attribute 'Trainer'"):
        idlora_pl.Trainer  # noqa: B018


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path}: the module has no docstring"
    documented = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    scopes = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    for node in (node for scope in scopes for node in scope.body):
        if isinstance(node, documented) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno}: {node.name} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_modules_and_functions_are_short(path):
    source = path.read_text()
    n_lines = len(source.splitlines())
    assert n_lines <= MAX_MODULE_LINES, f"{path}: {n_lines} lines, at most {MAX_MODULE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            n_code = code_lines(node, source.splitlines())
            assert n_code <= MAX_FUNCTION_LINES, f"{path}:{node.lineno}: {node.name} has {n_code} lines"


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """Lines of a function from its def to its end, without docstring and blank lines."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    docstring = 0 if body is node.body else node.body[0].end_lineno - node.body[0].lineno + 1
    filled = [line for line in lines[node.lineno - 1 : node.end_lineno] if line.strip()]
    blank_in_docstring = 0
    if docstring:
        first = node.body[0]
        blank_in_docstring = sum(not line.strip() for line in lines[first.lineno - 1 : first.end_lineno])
    return len(filled) - (docstring - blank_in_docstring)
