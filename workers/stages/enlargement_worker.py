"""What the workers of queue `enlarge` import: the stages, at low priority. They enlarge pictures that are delivered
already, for minutes perhaps, in the processor time that the first versions of others leave.
"""

import os
from typing import Any, Final

from celery.signals import worker_process_init

from workers import stages

__all__ = ["stages"]
NICE: Final = 10  # a tenth of the processor time beside busy processes of the normal priority


@worker_process_init.connect(weak=False)
def lower_priority(**_: Any) -> None:
    """In each child of the pool."""
    os.nice(NICE)
