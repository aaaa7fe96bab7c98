"""What a machine can do at most, as measured."""

from typing import NamedTuple


class MachineLimits(NamedTuple):
    """copy_bandwidth: bytes a second, read and written. matmul_peak: floating-point operations a second in `dtype`."""

    device: str
    dtype: str
    threads: int
    copy_bandwidth: float
    matmul_peak: float

    def __str__(self) -> str:
        return (
            f"{self.device}, {self.threads} threads: copies {self.copy_bandwidth / 1e9:,.1f} GB/s, multiplies "
            f"{self.matmul_peak / 1e9:,.0f} GFLOP/s in {self.dtype}"
        )
