"""One read of a file with limits: what it raises, its CPU time, its memory, and what it does besides reading.

Linux only: memory is the peak of the resident set, reset before each read through ``/proc/self/clear_refs``.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

MB = 2**20
SECONDS, SECONDS_PER_MB = 1.0, 0.1
BYTES, BYTES_PER_BYTE = 64 * MB, 12
MAX_ADDRESS_SPACE = 6 * 2**30
STOP_AFTER = 20.0  # seconds of CPU time

# Beginnings of the names of events of Python's audit that a reader must not cause.
FORBIDDEN = (
    "os.",
    "subprocess.",
    "socket.",
    "ctypes.",
    "shutil.",
    "pickle.",
    "marshal.dumps",
    "code.",
    "pty.",
    "webbrowser.",
)
HARMLESS = ("socket.gethostname", "os.listdir", "os.scandir", "os.fwalk", "os.walk", "os.putenv", "os.fspath")


class TooLongError(BaseException):
    """A read did not end. It is no Exception, which a reader might catch."""


class Measurement(NamedTuple):
    """What one read did.

    Attributes
    ----------
    error : Exception, optional
    seconds : float
        CPU time.
    size : int
        Peak of the memory above that before the read, in bytes.
    events : list of str
        Forbidden things that it did.
    """

    error: BaseException | None
    seconds: float
    size: int
    events: list[str]


class Meter:
    """Measures reads in this process; limits its address space.

    Parameters
    ----------
    writable : sequence of path
        Folders in which a reader may write; it may read there, and in the folders of Python and this library.
    """

    def __init__(self, *writable: Path) -> None:
        import glasscell

        self._writable = tuple(map(str, writable))
        self._readable = (*self._writable, sys.prefix, sys.base_prefix, str(Path(glasscell.__file__).parent))
        self._readable += tuple(path for path in sys.path if path.endswith("site-packages"))
        self._events: list[str] | None = None
        resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE,) * 2)
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGPROF, self._stop)

    def measure(self, read: Callable[[Path], object], path: Path) -> Measurement:
        """Read a file."""
        error: BaseException | None = None
        Path("/proc/self/clear_refs").write_text("5")
        before, self._events, events = _status("VmRSS"), [], []
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, STOP_AFTER)
        try:
            read(path)
        except (Exception, TooLongError) as raised:  # noqa: BLE001 - that is what is measured
            error = raised
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            events, self._events = self._events, None
        seconds = time.process_time() - start
        return Measurement(error, seconds, _status("VmHWM") - before, events)

    def _stop(self, *_: object) -> None:
        raise TooLongError

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        events = self._events
        if events is None or len(events) > 5:
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - quick
            flags = arguments[2]
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not path.startswith(self._writable if writes else self._readable):
                events.append(f"open {path}")
        elif event.startswith(FORBIDDEN) and event not in HARMLESS:
            events.append(f"{event} {arguments!r}"[:100])


def faults_of(measured: Measurement, size: int, name: str) -> list[str]:
    """Return which bounds a read of a file of this size and name exceeds, or that its error is not a ValueError."""
    faults, error = [], measured.error
    if isinstance(error, TooLongError):
        faults.append(f"hang: more than {STOP_AFTER:g} s of CPU time")
    elif error is not None:
        text = str(error)
        kind = type(error)
        if kind is not ValueError and not (issubclass(kind, ValueError) and kind.__module__.startswith("glasscell")):
            faults.append(f"undocumented error: {kind.__name__}: {text[:200]!r}")
        elif "\n" in text or len(text) > 1200 or name not in text:
            faults.append(
                f"error that is not one line with the name of the file: {text[:300]!r} ({len(text)} characters)"
            )
    if measured.seconds > SECONDS + SECONDS_PER_MB * size / MB:
        faults.append(f"time: {measured.seconds:.2f} s for {size} bytes")
    if measured.size > BYTES + BYTES_PER_BYTE * size:
        faults.append(f"memory: {measured.size / MB:.0f} MB for {size} bytes")
    if measured.events:
        faults.append(f"executed: {measured.events[:3]}")
    return faults


def _status(key: str) -> int:
    with open("/proc/self/status", "rb") as file:  # noqa: PTH123 - quick
        text = file.read()
    place = text.index(key.encode() + b":") + len(key) + 1
    return int(text[place:].split(maxsplit=1)[0]) * 1024
