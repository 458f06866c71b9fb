"""Running commands and knowing what they cost: wall time, CPU seconds with all descendants, peak memory."""

import ctypes
import os
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
# Children that stay while others are measured.
LASTING = set()


@dataclass
class Cost:
    wall: float
    cpu: float
    peak_rss_mib: float
    code: int


def adopt_orphans():
    """Makes this process the parent of daemons its commands leave, so that their CPU time is counted too."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(argv, env=None, log="/dev/null", stdin=None):
    """Runs one command; its wall time ends with it, its CPU time with the last process it left."""
    return run_all([argv], env, log, stdin)[0]


def run_all(argvs, env=None, log="/dev/null", stdin=None):
    """Runs commands at the same time. CPU time of what they leave behind is counted to the first."""
    environment = {**os.environ, **(env or {})}
    started, pids = {}, []
    for argv in argvs:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, stdin or "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        before = time.perf_counter()
        pid = os.posix_spawnp(argv[0], [str(a) for a in argv], environment, file_actions=actions)
        started[pid] = before
        pids.append(pid)
    ended, orphans_cpu = {}, 0.0
    while children() - LASTING:
        pid, status, usage = os.wait4(-1, 0)
        cpu = usage.ru_utime + usage.ru_stime
        if pid in started:
            wall = time.perf_counter() - started[pid]
            ended[pid] = Cost(wall, cpu, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))
        else:
            orphans_cpu += cpu
    ended[pids[0]].cpu += orphans_cpu
    return [ended[pid] for pid in pids]


def settle():
    """Waits for daemons that are about to end, so that their CPU time is not counted to what is measured next."""
    while children() - LASTING:
        os.wait4(-1, 0)


def children():
    """Pids of this process's children, those that have ended and are not yet waited for included."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def must(cost, what, log=None):
    """The cost, of a command that has to succeed."""
    if cost.code != 0:
        said = Path(log).read_text(errors="replace")[-2000:] if log else ""
        raise SystemExit(f"bench: {what} exited with {cost.code}\n{said}")
    return cost


def median(values):
    return statistics.median(values)


def spread(values):
    """Median with smallest and largest, for people."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def pss_mib(pid):
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[1]) / 1024


def allocated_bytes(root):
    """Disk space of a tree, holes not counted."""
    total = 0
    for directory, _, files in os.walk(root):
        for name in files:
            total += os.lstat(os.path.join(directory, name)).st_blocks * 512
    return total


def processes_touching(root):
    """Pids and names of processes that have a file below `root` open, or are told about it."""
    root = str(root)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            name = (entry / "comm").read_text().strip()
            told = root.encode() in (entry / "cmdline").read_bytes()
            if told or any(os.readlink(fd).startswith(root) for fd in (entry / "fd").iterdir()):
                yield int(entry.name), name
        except OSError:
            continue
