"""The chart of latencies: its bars, percentiles and title are those of the metrics."""

import pytest

from tests.trace.test_picture import run
from workbench.trace import Slo
from workbench.trace.metrics import goodput, histogram, measure, percentile


def test_the_chart_shows_the_metrics():
    _, trace, _ = run(12, 60)
    records = trace.records()
    measured = measure(records)
    gaps = [gap for m in measured.values() for gap in m.itl]
    limit = Slo(e2e=percentile([m.e2e for m in measured.values() if m.e2e is not None], 50))
    figure = trace.plot_latency(limit)
    edge, bins = histogram(gaps, 40)
    bars = figure.data[1]
    assert list(bars.y) == bins
    assert sum(bins) == len(gaps)
    assert bars.x[-1] + bars.width / 2 == pytest.approx(edge * 1e3)
    notes = [note.text for note in figure.layout.annotations]
    assert f"p95 {percentile(gaps, 95) * 1e3:.2f} ms" in notes
    assert "limit" in notes
    found = goodput(records, limit)
    assert 0 < found.met < found.ended
    assert figure.layout.title.text.startswith(f"{found.met} of {found.ended} requests kept the limits")


def test_an_empty_run_has_an_empty_chart():
    _, trace, _ = run(12, 0)
    assert not any(any(bars.y) for bars in trace.plot_latency().data)


def test_goodput_counts_failures_as_missed_and_leaves_cancelled_ones_out():
    _, trace, _ = run(12, 60)
    measured = measure(trace.records())
    ended = [m for m in measured.values() if m.finish_reason is not None]
    assert Slo().met_by(ended[0])
    failed = type(ended[0])(
        **{name: getattr(ended[0], name) for name in ended[0].__slots__} | {"finish_reason": "error"}
    )
    assert not Slo().met_by(failed)
    cancelled = type(ended[0])(
        **{name: getattr(ended[0], name) for name in ended[0].__slots__} | {"finish_reason": "abort"}
    )
    assert goodput(trace.records(), Slo(), {"a": ended[0], "b": failed, "c": cancelled}).ended == 2
