"""States that a trace can start to replay from."""

from collections import Counter

from workbench.core.frozen import PAGE, BlockPage, FrozenState
from workbench.core.records import Snapshot
from workbench.trace.size import POINTER, frozen_bytes, snapshot_bytes

KEYFRAME_STEPS = 256
MAX_KEYFRAMES = 512
KEYFRAME_BYTES = 64 * 2**20
PAGE_BYTES = 3 * POINTER * PAGE

Keyframe = FrozenState | Snapshot


def written_out(keyframe: Keyframe) -> Snapshot:
    """The snapshot that a keyframe is or stands for."""
    return keyframe if isinstance(keyframe, Snapshot) else keyframe.snapshot()


class Keyframes:
    """One every `spacing` steps, at most MAX_KEYFRAMES, of about KEYFRAME_BYTES together (but always two).

    Where they would be more, every second one goes and they stand twice as far apart. Pages of blocks that frozen
    states share are counted once.
    """

    def __init__(self) -> None:
        self.frames: dict[int, Keyframe] = {}
        self._spacing = KEYFRAME_STEPS
        self._users: Counter[BlockPage] = Counter()  # in how many frames a page is
        self._own_bytes = 0

    @property
    def num_bytes(self) -> int:
        """Memory of all, about."""
        return self._own_bytes + PAGE_BYTES * len(self._users)

    def due(self, step: int) -> bool:
        """Whether the state after this step should be kept, and is not yet."""
        return step % self._spacing == 0 and step not in self.frames

    def keep(self, frame: Keyframe) -> None:
        """Keep it, if it still is due; others may have to go."""
        if not self.due(frame.step):
            return
        self.frames[frame.step] = frame
        self._own_bytes += _own_bytes(frame)
        if isinstance(frame, FrozenState):
            self._users.update(frame.blocks.pages)
        while len(self.frames) > 2 and (len(self.frames) > MAX_KEYFRAMES or self.num_bytes > KEYFRAME_BYTES):
            self._spacing *= 2
            for step in [step for step in self.frames if step % self._spacing]:
                self.drop(step)

    def drop(self, step: int) -> None:
        """Forget the state after this step, if there is one."""
        frame = self.frames.pop(step, None)
        if frame is None:
            return
        self._own_bytes -= _own_bytes(frame)
        if isinstance(frame, FrozenState):
            self._users.subtract(frame.blocks.pages)
            for page in frame.blocks.pages:
                if not self._users[page]:
                    del self._users[page]


def _own_bytes(frame: Keyframe) -> int:
    return snapshot_bytes(frame) if isinstance(frame, Snapshot) else frozen_bytes(frame)
