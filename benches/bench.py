#!/usr/bin/env python3
"""Measures Ignite against its budgets. All figures of one run are of one machine in one quarter of an hour, and what is
compared is measured in turns, so that a slow or busy host slows both.

    scripts/bench [--runs N] [--only NAME,...] [--json FILE]
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import measure
import subjects


def main():
    options = parse_arguments()
    measure.adopt_orphans()
    wanted = options.only.split(",") if options.only else list(subjects.ALL)
    unknown = [name for name in wanted if name not in subjects.ALL]
    if unknown:
        sys.exit(f"bench: unknown subject {unknown[0]!r}: known are {', '.join(subjects.ALL)}")

    work = Path(tempfile.mkdtemp(prefix="ignite-bench-", dir="/tmp"))
    bench = Bench(options, work)
    rows = []
    try:
        bench.prepare()
        describe_host(bench)
        for name in wanted:
            started = time.monotonic()
            print(f"\n{name}: {subjects.ALL[name].__doc__.strip().splitlines()[0]}", flush=True)
            for row in subjects.ALL[name](bench):
                rows.append(row)
                print(f"  {row.what}: {row.measured}", flush=True)
            print(f"  ({time.monotonic() - started:.0f} s)", flush=True)
    finally:
        bench.clean_up()
    report(rows)
    if options.json:
        Path(options.json).write_text(json.dumps([row.__dict__ for row in rows], indent=2) + "\n")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ignite", required=True, help="the program")
    parser.add_argument("--kernel", required=True, help="a kernel package")
    parser.add_argument("--busybox", required=True, help="OCI layout of a task's image")
    parser.add_argument("--debian", required=True, help="OCI layout of a machine's image, with sshd")
    parser.add_argument("--runs", type=int, default=5, help="runs of each thing that is measured (default 5)")
    parser.add_argument("--image-mib", type=int, default=1024, help="content of the image of `importing` (default 1024)")
    parser.add_argument("--only", help=f"comma-separated subjects of: {', '.join(subjects.ALL)}")
    parser.add_argument("--json", help="also write the rows to this file")
    return parser.parse_args()


class Bench:
    """What subjects need: the program, images, and directories of this run's own."""

    def __init__(self, options, work):
        self.options = options
        self.runs = options.runs
        self.work = work
        self.log = str(work / "commands.log")
        self.env = self.environment(work / "data")
        self.busybox = f"oci:{options.busybox}"
        self.debian = f"oci:{options.debian}"
        self.shared_floor = None

    def environment(self, data):
        return {"IGNITE_DATA_DIR": str(data), "IGNITE_RUN_DIR": str(self.work / "run")}

    def ignite(self, *arguments, env=None, log=None):
        """Runs `ignite` to its end and returns what it cost."""
        log = log or self.log
        return measure.must(measure.run(self.command(*arguments), env or self.env, log), " ".join(map(str, arguments)), log)

    def command(self, *arguments):
        return [self.options.ignite, *map(str, arguments)]

    def start_background(self, *arguments):
        """Runs `ignite` whose supervisor stays: only the command itself is waited for."""
        pid = os.posix_spawn(self.options.ignite, self.command(*arguments), {**os.environ, **self.env}, file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2)])
        before = time.perf_counter()
        _, status, usage = os.wait4(pid, 0)
        cost = measure.Cost(time.perf_counter() - before, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024,
                            os.waitstatus_to_exitcode(status))
        return measure.must(cost, " ".join(map(str, arguments)), self.log)

    def output(self, *arguments):
        log = self.work / "output"
        log.unlink(missing_ok=True)
        self.start_and_log(log, *arguments)
        return log.read_text()

    def start_and_log(self, log, *arguments):
        kept, self.log = self.log, str(log)
        try:
            return self.start_background(*arguments)
        finally:
            self.log = kept

    def vm_process(self, prefix):
        """Pid of a program of the one VM that runs."""
        for pid, name in measure.processes_touching(self.work):
            if name.startswith(prefix):
                return pid
        raise SystemExit(f"bench: no process {prefix} found")

    def floor(self):
        if self.shared_floor is None:
            import floor
            self.start_background("run", "-d", "--name", "model", self.busybox, "sleep", "1000")
            self.shared_floor = floor.Floor(self.vm_process("qemu"), self.work)
            self.start_background("rm", "-f", "model")
            measure.settle()
        return self.shared_floor

    def prepare(self):
        self.ignite("kernel", "import", self.options.kernel)
        self.ignite("image", "import", self.busybox)
        self.ignite("run", "--rm", self.busybox, "true")

    def clean_up(self):
        try:
            names = self.output("ps", "-a", "-q").split()
            if names:
                self.start_background("rm", "-f", *names)
        except SystemExit as error:
            print(error, file=sys.stderr)
        shutil.rmtree(self.work, ignore_errors=True)


def describe_host(bench):
    version = bench.output("version").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"{version[0] if version else 'ignite'}; {os.cpu_count()} x {model}; load {os.getloadavg()[0]:.1f}; "
          f"{bench.runs} runs of each, median (smallest to largest)", flush=True)


def report(rows):
    print("\nsummary")
    what_width = max(len(row.what) for row in rows)
    measured_width = min(60, max(len(row.measured) for row in rows))
    for row in rows:
        line = f"  {row.what:<{what_width}}  {row.measured:<{measured_width}}"
        if row.budget:
            line += f"  budget {row.budget}: {'met' if row.is_met else 'MISSED' if row.is_met is False else 'not measured'}"
        print(line)
        if row.is_met is False and row.why:
            print(f"    why: {row.why}")
    judged = [row for row in rows if row.is_met is not None]
    met = sum(row.is_met for row in judged)
    print(f"\n{met} of {len(judged)} measured budgets met")


if __name__ == "__main__":
    main()
