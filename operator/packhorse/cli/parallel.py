"""Pieces of a transfer, several at a time.

Not a ThreadPoolExecutor: that one waits for its threads, and Ctrl-C has to end the command at once, though a piece may
take minutes on a slow line. These threads are left behind, and the process ends without them.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

THREADS = "transfer"
"""How the names of the threads begin."""

_PATIENCE = 5.0  # seconds that the other pieces get to end by themselves after an error; after Ctrl-C none


def run(pieces: Sequence[T], work: Callable[[T], None], done: Callable[[T], None], threads: int) -> None:
    """Do the work for every piece.

    Args:
        pieces: What is to be done, begun in this order.
        work: Does one of them, in one of the threads.
        done: Called for each that is done, in the caller's thread.
        threads: How many at a time.

    Raises:
        BaseException: What ``work`` raised first; nothing further is begun then.
    """
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    finished: queue.SimpleQueue[tuple[T, BaseException | None]] = queue.SimpleQueue()
    stopped = threading.Event()
    for piece in pieces:
        waiting.put(piece)

    def serve() -> None:
        while not stopped.is_set():
            try:
                piece = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                work(piece)
            except BaseException as error:
                finished.put((piece, error))
                return
            finished.put((piece, None))

    started = [
        threading.Thread(target=serve, name=f"{THREADS}-{number}", daemon=True)
        for number in range(min(threads, len(pieces)))
    ]
    for thread in started:
        thread.start()
    try:
        _collect(finished, len(pieces), done)
    except Exception:
        stopped.set()
        deadline = time.monotonic() + _PATIENCE
        for thread in started:
            thread.join(max(0.0, deadline - time.monotonic()))
        raise
    finally:
        stopped.set()


def _collect(
    finished: "queue.SimpleQueue[tuple[T, BaseException | None]]", count: int, done: Callable[[T], None]
) -> None:
    for _ in range(count):
        piece, error = finished.get()
        if error is not None:
            raise error
        done(piece)
