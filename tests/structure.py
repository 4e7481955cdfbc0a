"""What the house is built like, counted in its sources: `python tests/structure.py`.

Every figure is counted by parsing the package; nothing is imported. `test_structure.py`
holds them to what docs/architecture.md promises.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "cnnfeat"
# On the way from the decoder to the network's door.
PIXEL_PATH = (
    *("images/_preprocessing", "images/_worker", "images/_pool", "images/_loading"),
    *("images/_pixel_store", "extraction/", "extract/", "predict"),
    *("finetune/", "training/"),
)
AXIS_CHANGES = {"transpose", "permute", "movedim", "moveaxis", "swapaxes", "rollaxis"}


def modules() -> dict[str, ast.Module]:
    """Return every module of the package by its path below it, without suffix."""
    return {
        path.relative_to(PACKAGE).with_suffix("").as_posix(): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def room_of(module: str) -> str:
    """Return the room of a module: its folder, or its own name."""
    return module.partition("/")[0]


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.ImportFrom]]:
    """Yield what is imported of the package as (dotted name below it, statement)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            head, _, rest = node.module.partition(".")
            if head != "cnnfeat":
                continue
            for alias in node.names:
                yield (rest or alias.name), node


def imported_rooms() -> dict[str, set[str]]:
    """Return the rooms that each room imports, functions and type checks included."""
    found: dict[str, set[str]] = {}
    for name, tree in modules().items():
        own = room_of(name)
        rooms = {target.partition(".")[0] for target, _ in imports(tree)}
        found.setdefault(own, set()).update(rooms - {own})
    return found


def module_graph() -> dict[str, set[str]]:
    """Return which modules import which, through faces to the module behind."""
    known = modules()
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, tree in known.items():
        for target, node in imports(tree):
            for alias in node.names:
                graph[name] |= _targets(target, alias.name, known)
    return graph


def _targets(target: str, name: str, known: dict[str, ast.Module]) -> set[str]:
    path = target.replace(".", "/")
    candidates = (f"{path}/{name}", path)
    for candidate in candidates:
        if candidate in known:
            return {candidate}
    face = PACKAGE / path / "__init__.pyi"
    if not face.exists():
        return set()
    for node in ast.parse(face.read_text()).body:
        if isinstance(node, ast.ImportFrom) and any(a.name == name for a in node.names):
            return {f"{path}/{node.module}"}
    return set()


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of nodes that reach each other (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = set()
            while node not in group:
                group.add(stack.pop())
            if len(group) > 1:
                groups.append(group)

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return groups


def calls(tree: ast.AST) -> Iterator[str]:
    """Yield the last name of whatever is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield _last_name(node.func)


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def tapping_sites() -> list[str]:
    """Return where activations are tapped outside the rooms whose work it is."""
    return [
        name
        for name, tree in modules().items()
        if room_of(name) not in ("extraction", "layers")
        for called in calls(tree)
        if called in ("Tapper", "register_forward_hook")
    ]


def loops_over_batches() -> list[str]:
    """Return where loaded batches are taken, outside the room that loads them.

    That is a loop over `load_batches`, or a source that is read ahead.
    """
    found = []
    for name, tree in modules().items():
        if room_of(name) == "images":
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.For, ast.comprehension)):
                found += [name] * ("load_batches" in calls(node.iter))
            elif isinstance(node, ast.With) and room_of(name) == "extraction":
                opened = [c for item in node.items for c in calls(item.context_expr)]
                found += [name] * ("read_ahead" in opened)
    return found


def axis_changes() -> list[str]:
    """Return where the axes of pixels turn on the way from decoder to network."""
    return [
        name
        for name, tree in modules().items()
        if name.startswith(PIXEL_PATH)
        for called in calls(tree)
        if called in AXIS_CHANGES
    ]


def bounded_queues() -> list[str]:
    """Return the kinds of queue between threads: classes of ours, uses of `queue`."""
    found = []
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and {"put", "get"} <= {
                f.name for f in node.body if isinstance(f, ast.FunctionDef)
            }:
                found.append(f"{name}.{node.name}")
            if isinstance(node, ast.Import) and any(
                alias.name == "queue" for alias in node.names
            ):
                found.append(f"{name}: queue")
    return found


def function_imports() -> list[tuple[str, int]]:
    """Return (module, line) of each import inside a function outside `cli/`."""
    return [
        (name, node.lineno)
        for name, tree in modules().items()
        if room_of(name) != "cli"
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]


def imports_past_a_face() -> list[str]:
    """Return imports of another room that name a module behind its face."""
    found = []
    for name, tree in modules().items():
        for target, _ in imports(tree):
            room, _, module = target.partition(".")
            if module and room != room_of(name):
                found.append(f"{name}: cnnfeat.{target}")
    return found


def open_doors() -> list[str]:
    """Return modules behind a face whose names do not begin with an underscore."""
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.pyi")}
    return [
        name
        for name in modules()
        if room_of(name) in rooms and not name.split("/")[-1].startswith("_")
    ]


def n_lines(module: str) -> int:
    """Return the number of lines of a module."""
    return len((PACKAGE / f"{module}.py").read_text().splitlines())


def main() -> None:
    """Print every figure."""
    rooms = imported_rooms()
    for title, found in {
        "tapping sites outside extraction": tapping_sites(),
        "loops over loaded batches": loops_over_batches(),
        "axis changes between decoder and network": axis_changes(),
        "kinds of bounded queue": bounded_queues(),
        "circles between modules": circles(module_graph()),
        "circles between rooms": circles(rooms),
        "imports inside functions outside cli": function_imports(),
        "imports past a face": imports_past_a_face(),
        "modules behind a face without an underscore": open_doors(),
    }.items():
        print(f"{title}: {len(found)}")
        for one in found:
            print(f"    {one}")


if __name__ == "__main__":
    main()
