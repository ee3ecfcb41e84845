"""Opened files as streams of what they stand for: gzip and zstd unpacked, the members of a tar archive one by one."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import PurePosixPath
from typing import IO, Any, cast

import zstandard

Stream = io.BufferedReader
BROKEN: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, zstandard.ZstdError, tarfile.TarError)

_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_TAR_MAGIC, _TAR_AT = b"ustar", 257
_CHUNK = 1 << 16
BUFFER = 1 << 18  # bytes; a run is hundreds of kilobytes in one line


def opened(file: IO[bytes], stack: ExitStack) -> Stream:
    """The content of `file`, unpacked if it is packed. `stack` closes what is opened on the way."""
    stream = file if isinstance(file, io.BufferedReader) else io.BufferedReader(_Filled(file), BUFFER)
    head = stream.peek(4)
    if head.startswith(_GZIP):
        return io.BufferedReader(_Filled(stack.enter_context(gzip.open(stream, "rb"))), BUFFER)
    if head.startswith(_ZSTD):
        return io.BufferedReader(_Filled(io.BufferedReader(_ZstdFrames(stream), _CHUNK)), BUFFER)
    return stream


def is_tar(stream: Stream) -> bool:
    return stream.peek(_TAR_AT + len(_TAR_MAGIC))[_TAR_AT:].startswith(_TAR_MAGIC)


def is_parquet(stream: Stream) -> bool:
    return stream.peek(len(_PARQUET)).startswith(_PARQUET)


def members(stream: Stream) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, content) of each file of a tar archive, in its order; hidden ones are left out, as in a folder.

    The archive is read once from front to end, and nothing of it is written anywhere. Raises TarError, and
    EOFError if the archive's end is missing.
    """
    watched = _Watched(stream)
    with tarfile.open(fileobj=cast("IO[bytes]", watched), mode="r|") as archive:
        for member in archive:
            hidden = any(part.startswith(".") for part in PurePosixPath(member.name).parts)
            if member.isfile() and not hidden and (content := archive.extractfile(member)):
                yield member.name, content
    if watched.tail.strip(b"\0"):
        raise EOFError("the archive is cut off: it does not end with an empty block")


class _Watched:
    """A stream that remembers the last block that was read: the library takes a cut in a header for the end."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.tail = b""

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self.tail = (self.tail + content)[-tarfile.BLOCKSIZE :]
        return content


class _Filled(io.RawIOBase):
    """A raw stream whose every read is as long as asked, so that `peek` sees as much as there is."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


class _ZstdFrames(io.RawIOBase):
    """The content of zstd frames, one after another: a store has one a trajectory.

    The library's own reader takes the end of the file inside a frame for the end of the content; here it is
    an EOFError, as it is with gzip, because what is lost must be told.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            chunk = b""
            if self._frame.eof:
                chunk = self._frame.unused_data
                self._frame, self._begun = zstandard.ZstdDecompressor().decompressobj(), False
            chunk = chunk or self._file.read(_CHUNK)
            if not chunk and self._begun:
                raise EOFError("the file ends inside a zstd frame")
            if not chunk:
                return 0
            self._begun = True
            self._content = memoryview(self._frame.decompress(chunk))
        count = min(len(buffer), len(self._content))
        buffer[:count], self._content = self._content[:count], self._content[count:]
        return count
