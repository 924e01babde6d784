"""`python -m deploy.monitoring --to DIR` writes the files of deploy/monitoring/files.py. Thresholds and receivers come
from the ALERT_ variables.
"""

import argparse
import sys
from pathlib import Path

from deploy.monitoring.files import Monitored, files
from deploy.monitoring.receivers import Receivers
from deploy.monitoring.thresholds import Thresholds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.monitoring", description=__doc__)
    parser.add_argument("--to", type=Path, required=True, help="the folder")
    parser.add_argument("--web", help="host:port of a run on one machine (make run); without: the compose file's")
    parser.add_argument("--token-file", default="", help="with --web: a file with METRICS_TOKEN, if it is set")
    parser.add_argument("--runbook-base", default="", help="what stands before docs/ in links, ending in a slash")
    asked = parser.parse_args()
    try:
        limits, receivers = Thresholds.from_environment(), Receivers.from_environment()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    monitored = Monitored(limits=limits, runbook_base=asked.runbook_base)
    if asked.web:
        here = str(asked.to.resolve())
        monitored = Monitored(asked.web, (), asked.token_file, "127.0.0.1:9093", here, asked.runbook_base, limits)
    for path, text in files(monitored, receivers).items():
        place = asked.to / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
