"""The pickle inside a PyTorch file, read as data: nothing named in it is imported or called.

A small machine for the opcodes that state dictionaries are made of (`pickletools` splits them).
Names stay names (`Global`), a call of one of a few known builders stays a record (`Call`), and
every other call is refused.
"""

import pickletools
import warnings
from dataclasses import dataclass
from typing import BinaryIO

# What state dictionaries of PyTorch 0.1 to 2.13 call.
BUILDERS = frozenset(
    "collections.OrderedDict torch._utils._rebuild_tensor torch._utils._rebuild_tensor_v2 "
    "torch._utils._rebuild_parameter".split()
)
MAX_OPCODES = 2_000_000


@dataclass(frozen=True)
class Global:
    """A name, module.attribute, which is not looked up."""

    name: str


@dataclass(frozen=True)
class Call:
    """A call that was stored, not made."""

    name: str
    arguments: tuple


@dataclass(frozen=True)
class Persistent:
    """A reference to something outside the pickle: in PyTorch files, a storage."""

    key: object


def read_pickle(file: BinaryIO, references: list | None = None) -> object:
    """The object of one pickle; the file then stands behind it.

    Args:
        file: where a pickle begins.
        references: every `Persistent` is added to it.
    Raises:
        ValueError: it is damaged, or would run code.
    """
    with warnings.catch_warnings():  # of odd escapes in a text
        warnings.simplefilter("ignore")
        return _run(file, _Machine([] if references is None else references))


def _run(file: BinaryIO, machine: "_Machine") -> object:
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_OPCODES:
                raise ValueError(f"it has more than {MAX_OPCODES:,} steps")
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ValueError(f"a pickle must be whole. Received: {type(error).__name__} {error}") from None
    raise ValueError("a pickle must end. Received: the end of the file")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_VALUES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8".split()
)


class _Machine:
    def __init__(self, references: list) -> None:
        self.stack: list = []
        self.marks: list[int] = []  # where the items of tuples, lists and dictionaries begin
        self.memo: dict = {}
        self.references = references
        self.copied = 0

    def step(self, name: str, argument: object) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("TUPLE", "LIST", "DICT"):
            items = self._pop_mark()
            stack.append({"TUPLE": tuple, "LIST": list, "DICT": _pairs}[name](items))
        elif name in ("APPEND", "APPENDS"):
            items = self._pop_mark() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(_pairs(items))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "POP":
            stack.pop()
        elif name == "GLOBAL":
            stack.append(Global(str(argument).replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(Global(f"{module}.{attribute}"))
        elif name == "BINPERSID":
            stack.append(Persistent(stack.pop()))
            self.references.append(stack[-1])
        elif name == "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            stack.append(self._call(called, arguments))
        elif name == "BUILD":
            # Attributes of a state dictionary (_metadata): of no use here.
            stack.pop()
        elif name in ("NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"):
            made = str(argument).replace(" ", ".") if argument else _class(stack[-3:])
            raise ValueError(f"a weight file must hold data only. Received: an object of {made}")
        else:
            raise ValueError(f"a weight file must hold data only. Received: pickle opcode {name}")

    def _pop_mark(self) -> list:
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def _call(self, called: object, arguments: tuple) -> object:
        name = called.name if isinstance(called, Global) else type(called).__name__
        if name not in BUILDERS:
            raise ValueError(f"a weight file must hold data only. Received: a call of {name}")
        if name != "collections.OrderedDict":
            return Call(name, tuple(arguments))
        rows = arguments[0] if arguments else ()
        self.copied += len(rows)
        if self.copied > MAX_OPCODES:  # one long list, copied again and again
            raise ValueError(f"it has more than {MAX_OPCODES:,} items")
        return _pairs([item for key, value in rows for item in (key, value)])


def _class(parts: list) -> str:
    """The class that an object is to be made of; old files keep those of modules outside the pickle."""
    for part in parts:
        if isinstance(part, Persistent) and isinstance(part.key, tuple):
            part = next((own for own in part.key if isinstance(own, Global)), part)
        if isinstance(part, Global):
            return part.name
    return "an unknown class"


def _pairs(items: list) -> dict:
    """A dictionary of keys and values in turn; to hash nested tuples as keys could take for ever."""
    if odd := [key for key in items[::2] if not isinstance(key, (str, bytes, int, float))]:
        raise ValueError(f"keys must be texts or numbers. Received: {type(odd[0]).__name__}")
    return dict(zip(items[::2], items[1::2], strict=True))
