"""The shape of the house: rooms and who may import whom, docstrings, and size budgets, of all three trees."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

from idlora_pl.cli.tools import TOOLS

ROOT = Path(__file__).parents[1]
TREES = ("idlora_pl", "data_tools", "experiments")
FILES = sorted(path for tree in TREES for path in (ROOT / tree).rglob("*.py"))
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 40

# Top floor first: a room imports from those below it and from none above it.
ROOMS = (
    "experiments",
    "data_tools",
    "idlora_pl.cli",
    "idlora_pl.parity",
    "idlora_pl.training",
    "idlora_pl.evaluation",
    "idlora_pl.generation",
    "idlora_pl.scorers",
    "idlora_pl.nano",
    "idlora_pl.study",
    "idlora_pl.report",
    "idlora_pl.data",
    "idlora_pl.benchmark",
    "idlora_pl.metrics",
    "idlora_pl.results",
    "idlora_pl.ltx2",
    "idlora_pl.media",
    "idlora_pl.method",
    "idlora_pl.files",
    "idlora_pl.distributed",
)
# What a room must not import although it lies below.
APART = {
    "experiments": ("data_tools",),
    "data_tools": ("idlora_pl.parity", "idlora_pl.training", "idlora_pl.report", "idlora_pl.study"),
    "idlora_pl.data": ("idlora_pl.ltx2",),
    "idlora_pl.generation": ("idlora_pl.data", "idlora_pl.metrics"),
    "idlora_pl.metrics": ("idlora_pl.ltx2",),
    "idlora_pl.parity": ("idlora_pl.nano",),
    "idlora_pl.report": ("idlora_pl.data", "idlora_pl.ltx2", "idlora_pl.metrics"),
    "idlora_pl.results": ("idlora_pl.ltx2", "idlora_pl.media"),
    "idlora_pl.study": ("idlora_pl.data", "idlora_pl.ltx2", "idlora_pl.metrics"),
}
# A library, and the only rooms that may import it.
OWNERS = {
    "av": ("idlora_pl.media",),
    "bitsandbytes": ("idlora_pl.training",),
    "diffusers": ("idlora_pl.ltx2", "idlora_pl.nano"),
    "peft": ("idlora_pl.ltx2", "idlora_pl.nano"),
    "transformers": ("idlora_pl.ltx2", "idlora_pl.scorers", "data_tools"),
    "speechbrain": ("idlora_pl.scorers",),
    "mediapipe": ("idlora_pl.scorers",),
    "onnxruntime": ("idlora_pl.scorers", "data_tools"),
    "pocketsphinx": ("idlora_pl.scorers",),
    "scenedetect": ("data_tools",),
    "noisereduce": ("data_tools",),
    "openai": ("data_tools",),
    "wandb": (),
}
# A configuration names all callbacks in one module, wherever they are defined.
OFFERED = {("idlora_pl.training.callbacks", "idlora_pl.training.saving.SaveCheckpoints")}


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


def belongs(name: str, place: str) -> bool:
    """Whether a dotted name is a room, a package or a module, or lies inside it."""
    return name == place or name.startswith(place + ".")


IMPORTS = {path: imports_of(path) for path in FILES}


def room_of(name: str) -> str | None:
    """The room that a dotted name belongs to; None for libraries and for the package itself."""
    return next((room for room in ROOMS if belongs(name, room)), None)


def test_every_file_has_a_room():
    assert [name_of(path) for path in FILES if room_of(name_of(path)) is None] == ["idlora_pl"]
    assert {path.name for path in (ROOT / "idlora_pl").glob("*.py")} == {"__init__.py", "files.py", "distributed.py"}


def test_the_method_imports_torch_and_the_standard_library_alone():
    allowed = {"torch", "idlora_pl", *sys.stdlib_module_names}
    for path in FILES:
        if room_of(name_of(path)) == "idlora_pl.method":
            assert {name.split(".")[0] for name in IMPORTS[path]} <= allowed, path
            own = {name for name in IMPORTS[path] if belongs(name, "idlora_pl")}
            assert all(belongs(name, "idlora_pl.method") for name in own), path


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_imports_upward(room):
    above = ROOMS[: ROOMS.index(room)]
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in FILES
        if room_of(name_of(path)) == room
        for name in IMPORTS[path]
        if room_of(name) in above or any(belongs(name, place) for place in APART.get(room, ()))
    ]
    assert wrong == []


def test_a_name_is_imported_from_where_it_is_defined():
    modules = {name_of(path) for path in FILES}
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in FILES
        for name in IMPORTS[path]
        if (module := name.rpartition(".")[0]) in modules - {"idlora_pl"} and name not in modules
        if name.rpartition(".")[2] not in names_in(module)
    ]
    assert wrong == []
    for path in FILES:
        if path.name == "__init__.py" and name_of(path) != "idlora_pl":
            assert not any(belongs(name, tree) for name in IMPORTS[path] for tree in TREES) or name_of(path) == (
                "idlora_pl.cli"
            ), f"{path} passes names on; import them from where they are defined"


@cache
def names_in(module: str) -> set[str]:
    """Names that a module defines, takes from a library, or offers to configurations."""
    path = ROOT / (module.replace(".", "/") + ".py")
    tree = ast.parse((path if path.is_file() else path.with_suffix("") / "__init__.py").read_text())
    names = {name.rpartition(".")[2] for place, name in OFFERED if place == module}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] not in TREES:
            names |= {alias.asname or alias.name for alias in node.names}
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            names |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return names


def test_configurations_find_all_callbacks_in_one_module():
    for place, name in OFFERED:
        module, _, last = name.rpartition(".")
        assert getattr(import_module(place), last) is getattr(import_module(module), last)


def test_parity_is_imported_by_the_command_line_alone():
    users = {name_of(path) for path in FILES for name in IMPORTS[path] if belongs(name, "idlora_pl.parity")}
    assert {name for name in users if not belongs(name, "idlora_pl.parity")} == {"idlora_pl.cli.parity"}
    assert [name for name, place in TOOLS.items() if place.startswith("idlora_pl.cli.parity")] == ["parity"]


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_only_by_its_owner(library):
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in FILES
        if room_of(name_of(path)) not in OWNERS[library]
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
            if name_of(path) == f"data_tools.{node.name}" or room_of(name_of(path)) == "idlora_pl.cli":
                n_code -= node.body[0].lineno - node.lineno  # a verb's parameters are its command line
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
