"""Bytes as text, by the rule that the page follows too (extension/src/format.ts)."""

_KIB, _MIB = 2**10, 2**20


def size_text(size: float) -> str:
    """Bytes in B, KiB or MiB: with a digit after the point under 100, halves rounded up, thousands with a comma."""
    if size < 0:
        return f"-{size_text(-size)}"
    whole = int(size + 0.5)
    if whole < _KIB:
        return f"{whole:,} B"
    # 1,023.5 KiB and more would be written as 1,024 KiB.
    name, unit = ("KiB", _KIB) if (whole + _KIB // 2) // _KIB < _KIB else ("MiB", _MIB)
    tenths = (10 * whole + unit // 2) // unit  # in whole numbers, as the page does, so that both round alike
    return f"{tenths // 10}.{tenths % 10} {name}" if tenths < 1000 else f"{(whole + unit // 2) // unit:,} {name}"
