"""From raw text to a released, monitored model, and what to look at afterwards. Run it with `make demo`.

    python -m examples.demo [--project DIRECTORY]

A second run finds the pipeline up to date and repeats the release and the traffic.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from examples.demo.release import await_generation, canary, promote, start_over, trace_one
from examples.demo.screen import collect, show
from examples.demo.traffic import rows, send
from lnmt.drive.environment import prefect_environment
from lnmt.errors import LnmtError
from lnmt.files import write_json
from lnmt.monitoring.signal import Signal, read_signal
from lnmt.params import load_params
from lnmt.serving.server import running_service
from lnmt.settings import Settings, load_settings

REVIEWS, TWEETS = "reviews", "tweets"
REQUESTS = 2000  # of each kind of traffic, at most


def demo(project: Path) -> None:
    """The script that is the system, in order."""
    started = time.monotonic()
    settings = prepare(project)
    from flows.monitor import monitor
    from flows.train import train

    def judge() -> Signal:
        monitor()
        return read_signal(project / "reports" / "monitoring")

    processed = project / "data" / "processed"
    stages = train()
    start_over(settings)
    with running_service(settings, name=load_params(project / "params.yaml").name) as url:
        split = canary(settings)
        await_generation(url, settings)
        reviews = send(url, REVIEWS, *rows(processed / "test", REQUESTS))
        promoted = promote(settings)
        await_generation(url, settings)
        quiet_window = judge()
        tweets = send(url, TWEETS, *rows(processed / "holdout", REQUESTS))
        drifted_window = judge()

    result = collect(
        settings,
        stages=stages,
        split=split,
        traffic={REVIEWS: reviews, TWEETS: tweets},
        promoted=promoted,
        signals={REVIEWS: quiet_window, TWEETS: drifted_window},
        trace=trace_one(settings, tweets.answers[-1].prediction_id),
        seconds=time.monotonic() - started,
    )
    write_json(project / "reports" / "demo.json", result)
    show(result)


def prepare(project: Path) -> Settings:
    """Texts kept, Prefect inside the project, telemetry off: the environment that flows and service read."""
    os.environ |= {"LNMT_PROJECT": str(project), "LNMT_STORE_TEXT": "true"}
    settings = load_settings(project)
    os.environ |= prefect_environment(settings)
    return settings


def main() -> int:
    """Run it; an error is a few lines, not a traceback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="directory of params.yaml")
    try:
        demo(parser.parse_args().project.absolute())
    except LnmtError as error:
        print(f"\n{error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nstopped; what ended before is kept: run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
