"""`python -m tests.badinput`: run a campaign, or one case of it again."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from .campaign import SEED, outcome_line, run_campaign, run_one, schedule, time_left
from .report import read_outcomes, report_lines
from .values import keep_values
from .world import World, build_world
from .zygote import TIERS, warm_up, work

_EVERY_S = 10.0
_KEPT_CHARS = 2_000


def main() -> int:
    """The exit code: 1 when a case ended as it should not."""
    parser = argparse.ArgumentParser("python -m tests.badinput", description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="how many cases")
    parser.add_argument("--seed", type=int, default=SEED, help="the seed of the campaign")
    parser.add_argument("--quick", action="store_true", help="the shares of `make test`")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--case", help="run this one only and print what it says: KIND:NUMBER")
    parser.add_argument("--fresh", action="store_true", help="with --case: in a new interpreter")
    parser.add_argument("--world", type=Path, help="a folder of an earlier campaign to copy from")
    parser.add_argument("--report", type=Path, help="write each outcome there as it comes")
    parser.add_argument("--table", type=Path, help="print the table of such a report, no more")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.table:
        print("\n".join(report_lines(read_outcomes(args.table), args.seed)))
        return 0
    if args.part:
        part, parts = map(int, args.part.split("/"))
        cases = schedule(args.n, args.seed, args.quick)[part::parts]
        work(World(args.world), cases, args.seed, args.quick)
        return 0
    with tempfile.TemporaryDirectory(prefix="badinput-") as folder:
        root = args.world or Path(folder) / "world"
        root.mkdir(parents=True, exist_ok=True)
        world = build_world(root)
        return _again(world, args, Path(folder)) if args.case else _campaign(world, args)


def _again(world: World, args: argparse.Namespace, folder: Path) -> int:
    keep_values(world.root, args.seed)
    warm_up(len(TIERS) - 1)
    kind, _, number = args.case.partition(":")
    outcome = run_one(kind, int(number), args.seed, world, folder, fresh=args.fresh)
    assert outcome is not None  # the last tier passes nothing on
    ended = outcome.ended
    print(f"birdlab {' '.join(ended.argv)[:500]}\n{ended.said[-5000:]}")
    print(f"exit code {ended.code} after {ended.seconds:.2f} s: {ended.fault or 'as it should'}")
    return bool(ended.fault)


def _campaign(world: World, args: argparse.Namespace) -> int:
    began = shown = time.monotonic()
    outcomes = []
    print(f"{args.n:,} cases, seed {args.seed}, {args.jobs} processes", flush=True)
    if args.report:
        args.report.parent.mkdir(parents=True, exist_ok=True)
        args.report.write_text("")
        print(f"each outcome goes to {args.report}; --table {args.report} sums them up", flush=True)
    for outcome in run_campaign(world, args.n, args.seed, args.jobs, args.quick):
        said = outcome.ended.said[:_KEPT_CHARS]
        outcomes.append(replace(outcome, ended=replace(outcome.ended, said=said)))
        if args.report:
            with args.report.open("a") as report:
                report.write(outcome_line(outcomes[-1]))
        if outcome.ended.fault:
            print(f"fault: --case {outcome.name}: {outcome.ended.fault}", flush=True)
        if time.monotonic() - shown > _EVERY_S:
            shown = time.monotonic()
            left_s = time_left(began, len(outcomes), args.n)
            print(f"{len(outcomes):,} of {args.n:,}, {left_s / 60:.1f} min left", flush=True)
    minutes = (time.monotonic() - began) / 60
    print(f"{len(outcomes):,} cases, seed {args.seed}, {args.jobs} processes, {minutes:.1f} min\n")
    print("\n".join(report_lines(sorted(outcomes, key=lambda o: o.number), args.seed)))
    return any(o.ended.fault for o in outcomes)


if __name__ == "__main__":
    sys.exit(main())
