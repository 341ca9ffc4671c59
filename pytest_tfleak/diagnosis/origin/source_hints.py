"""Read the source code around a line: whether it closes an object, and what names it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import lru_cache

from pytest_tfleak.retaining_path import Step
from pytest_tfleak.user_code import tree_of
from pytest_tfleak.verdict import Origin

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_EXITS = ("__exit__", "__aexit__")
_ENDS = ("close", "join", "shutdown")
#: Methods that add one object to another; it is their last argument.
ADDS = ("append", "appendleft", "add", "insert", "addHandler", "addFilter")
#: Those that lists and deques have alike.
_APPENDS = ("append", "extend")
#: Calls that return the same logger again.
_LOGGERS = ("getLogger", "get_logger")
#: Calls that make a container of objects.
_CONTAINERS = frozenset(
    {
        *("list", "tuple", "set", "frozenset", "dict", "deque", "defaultdict"),
        *("sorted", "map", "filter", "zip", "iter", "enumerate", "reversed"),
    }
)
_SHORT = 60  # characters of code that is repeated in a remedy
#: Calls that only prepare an argument, such as a path.
_CONVERTS = frozenset(
    {
        *("str", "int", "float", "len", "repr", "format", "join", "joinpath"),
        *("Path", "fspath", "encode", "decode"),
    }
)


def hints_of(origin: Origin | None) -> frozenset[str]:
    """Return what the code around a line does, as keywords.

    ``closes``: further down, the function closes what the line makes, but it did not
    get there. ``exits``: the line is in a class whose ``__exit__`` closes something.
    """
    if origin is None:
        return frozenset()
    return _hints(origin.file, origin.line)


@lru_cache(maxsize=64)
def _hints(file: str, line: int) -> frozenset[str]:
    tree = tree_of(file)
    if tree is None:
        return frozenset()
    around = list(_around(tree, line))
    hints = set()
    for node in around:
        if isinstance(node, ast.ClassDef):
            methods = {n.name: n for n in node.body if isinstance(n, _FUNCTIONS)}
            if any(_closes(methods, name, ()) for name in _EXITS):
                hints.add("exits")
    functions = [node for node in around if isinstance(node, _FUNCTIONS)]
    if functions:
        names = {name for node in around for name in _names_set_by(node)}
        if any(name in names for name in _closed_below(functions[-1], line)):
            hints.add("closes")
    return frozenset(hints)


def _around(tree: ast.AST, line: int) -> Iterator[ast.AST]:
    """Yield the nodes around a line, outermost first."""
    for node in ast.iter_child_nodes(tree):
        first = getattr(node, "lineno", None)
        last = getattr(node, "end_lineno", None)
        if first is not None and last is not None and first <= line <= last:
            yield node
            yield from _around(node, line)


def _names_set_by(node: ast.AST) -> list[str]:
    """Return the targets that a node assigns to, as code: ``self.session``."""
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets]
    if isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
        return [ast.unparse(node.target)]
    return []


def _closes(
    methods: Mapping[str, ast.AST], name: str, callers: tuple[str, ...]
) -> bool:
    """Return whether a method, or another method that it calls, closes something."""
    if name not in methods or name in callers:
        return False
    if _closed_below(methods[name], 0):
        return True
    called = [
        node.func.attr
        for node in ast.walk(methods[name])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "self"
    ]
    return any(_closes(methods, other, (*callers, name)) for other in called)


def _closed_below(function: ast.AST, line: int) -> list[str]:
    """Return what a function closes after a line, as code."""
    return [
        ast.unparse(node.func.value)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in _ENDS and node.lineno > line
    ]


def is_written(name: str, files: Sequence[str]) -> bool:
    """Return whether the code of some files has a name, or none of them can be read.

    Comments and texts do not count.
    """
    found = list(filter(None, map(_names_in, dict.fromkeys(files))))
    return not found or any(name in names for names in found)


@lru_cache(maxsize=16)
def _names_in(file: str) -> frozenset[str]:
    tree = tree_of(file)
    fields = ("id", "attr", "arg", "name")
    nodes = ast.walk(tree) if tree is not None else ()
    return frozenset(str(getattr(n, field, "")) for n in nodes for field in fields)


def code_at(origin: Origin | None) -> str:
    """Return the statement at a line, "" if it is long or has statements inside."""
    statement = _statement_at(origin.file, origin.line) if origin is not None else None
    is_simple = isinstance(statement, (ast.Expr, ast.Assign))
    return _short(statement) if statement is not None and is_simple else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names that a statement gives to what it makes or stores, as code.

    A name is left out where it may be that of something else: a container of such
    objects, or what a method of the object returns.
    """

    target: str = ""  # what it assigns a single new object to: ``loss`` of ``loss = x``
    made: str = ""  # the same, if the value is the result of one call
    first: str = ""  # the first of several targets: ``fig`` of ``fig, ax = make()``
    call: str = ""  # the function of that call: ``socket.socket``
    grown: str = ""  # what it makes longer: ``x`` of ``x += y`` and ``x = x + y``
    argument: str = ""  # the variable that it adds: ``x`` of ``seen.append(x)``
    receiver: str = ""  # the object whose method it calls: ``seen``
    method: str = ""  # that method: ``append``
    added: str = ""  # what it adds, if that is a short expression without a name
    assigned: str = ""  # the variable, attribute or item that it assigns any value to
    keyed: str = ""  # the container of ``seen[key] = x``
    key: str = ""  # that key, if reading it again returns the same

    def makes(self, step: Step) -> bool:
        """Return whether its call makes an object of a step's type."""
        return bool(self.call) and _last_name_of(self.call) in (
            name.rpartition(".")[2] for name in step.types
        )

    @property
    def adds(self) -> bool:
        """Return whether the method adds an object to the receiver."""
        return self.method in ADDS


