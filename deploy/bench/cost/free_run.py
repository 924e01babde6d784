"""`python -m deploy.run` with a GPU worker whose model's work is free: what is left is the platform's own cost."""

import sys

from deploy import commands, run

commands.GPU_MODULE = "deploy.bench.queue.paced_worker"

if __name__ == "__main__":
    sys.exit(run.main())
