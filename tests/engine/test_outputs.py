"""How outputs read."""

from workbench.engine.outputs import RequestMetrics


def test_metrics_read_as_times_after_the_arrival():
    done = RequestMetrics(1.0, 1.005, 1.0228, 1.311, 1.3111)
    assert repr(done) == (
        "RequestMetrics(scheduled after 5.00 ms, first token after 22.8 ms, last token after 311 ms, "
        "finished after 311 ms)"
    )
    assert repr(RequestMetrics(1.0, None, None, None, None)) == "RequestMetrics(arrived, not scheduled yet)"
