"""Writes src/generated.ts: the TypeScript side of the records, made from the Python classes that define them.

    python extension/generate_types.py          write the file
    python extension/generate_types.py --check  exit with 1 if the file on disk is not what would be written

A NamedTuple travels as a JSON array in field order, so each gets an interface, a labelled tuple type and a decoder;
a dataclass travels as an object under its own field names. Decisions and sampled tokens of a record travel as columns
(workbench/trace/wire.py); src/record_reader.ts makes rows of them.
"""

import dataclasses
import json
import sys
import types
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from workbench.core import config, reasons, records, scheduler_output

TARGET = Path(__file__).parent / "src" / "generated.ts"
ENUMS: Sequence[type[StrEnum]] = (scheduler_output.Action, scheduler_output.Reason, records.BlockEventKind)
TUPLES: Sequence[type[NamedTuple]] = (
    config.PoolShape,
    scheduler_output.Decision,
    records.BlockEvent,
    records.Arrival,
    records.Sampled,
    records.Finished,
    records.SettingChange,
    records.StepTimes,
    records.RequestState,
)
OBJECTS: Sequence[type] = (records.StepRecord, records.Snapshot)
# Sequences of these travel as columns; null stands for what the record before had.
COLUMNS: dict[Any, str] = {
    scheduler_output.Decision: "[ids: string[] | null, num_computed: number[], noted: [number, DecisionRow][] | null]",
    records.Sampled: "[ids: string[] | null, token_ids: number[], positions: number[], "
    "logprobs: [place: number, logprob: number | null, alternatives: [number, number][]][]]",
}


def main(arguments: Sequence[str]) -> int:
    text = render()
    if "--check" in arguments:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
            return 0
        print(f"{TARGET} is out of date: run python extension/generate_types.py", file=sys.stderr)
        return 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


def render() -> str:
    """The whole generated file."""
    parts = [
        "// Made by generate_types.py from workbench/core; change the Python classes and run it again.\n",
        f"export const SCHEMA_VERSION = {records.SCHEMA_VERSION};\n",
    ]
    parts += [_enum(cls) for cls in ENUMS]
    parts += [_texts()]
    parts += [_tuple(cls) for cls in TUPLES]
    parts += [f"export type {cls.__name__}Columns = {columns};\n" for cls, columns in COLUMNS.items()]
    parts += [_object(cls) for cls in OBJECTS]
    return "\n".join(parts)


def _enum(cls: type[StrEnum]) -> str:
    values = "".join(f'\n  | "{member.value}"' for member in cls)
    return f"export type {cls.__name__} ={values};\n"


def _texts() -> str:
    waits = {reason.value: text for reason, text in reasons.WAITING_FOR.items()}
    return "\n".join(
        f"export const {name}: {kind} = {{\n"
        + "".join(f"  {key}: {json.dumps(text)},\n" for key, text in texts.items())
        + "};\n"
        for name, kind, texts in (
            ("WAITING_FOR", "Partial<Record<Reason, string>>", waits),
            ("REASON_TEXTS", "Record<string, string>", reasons.TEXTS),
        )
    )


def _tuple(cls: Any) -> str:
    hints = get_type_hints(cls)
    name, fields = cls.__name__, cls._fields
    interface = "".join(f"  {f}: {_type(hints[f])};\n" for f in fields)
    labelled = "".join(f"  {f}: {_type(hints[f])},\n" for f in fields)
    decoded = "".join(f"    {f}: row[{i}],\n" for i, f in enumerate(fields))
    return (
        f"export interface {name} {{\n{interface}}}\n\n"
        f"export type {name}Row = [\n{labelled}];\n\n"
        f"export function decode{name}(row: {name}Row): {name} {{\n  return {{\n{decoded}  }};\n}}\n"
    )


def _object(cls: type) -> str:
    hints = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    wire = "".join(f"  {n}: {_type(hints[n], wire=True)};\n" for n in names)
    plain = "".join(f"  {n}: {_type(hints[n])};\n" for n in names)
    given = [n for n in names if _columns(hints[n])]
    decoded = "".join(f"    {n}: {n if n in given else _decode(hints[n], f'wire.{n}')},\n" for n in names)
    name = cls.__name__
    parameters = ", ".join([f"wire: {name}Wire", *(f"{n}: {_type(hints[n])}" for n in given)])
    return (
        f"export interface {name}Wire {{\n{wire}}}\n\n"
        f"export interface {name} {{\n{plain}}}\n\n"
        f"export function decode{name}({parameters}): {name} {{\n  return {{\n{decoded}  }};\n}}\n"
    )


def _columns(hint: Any) -> bool:
    return get_origin(hint) is Sequence and get_args(hint)[0] in COLUMNS


def _is_row(hint: Any) -> bool:
    return hint in TUPLES


def _type(hint: Any, wire: bool = False) -> str:
    if _is_row(hint):
        return f"{hint.__name__}Row" if wire else str(hint.__name__)
    if hint in ENUMS:
        return str(hint.__name__)
    if hint in (int, float):
        return "number"
    if hint is str:
        return "string"
    if hint is type(None):
        return "null"
    origin, arguments = get_origin(hint), get_args(hint)
    if wire and _columns(hint):
        return f"{arguments[0].__name__}Columns"
    if origin in (Union, types.UnionType):
        return " | ".join(_type(a, wire) for a in arguments)
    if origin is Sequence or (origin is tuple and arguments[1:] == (Ellipsis,)):
        inner = _type(arguments[0], wire)
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    if origin is tuple:
        return f"[{', '.join(_type(a, wire) for a in arguments)}]"
    if origin is dict:
        return f"Record<{_type(arguments[0], wire)}, {_type(arguments[1], wire)}>"
    raise TypeError(f"no TypeScript for {hint!r}: teach generate_types.py")


def _decode(hint: Any, value: str) -> str:
    if _is_row(hint):
        return f"decode{hint.__name__}({value})"
    arguments = get_args(hint)
    if get_origin(hint) in (tuple, Sequence) and arguments and _is_row(arguments[0]):
        return f"{value}.map(decode{arguments[0].__name__})"
    if get_origin(hint) is dict and _is_row(arguments[1]):
        row = arguments[1].__name__
        return f"Object.fromEntries(Object.entries({value}).map(([key, row]) => [key, decode{row}(row)]))"
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
