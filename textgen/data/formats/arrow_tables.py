"""Parquet and Arrow files: the columns that are needed, a batch of rows at a time."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from textgen.data.formats.file_to_read import FileToRead, Row
from textgen.errors import first_line

if TYPE_CHECKING:
    import pyarrow

_ROWS = 1000  # converted to Python strings at a time
_BUFFER_BYTES = 1 << 20


def read_parquet(file: FileToRead) -> Iterator[Row]:
    """The text column of a Parquet file; missing values are empty texts."""
    import pyarrow.parquet

    def batches() -> Iterator["pyarrow.RecordBatch"]:
        # Without pre_buffer and with a buffer_size, pages are read when needed instead of a whole row group.
        with pyarrow.parquet.ParquetFile(file.path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as table:
            columns = _columns(file, table.schema_arrow)
            yield from table.iter_batches(_ROWS, columns=list(columns), use_threads=False)

    return _rows(file, "Parquet", batches)


def read_arrow(file: FileToRead) -> Iterator[Row]:
    """The text column of an Arrow file or stream, such as ``datasets`` saves; missing values are empty texts."""
    import pyarrow

    def batches() -> Iterator["pyarrow.RecordBatch"]:
        with pyarrow.memory_map(str(file.path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            if is_file:
                table = pyarrow.ipc.open_file(source)
                columns = _columns(file, table.schema)
                yield from (_checked(table.get_batch(i).select(columns)) for i in range(table.num_record_batches))
            else:
                stream = pyarrow.ipc.open_stream(source)
                columns = _columns(file, stream.schema)
                yield from (_checked(batch.select(columns)) for batch in stream)

    return _rows(file, "Arrow", batches)


def _checked(batch: "pyarrow.RecordBatch") -> "pyarrow.RecordBatch":
    """The rows, after it is known that they lie in the file: Arrow believes what a damaged one says about that."""
    batch.validate(full=True)
    return batch


def _rows(file: FileToRead, kind: str, batches: Callable[[], Iterator["pyarrow.RecordBatch"]]) -> Iterator[Row]:
    import pyarrow

    first = row = 0
    try:
        for rows in _slices(batches()):
            row, first = row + len(rows), row
            if rows.schema.names == [file.column]:
                yield from (text or "" for text in rows.column(0).to_pylist())
            else:
                yield from rows.to_pylist()
    except UnicodeDecodeError:
        raise file.error(f"a text in rows {first} to {row - 1} is not UTF-8.") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise file.error(f"cannot be read as {kind}: {first_line(error)}") from None


def _slices(batches: Iterable["pyarrow.RecordBatch"]) -> Iterator["pyarrow.RecordBatch"]:
    for batch in batches:
        for start in range(0, len(batch), _ROWS):
            yield batch.slice(start, _ROWS)


def _columns(file: FileToRead, schema: "pyarrow.Schema") -> list[str]:
    """The columns to read; that of the text has been checked to contain text."""
    import pyarrow

    columns = list(file.columns(schema.names))
    if columns == [file.column]:
        kind = schema.field(file.column).type
        values = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
        if values not in (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view(), pyarrow.null()):
            raise file.not_text("the column", str(kind))
    return columns
