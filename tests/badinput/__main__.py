"""`python -m tests.badinput`: run a campaign, or one case of it again."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from .campaign import SEED, run_campaign, run_one, schedule, time_left, warm_up, work
from .report import report_lines
from .world import World, build_world

_EVERY_S = 10.0


def main() -> int:
    """The exit code: 1 when a case ended as it should not."""
    parser = argparse.ArgumentParser("python -m tests.badinput", description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="how many cases")
    parser.add_argument("--seed", type=int, default=SEED, help="the seed of the campaign")
    parser.add_argument("--quick", action="store_true", help="the shares of `make test`")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--case", help="run this one only and print what it says: KIND:NUMBER")
    parser.add_argument("--world", type=Path, help="a folder of an earlier campaign to copy from")
    parser.add_argument("--report", type=Path, help="write the report there too")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        part, parts = map(int, args.part.split("/"))
        cases = schedule(args.n, args.seed, args.quick)[part::parts]
        work(World(args.world), cases, args.seed)
        return 0
    with tempfile.TemporaryDirectory(prefix="badinput-") as folder:
        root = args.world or Path(folder) / "world"
        root.mkdir(parents=True, exist_ok=True)
        world = build_world(root)
        return _again(world, args, Path(folder)) if args.case else _campaign(world, args)


def _again(world: World, args: argparse.Namespace, folder: Path) -> int:
    warm_up(args.seed)
    kind, _, number = args.case.partition(":")
    ended = run_one(kind, int(number), args.seed, world, folder).ended
    print(f"birdlab {' '.join(ended.argv)[:500]}\n{ended.said[:5000]}")
    print(f"exit code {ended.code} after {ended.seconds:.2f} s: {ended.fault or 'as it should'}")
    return bool(ended.fault)


def _campaign(world: World, args: argparse.Namespace) -> int:
    began = shown = time.monotonic()
    outcomes = []
    for outcome in run_campaign(world, args.n, args.seed, args.jobs, args.quick):
        outcomes.append(outcome)
        if outcome.ended.fault:
            print(f"fault: --case {outcome.name}: {outcome.ended.fault}", flush=True)
        if time.monotonic() - shown > _EVERY_S:
            shown = time.monotonic()
            left_s = time_left(began, len(outcomes), args.n)
            print(f"{len(outcomes):,} of {args.n:,}, {left_s / 60:.1f} min left", flush=True)
    minutes = (time.monotonic() - began) / 60
    print(f"{len(outcomes):,} cases, seed {args.seed}, {args.jobs} processes, {minutes:.1f} min\n")
    lines = report_lines(sorted(outcomes, key=lambda o: o.number), args.seed)
    print("\n".join(lines))
    if args.report:
        args.report.write_text("\n".join(lines) + "\n")
    return any(o.ended.fault for o in outcomes)


if __name__ == "__main__":
    sys.exit(main())
