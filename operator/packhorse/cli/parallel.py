"""Pieces of a transfer, several at a time.

Not a ThreadPoolExecutor: that one waits for its threads, and Ctrl-C has to end the command at once, though a piece may
take minutes on a slow line. These threads are left behind, and the process ends without them.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


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
            except BaseException as error:  # raised again where somebody hears it
                finished.put((piece, error))
                return
            finished.put((piece, None))

    try:
        for number in range(min(threads, len(pieces))):
            threading.Thread(target=serve, name=f"transfer-{number}", daemon=True).start()
        for _ in pieces:
            piece, error = finished.get()
            if error is not None:
                raise error
            done(piece)
    finally:
        stopped.set()
