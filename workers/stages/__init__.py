"""What happens to a task after the GPU, one file a stage, as Celery functions (generation/tasks/stages.py has the
table of states and queues). Importing this package imports the file of every row of that table, which registers its
function with Celery, and that of the previews.

Each takes a lease on its stage in the row, works, and moves the row on. The chain of messages is only the fast path:
the reconciler sends a stage again from the row's state when its lease ran out, so every function may run twice and must
then do nothing the second time.

    postprocess   raw picture -> encoded original and thumbnail, still in the raw store, and their Image rows; with it
                  those of waiting tasks of the same size that ask for the same
    upload        -> the images store, verified
    notify        -> succeeded, with the webhook's outbox row and message; the raw store emptied
    enlarge       for recipes that go on after delivery: the whole recipe, once the first version is out

`preview` belongs to no task: it shows the web process what a picture will become.

The raw picture stays until the end: only then is there nothing left that would need it. What the stages share:
lease.py, failures.py, encode.py, images.py, picture_check.py.
"""

from importlib import import_module

from generation.tasks.stages import STAGES

for _stage in STAGES:
    import_module(f"{__name__}.{_stage.name}")
import_module(f"{__name__}.preview")