def names_at(origin: Origin | None) -> Names:
    """Return the names in the statement at a line; empty ones if it has none."""
    return Names() if origin is None else _names(origin.file, origin.line)


def owner_at(origin: Origin | None, attribute: str) -> str:
    """Return the object whose attribute of this name a statement uses, as code.

    For ``trials``, ``study.trials.append(x)`` gives ``study``. Return "" if none does.
    """
    return "" if origin is None else _owner(origin.file, origin.line, attribute)


@lru_cache(maxsize=64)
def _owner(file: str, line: int, attribute: str) -> str:
    statement = _statement_at(file, line)
    for node in ast.walk(statement) if statement is not None else ():
        if isinstance(node, ast.Attribute) and node.attr == attribute:
            return _place(node.value)
    return ""


def first_argument_at(origin: Origin | None, function: str) -> str:
    """Return the first argument of the call of a function in a line's statement.

    Return "" if there is no such call, or the argument is no variable or attribute.
    """
    statement = _statement_at(origin.file, origin.line) if origin is not None else None
    for node in ast.walk(statement) if statement is not None else ():
        if isinstance(node, ast.Call) and node.args:
            if f".{_variable(node.func)}".endswith(f".{function}"):
                return _variable(node.args[0])
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """How a line adds to a container, as far as it matters for taking out again."""

    is_appended: bool = True  # a deque would do as well
    is_at_start: bool = False  # the newest comes first: ``seen.insert(0, x)``
    pops: str = ""  # the function that takes from a heap: ``heapq.heappop``
    is_by_length: bool = False  # a key may be made of its length: ``seen[len(seen)]``


def filling_at(origin: Origin | None, name: str, files: Sequence[str]) -> Filling:
    """Return how a line adds to the container that the code calls by a name.

    What the code of some files does with it besides counts, too.
    """
    if origin is None:
        return Filling(is_appended=not _is_sliced(name, files))
    names, statement = names_at(origin), _statement_at(origin.file, origin.line)
    is_added = names.method in _APPENDS or isinstance(statement, ast.AugAssign)
    return Filling(
        is_appended=is_added and not _is_sliced(name, files),
        is_at_start=names.method == "insert" and _inserts_first(statement),
        pops=_pops(names.call),
        is_by_length=_is_measured(name, origin),
    )


