"""The mend for ipykernel's comm routing, with and without the routing that it mends."""

from __future__ import annotations

from ipykernel.comm.comm import BaseComm

from workbench.widgets.subshell import mend_comm


class PinnedComm:
    """A comm as ipykernel 7.4.0 makes it: replies go where it last sent from."""

    def __init__(self) -> None:
        self._reply_subshell_id = None

    def _reply_subshell_for(self, data: object, default: str | None) -> str | None:
        return self._reply_subshell_id


def test_a_pinned_comm_follows_the_front_end_again() -> None:
    comm = PinnedComm()
    assert comm._reply_subshell_for({}, "subshell-1") is None
    assert mend_comm(comm)
    assert comm._reply_subshell_for({}, "subshell-1") == "subshell-1"
    assert comm._reply_subshell_for({}, None) is None


def test_other_comms_are_not_touched() -> None:
    mended, neighbour = PinnedComm(), PinnedComm()
    mend_comm(mended)
    assert neighbour._reply_subshell_for({}, "subshell-1") is None


def test_mending_twice_changes_nothing() -> None:
    comm = PinnedComm()
    mend_comm(comm)
    mend_comm(comm)
    assert comm._reply_subshell_for({}, "subshell-1") == "subshell-1"


def test_a_comm_without_the_routing_is_left_alone() -> None:
    comm = object()
    assert not mend_comm(comm)


def test_the_installed_kernel_s_comm_can_be_mended() -> None:
    comm = BaseComm(target_name="test", primary=False)
    has_the_routing = hasattr(BaseComm, "_reply_subshell_for")
    assert mend_comm(comm) is has_the_routing
    if has_the_routing:
        comm._reply_subshell_id = None
        assert comm._reply_subshell_for({}, "subshell-1") == "subshell-1"
