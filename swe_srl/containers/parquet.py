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
from swe_srl.containers.text import EMPTY, Row
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
                for row in _in_microseconds(batch).to_pylist():
                    number += 1
                    yield number, _as_json(row, number)
            if not number:
                yield 1, Dropped(1, EMPTY, "a table without a row")
        except (pyarrow.ArrowException, ValueError, OverflowError, LookupError, RecursionError) as error:
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise OSError(f"a damaged Parquet table: {said}") from error


def _in_microseconds(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """Python's times have no nanoseconds, those that pandas writes have."""
    columns = [
        column.cast(pyarrow.timestamp("us", column.type.tz), safe=False)
        if pyarrow.types.is_timestamp(column.type) and column.type.unit == "ns"
        else column
        for column in batch.columns
    ]
    return pyarrow.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _as_json(row: dict[str, Any], number: int) -> object | Dropped:
    """Times, decimals and bytes as text: a log's reader knows JSON values only."""
    try:
        document: object = orjson.loads(orjson.dumps(row, default=_as_text, option=orjson.OPT_NON_STR_KEYS))
    except (TypeError, orjson.JSONDecodeError) as error:
        return Dropped(number, NOT_JSON, str(error))
    return document


def _as_text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
