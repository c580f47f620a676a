"""Does every fault to two replicas under load, and prints a line for each."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.faults.cases import CASES, Case
from tests.faults.cluster import Cluster, cluster
from tests.faults.scenes import NotHere
from tests.faults.trial import trial
from tests.support.seed import own_directory

# Of what a broken rule left in a history, so many lines are shown.
SHOWN = 5


def main() -> int:
    """Returns the exit status: 0 when no fault lost or spoiled anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(2**16), help="what chance is made of")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="the faults whose names have one of these in them")
    options = parser.parse_args()
    cases = [case for case in CASES if not options.only or any(word in case.name for word in options.only)]
    started = time.monotonic()
    print(f"seed {options.seed}", flush=True)
    with own_directory() as directory, cluster(directory, options.seed) as running:
        good = [_run(running, case, number) for number, case in enumerate(cases)]
    print(f"{sum(good)} of {len(good)} good, in {time.monotonic() - started:.0f} s")
    return 0 if all(good) else 1


def _run(running: Cluster, case: Case, number: int) -> bool:
    try:
        with case.scene(running):
            verdict = trial(running, case.fault, f"case{number}")
    except NotHere as reason:
        print(f"skip {case.name:38} {reason}", flush=True)
        return True
    print(f"{'ok  ' if verdict.is_good else 'FAIL'} {case.name:38} {verdict}", flush=True)
    for line in verdict.violations[:SHOWN]:
        print(f"     {line}", flush=True)
    return verdict.is_good


if __name__ == "__main__":
    sys.exit(main())
