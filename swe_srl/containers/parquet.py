"""A Parquet table → its rows as JSON values: how data sets are published."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import orjson
import pyarrow
from pyarrow.parquet import ParquetFile

from swe_srl.containers.streams import Stream
from swe_srl.containers.text import Row
from swe_srl.formats.document import Dropped

NOT_JSON = "row that JSON cannot hold"
_AT_ONCE = 16  # rows decoded at a time: a run may be megabytes


def table_rows(stream: Stream) -> Iterator[Row]:
    """(row's number, row), decoded a few at a time. Raises OSError for a damaged table."""
    with tempfile.TemporaryFile() as copy:
        file: Any = stream.raw if isinstance(stream.raw, io.FileIO) else copy
        if file is copy:  # a table is read from its end, and an archive's member has no way back
            shutil.copyfileobj(stream, copy)
        try:
            table = ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
            number = 0
            for batch in table.iter_batches(_AT_ONCE, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, _as_json(row, number)
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            raise OSError(f"a damaged Parquet table: {str(error).splitlines()[0]}") from error


def _as_json(row: dict[str, Any], number: int) -> object | Dropped:
    """Times, decimals and bytes as text: a log's reader knows JSON values only."""
    try:
        document: object = orjson.loads(orjson.dumps(row, default=_as_text, option=orjson.OPT_NON_STR_KEYS))
    except (TypeError, orjson.JSONDecodeError) as error:
        return Dropped(number, NOT_JSON, str(error))
    return document


def _as_text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
