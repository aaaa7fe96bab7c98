"""Bytes and times as text, by the rules that the page follows too (extension/src/format.ts)."""

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


def time_text(seconds: float) -> str:
    """Seconds in the unit that keeps two or three digits: "85 µs", "3.10 ms", "24.2 ms", "1.24 s", "2 min 5 s"."""
    size = abs(seconds)
    if size == 0:
        return "0 ms"
    if size < 0.9995e-3:
        return f"{seconds * 1e6:.0f} µs"
    if size < 0.9995:
        places = 2 if size < 0.00995 else 1 if size < 0.0995 else 0
        return f"{seconds * 1e3:.{places}f} ms"
    if size < 99.5:
        return f"{seconds:.2f} s"
    whole = int(size + 0.5)
    return f"{'-' if seconds < 0 else ''}{whole // 60} min {whole % 60} s"
