"""Format the traceback of a failure for the job's history: lines of code, without the values of variables.

Loaded with the first failure.
"""

import json
import os
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType
from typing import Final

import jobfn
from jobfn.function.outcome import message_of

#: Maximum size in a JSON body. The Node callback server reads at most 100 kB of a report.
MAX_TRACEBACK_BYTES: Final = 16 * 1024
#: Maximum number of frames of an exception: the last ones.
MAX_FRAMES: Final = 100
#: Maximum number of exceptions in a chain of causes.
MAX_CAUSES: Final = 10
#: Maximum length of the message at the end: the failure itself has all of it.
_MAX_MESSAGE_CHARACTERS: Final = 1000
_TRUNCATED: Final = "… (truncated)\n"
#: Frames between the server and the handler are in these folders.
_RUNTIME_FOLDERS: Final = (
    str(Path(jobfn.__file__).parent) + os.sep,
    sysconfig.get_path("stdlib") + os.sep,
)
_PACKAGES_FOLDERS: Final = (sysconfig.get_path("purelib") + os.sep, sysconfig.get_path("platlib") + os.sep)


def format_traceback(error: BaseException) -> str:
    """Return the traceback of an exception, at most ``MAX_TRACEBACK_BYTES`` in JSON; a longer one without its start.

    It ends with the message that is sent as the failure's. Of its causes it has the types, because their messages may
    hold values.
    """
    message = message_of(error)[:_MAX_MESSAGE_CHARACTERS]
    parts = [_format(error, f"{_type_name(error)}: {message}")]
    current, seen = error, {id(error)}
    while len(seen) < MAX_CAUSES:
        if current.__cause__ is not None:
            following, text = current.__cause__, "The above exception was the direct cause of the following exception:"
        elif current.__context__ is not None and not current.__suppress_context__:
            following = current.__context__
            text = "During handling of the above exception, another exception occurred:"
        else:
            break
        if id(following) in seen:
            break
        seen.add(id(following))
        parts += [f"\n\n{text}\n\n", _format(following, _type_name(following))]
        current = following
    return _keep_end("".join(reversed(parts)))


def _format(error: BaseException, last_line: str) -> str:
    lines = ["Traceback (most recent call last):\n", *_frames(error.__traceback__)]
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions[:MAX_CAUSES]:
            lines += [f"  Exception of the group: {_type_name(inner)}\n", *_frames(inner.__traceback__)]
    return "".join(lines) + last_line


def _frames(trace: TracebackType | None) -> list[str]:
    """Format the frames from the handler on."""
    first = trace
    while first is not None and _is_runtime(first.tb_frame.f_code.co_filename):
        first = first.tb_next
    frames = traceback.StackSummary.extract(
        traceback.walk_tb(first or trace), limit=-MAX_FRAMES, lookup_lines=True, capture_locals=False
    )
    for frame in frames:
        # No marks below the lines, which show nothing that the lines do not.
        frame.colno = frame.end_colno = None
    return frames.format()


def _is_runtime(filename: str) -> bool:
    return filename.startswith(_RUNTIME_FOLDERS) and not filename.startswith(_PACKAGES_FOLDERS)


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}.{kind.__qualname__}"
    )


def _keep_end(text: str) -> str:
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if _json_bytes(text) <= MAX_TRACEBACK_BYTES:
        return text
    size = MAX_TRACEBACK_BYTES - _json_bytes(_TRUNCATED)
    start = len(text)
    while start > 0:
        size -= _json_bytes(text[start - 1])
        if size < 0:
            break
        start -= 1
    return _TRUNCATED + text[start:]


def _json_bytes(text: str) -> int:
    return len(json.dumps(text)) - 2
