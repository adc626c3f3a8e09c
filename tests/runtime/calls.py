"""What a Python file calls of TensorRT, found in its syntax tree: a call that is written there cannot be forgotten.

Classes are followed from `tensorrt.Builder(…)`, from annotations `parser: tensorrt.OnnxParser`, and through what the
real bindings say that a method gives.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from tests.runtime.bindings import Bindings

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Found:
    """Everything in one file."""

    paths: set[str] = field(default_factory=set)  # `tensorrt.MemoryPoolType.WORKSPACE`, without `tensorrt.`
    attributes: set[tuple[str, str]] = field(default_factory=set)  # (class, attribute), read, set or called
    calls: list[tuple[str, str, int, frozenset[str], int]] = field(default_factory=list)  # … arguments, line
    places: set[tuple[int, int]] = field(default_factory=set)  # of the attributes that are known to be TensorRT's


class Calls(ast.NodeVisitor):
    """Walks one file; `found` is what it saw."""

    def __init__(self, bindings: Bindings) -> None:
        self.found = Found()
        self._bindings = bindings
        self._known: dict[str, str] = {}  # variable → class
        self._fields: dict[str, str] = {}  # attribute of one of our dataclasses → class

    def run(self, source: str) -> Found:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for line in node.body:
                    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                        self._learn(self._fields, line.target.id, line.annotation)
        self.visit(tree)
        return self.found

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer = dict(self._known)
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            if argument.annotation is not None:
                self._learn(self._known, argument.arg, argument.annotation)
        self.generic_visit(node)
        self._known = outer

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        kind = self._class(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name) and kind is not None:
                self._known[target.id] = kind

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        path = _path(node)
        if path is not None and path.startswith("tensorrt."):
            self.found.paths.add(path.removeprefix("tensorrt."))
            self.found.places.add(_place(node))
            return
        owner = self._class(node.value)
        if owner in self._bindings.classes:
            self.found.attributes.add((owner, node.attr))
            self.found.places.add(_place(node))

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        target = self._called(node)
        if target is not None:
            keywords = frozenset(keyword.arg for keyword in node.keywords if keyword.arg is not None)
            self.found.calls.append((*target, len(node.args), keywords, node.lineno))

    def _called(self, node: ast.Call) -> tuple[str, str] | None:
        """(class, method) of a call of TensorRT's."""
        path = _path(node.func)
        if path is not None and path.startswith("tensorrt."):
            name = path.removeprefix("tensorrt.").removesuffix(".__init__")
            # a call of a base class's __init__ names self
            return None if path.endswith(".__init__") or name not in self._bindings.classes else (name, "__init__")
        if isinstance(node.func, ast.Attribute):
            owner = self._class(node.func.value)
            if owner in self._bindings.classes:
                return owner, node.func.attr
        return None

    def _class(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return self._known.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            return self._fields.get(node.attr)
        if isinstance(node, ast.Call):
            target = self._called(node)
            if target is None:
                return None
            owner, method = target
            if method == "__init__":
                return owner
            given = {signature.gives for signature in self._bindings.signatures(owner, method)}
            return given.pop() if len(given) == 1 else None
        return None

    def _learn(self, known: dict[str, str], name: str, annotation: ast.expr) -> None:
        path = _path(annotation)
        if path is not None and path.startswith("tensorrt."):
            known[name] = path.removeprefix("tensorrt.")


def _place(node: ast.Attribute) -> tuple[int, int]:
    """Line and end: what `a.b` and `a.b.c` differ in."""
    return node.lineno, node.end_col_offset or 0


def _path(node: ast.expr) -> str | None:
    """`a.b.c` of nested attributes of a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _path(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None


def attribute_names(source: str) -> dict[str, set[tuple[int, int]]]:
    """Every attribute of a file with the places where it stands, whatever it belongs to."""
    found: dict[str, set[tuple[int, int]]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found.setdefault(node.attr, set()).add(_place(node))
    return found
