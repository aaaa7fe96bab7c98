"""Traces as files: gzip-compressed JSON lines. A header, the base snapshot, a line per record, an end mark.

Files are data: reading one runs no code, needs no model and imports no torch.
"""

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from workbench.core.errors import WorkbenchError
from workbench.core.records import SCHEMA_VERSION, Snapshot, StepRecord
from workbench.trace.progress import progress
from workbench.trace.wire import RecordReader, RecordWriter, dumps, snapshot_from_json, snapshot_to_json

FORMAT = "inference-workbench trace"
END = '{"end":true}'


class TraceFileError(WorkbenchError):
    """A file is no trace, is damaged, or was written by a newer version."""


class TraceContent(NamedTuple):
    """What a file holds. info: what never changes about the run. texts: token id -> text. base: before the records."""

    info: Mapping[str, Any]
    texts: Mapping[int, str]
    base: Snapshot
    records: Sequence[StepRecord]


def write_trace(path: Path, content: TraceContent) -> None:
    """Write a file under a temporary name first, so that an interrupted save leaves no half of one."""
    header = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "num_records": len(content.records),
        "info": content.info,
        "texts": content.texts,
    }
    partial = path.with_name(path.name + ".part")
    with gzip.open(partial, "wb", compresslevel=6) as file:
        file.write(dumps(header) + b"\n")
        file.write(dumps(snapshot_to_json(content.base)) + b"\n")
        writer = RecordWriter()
        for record in progress(content.records, "Saving the steps"):
            file.write(dumps(writer.to_json(record)) + b"\n")
        file.write(END.encode() + b"\n")
    partial.replace(path)


def read_trace(path: Path) -> TraceContent:
    """Read a file. Raises TraceFileError, which says what is wrong, or FileNotFoundError."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TraceFileError(f"{path} is no trace, or is damaged: {error}") from error
    header = _header(path, lines[0])
    count = header["num_records"]
    if len(lines) < count + 3 or lines[count + 2] != END:
        raise TraceFileError(f"{path} is cut off: {max(0, len(lines) - 2)} of {count} records; save it again")
    line = 1
    try:
        texts = {int(token): str(text) for token, text in header["texts"].items()}
        first = json.loads(lines[1])
        if header["schema_version"] == 1:  # the pool was told once, as two fields of the snapshot
            first["pool"] = [
                first["num_blocks"],
                first["block_size"],
                "auto",
                header["info"].get("kv_bytes_per_block", 0),
            ]
        base = snapshot_from_json(first)
        records, reader = [], RecordReader(header["schema_version"])
        for line in progress(range(2, count + 2), "Loading the steps"):
            records.append(reader.from_json({"pool": base.pool, **json.loads(lines[line])}))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise TraceFileError(f"{path} is damaged in line {line + 1}: {error}") from error
    return TraceContent(header["info"], texts, base, records)


def _header(path: Path, line: str) -> dict[str, Any]:
    try:
        header = json.loads(line)
        if header["format"] != FORMAT:
            raise ValueError(header["format"])
        version = header["schema_version"]
        if version > SCHEMA_VERSION:
            raise TraceFileError(
                f"{path} was written with trace schema {version}, and this version reads up to {SCHEMA_VERSION}; "
                "upgrade inference-workbench to open it"
            )
        if not (isinstance(header["num_records"], int) and isinstance(header["info"], dict)):
            raise TypeError("the header is incomplete")
    except (KeyError, TypeError, ValueError) as error:
        raise TraceFileError(f"{path} is not a trace of the inference workbench") from error
    return dict(header)