def _inserts_first(statement: ast.stmt | None) -> bool:
    match statement:
        case ast.Expr(value=ast.Call(args=[ast.Constant(value=0), _])):
            return True
    return False


def _pops(call: str) -> str:
    owner, dot, function = call.rpartition(".")
    return f"{owner}{dot}heappop" if function == "heappush" else ""


def _is_measured(name: str, origin: Origin) -> bool:
    """Return whether the function around a line takes the length of a container."""
    tree = tree_of(origin.file)
    around = list(_around(tree, origin.line)) if tree is not None else []
    functions = [node for node in around if isinstance(node, _FUNCTIONS)]
    return any(
        isinstance(node, ast.Call)
        and _last_name(node.func) == "len"
        and [ast.unparse(argument) for argument in node.args] == [name]
        for scope in (functions[-1:] or around[:1])
        for node in ast.walk(scope)
    )


def _is_sliced(name: str, files: Sequence[str]) -> bool:
    """Return whether the code reads slices of a container, which a deque has not."""
    last = _last_name_of(name)
    return any(
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Slice)
        and isinstance(node.ctx, ast.Load)
        and _last_name_of(_place(node.value)) == last
        for node in _nodes_of(files)
    )


def is_attribute_set(name: str, files: Sequence[str]) -> bool:
    """Return whether the code assigns to an attribute of a name: ``self.add = f``."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == name
        and isinstance(node.ctx, ast.Store)
        for node in _nodes_of(files)
    )


def classes_around(origin: Origin) -> list[str]:
    """Return the names of the classes in which a line is, the outermost first."""
    tree = tree_of(origin.file)
    around = _around(tree, origin.line) if tree is not None else ()
    return [node.name for node in around if isinstance(node, ast.ClassDef)]


def _nodes_of(files: Sequence[str]) -> Iterator[ast.AST]:
    for tree in filter(None, map(tree_of, dict.fromkeys(files))):
        yield from ast.walk(tree)


@dataclass(frozen=True, slots=True)
class Call:
    """A call in a statement, as code."""

    code: str  # "" if it is long
    target: str = ""  # what its result is assigned to, if only that is
    passed: str = ""  # what it passes for the parameter that was asked for


def call_at(origin: Origin | None, functions: Sequence[str]) -> Call | None:
    """Return the first call of one of some functions, by their last names, at a line.

    ``*Session`` stands for all names that end so.
    """
    for statement, node in _calls_at(origin):
        name = _last_name(node.func)
        if any(name == f or (f[0] == "*" and name.endswith(f[1:])) for f in functions):
            return _call_in(statement, node)
    return None


def call_around(origin: Origin | None, functions: Sequence[str]) -> Call | None:
    """Return the only call of one of some functions in the function around a line."""
    tree = tree_of(origin.file) if origin is not None else None
    if origin is None or tree is None:
        return None
    around = [n for n in _around(tree, origin.line) if isinstance(n, _FUNCTIONS)]
    found = [
        (node, call)
        for node in (ast.walk(around[-1]) if around else ())
        if isinstance(node, (ast.Expr, ast.Assign, ast.Return))
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and _last_name(call.func) in functions
    ]
    return _call_in(*found[0]) if len(found) == 1 else None


def is_returned(origin: Origin, target: str) -> bool:
    """Return whether a function returns what its line makes, or assigns to a name."""
    tree = tree_of(origin.file)
    nodes = list(_around(tree, origin.line)) if tree is not None else []
    if any(isinstance(node, ast.Return) for node in nodes):
        return True
    around = [node for node in nodes if isinstance(node, _FUNCTIONS)]
    inside = ast.walk(around[-1]) if around and target else ()
    return target in (_variable(n.value) for n in inside if isinstance(n, ast.Return))


def _call_in(statement: ast.stmt, node: ast.Call) -> Call:
    target = ""
    if isinstance(statement, ast.Assign) and statement.value is node:
        target = _variable(statement.targets[0])
    return Call(_short(node), target)


def call_passing(origin: Origin | None, function: str, parameter: str) -> Call | None:
    """Return the call of a function at a line, with what it passes for a parameter."""
    for _, node in _calls_at(origin):
        if _last_name(node.func) == function and origin is not None:
            place = _position_of(parameter, function, origin.file)
            named = {k.arg: k.value for k in node.keywords}
            value = named.get(parameter)
            if value is None and place is not None and place < len(node.args):
                value = node.args[place]
            if value is not None and not isinstance(value, ast.Starred):
                return Call(_short(node), passed=_short(value))
    return None


def _calls_at(origin: Origin | None) -> Iterator[tuple[ast.stmt, ast.Call]]:
    statement = _statement_at(origin.file, origin.line) if origin is not None else None
    if statement is None or isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        return
    parts: Sequence[ast.AST] = [statement]
    if isinstance(statement, (ast.With, ast.AsyncWith)):
        parts = statement.items  # not its block
    for part in parts:
        for node in ast.walk(part):
            if isinstance(node, ast.Call):
                yield statement, node


def _position_of(parameter: str, function: str, file: str) -> int | None:
    """Return the place of a parameter, without ``self``, in the only such function."""
    tree = tree_of(file)
    nodes = ast.walk(tree) if tree is not None else iter(())
    found = [n for n in nodes if isinstance(n, _FUNCTIONS) and n.name == function]
    if len(found) != 1:
        return None
    names = [a.arg for a in (*found[0].args.posonlyargs, *found[0].args.args)]
    names = names[1:] if names[:1] == ["self"] else names
    return names.index(parameter) if parameter in names else None


def _short(node: ast.AST) -> str:
    code = ast.unparse(node)
    return code if len(code) <= _SHORT else ""


def targets_of(function: str, file: str) -> frozenset[tuple[str, ...]]:
    """Return the names to which a file unpacks the results of a function."""
    tree = tree_of(file)
    nodes = ast.walk(tree) if tree is not None else iter(())
    found = (
        tuple(map(_variable, node.targets[0].elts))
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple)
        if isinstance(node.value, ast.Call) and _last_name(node.value.func) == function
    )
    return frozenset(names for names in found if all(names))


def calls_assigned_to(name: str, file: str) -> frozenset[str]:
    """Return the functions whose results a file assigns to a name, each as code."""
    return _assigned(file).get(name, frozenset())


@lru_cache(maxsize=16)
def _assigned(file: str) -> Mapping[str, frozenset[str]]:
    tree = tree_of(file)
    found: dict[str, frozenset[str]] = {}
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            names = _of_assignment(node)
            if names.made:
                known = found.get(names.made, frozenset())
                found[names.made] = known | {names.call}
    return found


@lru_cache(maxsize=64)
def _names(file: str, line: int) -> Names:
    last = _statement_at(file, line)
    if isinstance(last, ast.AugAssign):  # x += y
        return Names(grown=_place(last.target))
    if isinstance(last, (ast.Assign, ast.AnnAssign)):
        return _of_assignment(last)
    value = last.value if isinstance(last, ast.Expr) else None
    value = value.value if isinstance(value, ast.Await) else value
    if isinstance(value, ast.Call):
        names, arguments = _of_call(value), value.args
        added = arguments[-1] if arguments and names.adds else None
        return replace(names, argument=_variable(added), added=_expression(added))
    return Names()


def _statement_at(file: str, line: int) -> ast.stmt | None:
    """Return the innermost statement at a line, None if there is none."""
    tree = tree_of(file)
    around = _around(tree, line) if tree is not None else ()
    statements = [node for node in around if isinstance(node, ast.stmt)]
    return statements[-1] if statements else None


def _of_assignment(node: ast.Assign | ast.AnnAssign) -> Names:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if len(targets) != 1 or node.value is None:
        return Names()
    target = targets[0]
    value = node.value.value if isinstance(node.value, ast.Await) else node.value
    place = _place(target)
    names = replace(_of_call(value), assigned=place)
    if place and any(
        isinstance(part, ast.expr) and _place(part) == place for part in ast.walk(value)
    ):  # x = x + y
        names = replace(names, grown=place)
    if isinstance(target, ast.Subscript):
        if isinstance(target.slice, ast.Slice):
            return names
        return replace(  # seen[key] = x
            names,
            argument=_variable(value),
            added=_expression(value),
            keyed=_place(target.value),
            key=_key(target.slice),
        )
    if isinstance(target, ast.Tuple):
        return replace(names, first=_variable(target.elts[0]) if target.elts else "")
    return replace(
        names,
        target=_variable(target) if _is_single(value) else "",
        made=_variable(target) if _is_made(value) else "",
    )


def _of_call(value: ast.expr) -> Names:
    if not isinstance(value, ast.Call):
        return Names()
    function = value.func
    if not isinstance(function, ast.Attribute):
        return Names(call=_variable(function))
    return Names(
        call=_variable(function),
        receiver=(
            _place(function.value)
            or _set_default(function.value)
            or _get_logger(function.value)
        ),
        method=function.attr,
    )


def _set_default(value: ast.expr) -> str:
    """Return what ``seen.setdefault(key, [])`` returns, as ``seen[key]``."""
    match value:
        case ast.Call(
            func=ast.Attribute(value=owner, attr="setdefault"), args=[key, _]
        ):
            place, by = _place(owner), _key(key)
            return f"{place}[{by}]" if place and by else ""
    return ""


def _get_logger(value: ast.expr) -> str:
    """Return a call that returns the same logger each time: ``tf.get_logger()``."""
    match value:
        case ast.Call(func=function, args=arguments, keywords=[]):
            is_logger = _last_name(function) in _LOGGERS
            return _short(value) if is_logger and all(map(_key, arguments)) else ""
    return ""


def _is_single(value: ast.expr) -> bool:
    """Return whether a value may be one new object, not a container of them."""
    if isinstance(value, ast.Call):
        return _last_name(value.func) not in _CONTAINERS
    return isinstance(value, (ast.BinOp, ast.UnaryOp))


def _is_made(value: ast.expr) -> bool:
    """Return whether a value is what one call makes, and no other call is there."""
    if not isinstance(value, ast.Call) or not _is_single(value):
        return False
    inner = [node for node in ast.walk(value) if isinstance(node, ast.Call)]
    # what an argument makes, as in reader(open(p)), may be the object in question
    return all(call is value or _last_name(call.func) in _CONVERTS for call in inner)


def _last_name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    if isinstance(function, ast.Subscript):  # steps["train"](x)
        key = getattr(function.slice, "value", None)
        return key if isinstance(key, str) else ""
    return function.id if isinstance(function, ast.Name) else ""


def _last_name_of(code: str) -> str:
    return code.rpartition(".")[2]


def _expression(node: ast.expr | None) -> str:
    """Return a short expression as code, "" for a name or a longer one."""
    if node is None or _variable(node) or isinstance(node, ast.Starred):
        return ""
    code = ast.unparse(node)
    return code if len(code) <= _SHORT else ""


def _key(node: ast.expr) -> str:
    """Return a key as code, "" if it may be another one the next time."""
    if isinstance(node, ast.Constant):
        return ast.unparse(node)
    if isinstance(node, ast.Call) and _is_id(node):
        return ast.unparse(node)
    return _place(node)


def _is_id(node: ast.Call) -> bool:
    """Return whether a call is ``id(x)``, which is the same as long as there is x."""
    is_called = isinstance(node.func, ast.Name) and node.func.id == "id"
    return is_called and len(node.args) == 1 and bool(_place(node.args[0]))


def _place(node: ast.expr) -> str:
    """Return a variable, an attribute or an item as code, "" for anything else.

    It has to be the same again when it is written once more.
    """
    if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
        is_known = bool(_place(node.value)) and _is_repeatable(node.slice)
        return ast.unparse(node) if is_known else ""
    return _variable(node)


def _is_repeatable(key: ast.expr) -> bool:
    """Return whether a key has no calls, which may return another one the next time."""
    changing = (ast.Await, ast.NamedExpr, ast.Yield, ast.YieldFrom)
    return not any(
        isinstance(node, changing) or (isinstance(node, ast.Call) and not _is_id(node))
        for node in ast.walk(key)
    )


def _variable(node: ast.expr | None) -> str:
    """Return a variable or an attribute as code, "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = _place(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""
