"""The supervisor as a process of its own, from the environment alone: `python -m lnmt.serving.processes`."""

from __future__ import annotations

import sys


def main() -> int:
    """Supervise the service of the project in LNMT_PROJECT; its exit code."""
    from lnmt.errors import LnmtError
    from lnmt.params import load_params
    from lnmt.serving.server import supervise
    from lnmt.settings import Settings
    from lnmt.telemetry import quiet

    quiet()
    settings = Settings()
    try:
        return supervise(settings, name=load_params(settings.project / "params.yaml").name)
    except LnmtError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
