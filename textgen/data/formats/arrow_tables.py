"""Parquet and Arrow files: one column, a batch of rows at a time."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from textgen.data.formats.file_to_read import FileToRead
from textgen.errors import first_line

if TYPE_CHECKING:
    import pyarrow

_ROWS = 1000  # converted to Python strings at a time
_BUFFER_BYTES = 1 << 20


def read_parquet(file: FileToRead) -> Iterator[str]:
    """The text column of a Parquet file; missing values are empty texts."""
    import pyarrow.parquet

    def batches() -> Iterator["pyarrow.RecordBatch"]:
        # Without pre_buffer and with a buffer_size, pages are read when needed instead of a whole row group.
        with pyarrow.parquet.ParquetFile(file.path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as table:
            _check_column(file, table.schema_arrow)
            yield from table.iter_batches(_ROWS, columns=[file.column], use_threads=False)

    return _texts(file, "Parquet", batches)


def read_arrow(file: FileToRead) -> Iterator[str]:
    """The text column of an Arrow file or stream, such as ``datasets`` saves; missing values are empty texts."""
    import pyarrow

    def batches() -> Iterator["pyarrow.RecordBatch"]:
        with pyarrow.memory_map(str(file.path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            if is_file:
                table = pyarrow.ipc.open_file(source)
                _check_column(file, table.schema)
                yield from (table.get_batch(i) for i in range(table.num_record_batches))
            else:
                stream = pyarrow.ipc.open_stream(source)
                _check_column(file, stream.schema)
                yield from stream

    return _texts(file, "Arrow", batches)


def _texts(file: FileToRead, kind: str, batches: Any) -> Iterator[str]:
    import pyarrow

    first = row = 0
    try:
        for values in _slices(file, batches()):
            row, first = row + len(values), row
            for text in values.to_pylist():
                yield text or ""
    except UnicodeDecodeError:
        raise file.error(f"a text in rows {first} to {row - 1} is not UTF-8.") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise file.error(f"cannot be read as {kind}: {first_line(error)}") from None


def _slices(file: FileToRead, batches: Iterable["pyarrow.RecordBatch"]) -> Iterator["pyarrow.Array"]:
    for batch in batches:
        column = batch.column(batch.schema.get_field_index(file.column))
        for start in range(0, len(column), _ROWS):
            yield column.slice(start, _ROWS)


def _check_column(file: FileToRead, schema: "pyarrow.Schema") -> None:
    import pyarrow

    if schema.get_field_index(file.column) < 0:
        raise file.no_column(schema.names)
    kind = schema.field(file.column).type
    values = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    texts = (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view(), pyarrow.null())
    if values not in texts:
        raise file.not_text("the column", str(kind))
