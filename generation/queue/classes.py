"""The classes of tasks, P0 (urgent) to P3, and the names of the queues that have one list for each class.

cpu.p0 cpu.p1 cpu.p2 cpu.p3   what a worker of `cpu` reads, in turns (generation/queue/class_turns.py),
cpu                           and messages without a class: those of the clock, and of a program before the classes
"""

from typing import Final

CLASSES: Final = (0, 1, 2, 3)


def queue_of(work: str, priority: int) -> str:
    """Where the messages for this work wait, of tasks of that class."""
    return f"{work}.p{priority}"


def queues_of(work: str) -> tuple[str, ...]:
    """All that a worker for this work reads."""
    return (*(queue_of(work, priority) for priority in CLASSES), work)


def class_of(queue: str) -> int | None:
    """The class of a queue's messages; None where they have none."""
    number = queue.rpartition(".p")[2]
    return int(number) if queue.endswith(tuple(f".p{priority}" for priority in CLASSES)) else None
