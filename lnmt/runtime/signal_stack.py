"""The alternate stack on which a thread's signals are handled, kept safe from libraries.

OpenVINO gives the thread that compiles a model such a stack and frees it with the model, without taking it away
again where another model was compiled in between. The next signal with a handler (Ctrl-C, a child's end) is then
handled on memory that is gone: a segmentation fault. Python needs no alternate stack.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """`stack_t` of Linux, see sigaltstack(2)."""

    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """After it, this thread has the alternate signal stack that it had before, or none. Linux; elsewhere nothing."""
    if sys.platform != "linux":
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)
