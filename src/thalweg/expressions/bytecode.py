"""Which functions may be traced without their source: an allow-list over bytecode.

A function that runs straight through allowed operations does the same to a proxy as to an event. Anything else (jumps,
`in`, `is`, f-strings, names from outside, unknown operations of a newer Python) is not traced.
"""

from __future__ import annotations

import builtins
import dis
import inspect
from types import FunctionType

from thalweg.expressions.captured import is_constant

# fmt: off
_STRAIGHT = frozenset({
    # CPython 3.11
    "RESUME", "NOP", "CACHE", "PRECALL", "PUSH_NULL", "COPY", "SWAP", "POP_TOP", "EXTENDED_ARG",
    "LOAD_FAST", "STORE_FAST", "LOAD_CONST", "RETURN_VALUE", "LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL",
    "BINARY_OP", "BINARY_SUBSCR", "COMPARE_OP", "UNARY_NEGATIVE", "UNARY_INVERT", "CALL",
    "BUILD_MAP", "BUILD_CONST_KEY_MAP", "BUILD_TUPLE", "BUILD_LIST", "LIST_EXTEND",
    # 3.12
    "LOAD_FAST_CHECK", "RETURN_CONST",
    # 3.13
    "LOAD_FAST_LOAD_FAST", "STORE_FAST_LOAD_FAST", "STORE_FAST_STORE_FAST",
    # 3.14
    "NOT_TAKEN", "LOAD_FAST_BORROW", "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "LOAD_SMALL_INT", "LOAD_CONST_IMMORTAL",
    "LOAD_CONST_MORTAL",
})
_OPERATORS = frozenset({"+", "-", "*", "/", "//", "**", "&", "|", "^", "[]"})
_REASONS = {
    "LOAD_DEREF": "a name from outside", "COPY_FREE_VARS": "a name from outside", "LOAD_CLOSURE": "a name from outside",
    "CONTAINS_OP": "`in`", "IS_OP": "`is`", "FORMAT_VALUE": "an f-string", "FORMAT_SIMPLE": "an f-string",
    "BUILD_STRING": "an f-string",
    "FOR_ITER": "a loop", "MAKE_FUNCTION": "a function inside", "IMPORT_NAME": "an import",
}
# fmt: on


def why_not(function: FunctionType) -> str | None:
    """Why the function may not be traced; None where it may."""
    code = function.__code__
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return "a generator or coroutine is left to Python"
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS) or code.co_kwonlyargcount:
        return "only functions of one event are traced"
    if not all(is_constant(value) for value in function.__defaults__ or ()):
        return "a default that is no constant is left to Python"
    texts = any(isinstance(constant, str | bytes) for constant in code.co_consts[1:])
    for instruction in dis.get_instructions(code):
        reason = _refused(instruction, function, texts)
        if reason is not None:
            return f"{reason} is left to Python, where the source is not at hand"
    return None


def _refused(instruction: dis.Instruction, function: FunctionType, texts: bool) -> str | None:
    name, value = instruction.opname, instruction.argval
    if name == "LOAD_GLOBAL":
        # The only one whose meaning a proxy takes part in.
        if value != "abs" or value in function.__globals__ or not hasattr(builtins, value):
            return f"the name {value!r} from outside"
        return None
    if name not in _STRAIGHT:
        if "JUMP" in name:
            return "a branch"
        return _REASONS.get(name, name.lower())
    if name == "BINARY_OP" and instruction.argrepr not in _OPERATORS:
        # `%` is allowed where there is no text for it to format: `"…" % event` would not even ask for a field.
        return None if instruction.argrepr == "%" and not texts else instruction.argrepr
    if name in ("LOAD_ATTR", "LOAD_METHOD") and str(value).startswith("__"):
        return str(value)
    return None
