"""What is measured: one function each, which yields rows."""

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import copying as copying_subject
import importing as importing_subject
import measure
import networking as networking_subject
import operating as operating_subject
import phases
from measure import median, spread


@dataclass
class Row:
    what: str
    measured: str
    budget: str = ""
    is_met: bool | None = None
    # Said when the budget is missed: where the rest goes.
    why: str = ""


def judged(what, measured, value, limit, budget, why=""):
    return Row(what, measured, budget, value <= limit, why)


WHY_A_START_COSTS_MORE = (
    "the floor's init loads no driver, mounts no disk and configures nothing. A stock kernel has virtio and overlayfs as "
    "modules; loading them, mounting three disks and an orderly end are guest CPU time (phases drivers, root, modules, "
    "identity, guest end), which software emulation multiplies. A template start or a kernel with them built in would save it."
)
WHY_THE_HOST_TAKES_ITS_TIME = (
    "create writes and syncs the object twice and makes a disk; the start syncs the status twice more; "
    "what is left is starting two processes."
)


def start(bench):
    """`run --rm busybox true` with a cached image, against the floor."""
    floor = bench.floor()
    floors, runs, reports = [], [], []
    for number in range(bench.runs):
        floors.append(floor.run())
        runs.append(bench.ignite("run", "--rm", "--network", "none", bench.busybox, "true"))
        reports.append(timed_run(bench, f"phases-{number}"))
    floor_wall, run_wall = median([c.wall for c in floors]), median([c.wall for c in runs])
    yield Row("floor: bare VMM, wall s", spread([c.wall for c in floors]))
    yield Row("floor: bare VMM, CPU s", spread([c.cpu for c in floors]))
    yield Row("run --rm busybox true, wall s", spread([c.wall for c in runs]))
    yield Row("run --rm busybox true, CPU s", spread([c.cpu for c in runs]))
    ratio = run_wall / floor_wall
    yield judged("run --rm busybox true / floor, wall", f"{ratio:.2f}", ratio, 1.25, "<= 1.25", WHY_A_START_COSTS_MORE)
    yield Row("run --rm busybox true / floor, CPU", f"{median([c.cpu for c in runs]) / median([c.cpu for c in floors]):.2f}")
    table = phases.medians(reports)
    for name, milliseconds in table.items():
        yield Row(f"  phase {name}, ms", f"{milliseconds:.0f}")
    host = phases.ours(table)
    if host is None:
        yield Row("outside VMM and guest, ms", "the supervisor's log does not tell the phases", "<= 30")
    else:
        yield judged("outside VMM and guest, ms", f"{host:.0f}", host, 30, "<= 30", WHY_THE_HOST_TAKES_ITS_TIME)


def timed_run(bench, name):
    """Phases of a run whose records are kept until they have been read."""
    vms = bench.work / "data" / "vm"
    before = set(vms.iterdir())
    started = time.time()
    bench.start_background("run", "--name", name, "--network", "none", bench.busybox, "true")
    ended = time.time()
    [directory] = (path for path in set(vms.iterdir()) - before if path.is_dir())
    report = phases.of(directory, started, ended)
    bench.start_background("rm", name)
    measure.settle()
    return report


def parallel(bench):
    """Eight starts at once, against eight floors at once."""
    floor = bench.floor()
    run = bench.command("run", "--rm", "--network", "none", bench.busybox, "true")
    floors, runs = [], []
    for _ in range(max(2, bench.runs // 2)):
        floors.append(max(c.wall for c in floor.run_many(8)))
        costs = measure.run_all([run] * 8, bench.env, bench.log)
        for cost in costs:
            measure.must(cost, "one of eight starts", bench.log)
        runs.append(max(c.wall for c in costs))
    ratio = median(runs) / median(floors)
    yield Row("floor of 8 at once, wall s", spread(floors))
    yield Row("8 starts at once, wall s", spread(runs))
    yield judged("8 starts at once / floor of 8", f"{ratio:.2f}", ratio, 1.3, "<= 1.3", WHY_A_START_COSTS_MORE)


def imports(bench):
    """Layers on disk to a bootable base, against `umoci unpack` and `mke2fs -d`."""
    ours, theirs = [], []
    for number in range(max(3, bench.runs // 2)):
        data = bench.work / f"import-{number}"
        ours.append(bench.ignite("image", "import", bench.debian, env=bench.environment(data)))
        shutil.rmtree(data)
        theirs.append(unpack_and_format(bench, number))
    ratio = median([c.wall for c in ours]) / median([w for w, _ in theirs])
    yield Row("import of Debian, wall s", spread([c.wall for c in ours]))
    yield Row("import of Debian, CPU s", spread([c.cpu for c in ours]))
    yield Row("umoci unpack + mke2fs -d, wall s", spread([w for w, _ in theirs]))
    yield Row("umoci unpack + mke2fs -d, CPU s", spread([c for _, c in theirs]))
    yield judged("import / (umoci unpack + mke2fs -d)", f"{ratio:.2f}", ratio, 0.35, "<= 0.35")
    rss = max(c.peak_rss_mib for c in ours)
    yield judged("import, peak memory MiB", f"{rss:.0f}", rss, 64, "<= 64")


def unpack_and_format(bench, number):
    bundle, disk = bench.work / f"bundle-{number}", bench.work / f"disk-{number}.ext4"
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    unpack = measure.must(measure.run(["umoci", "unpack", *rootless, "--image", f"{bench.options.debian}:latest", bundle],
                                      log=bench.log), "umoci unpack", bench.log)
    mke2fs = measure.must(measure.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", bundle / "rootfs", disk, "1G"],
                                      log=bench.log), "mke2fs -d", bench.log)
    shutil.rmtree(bundle)
    disk.unlink()
    return unpack.wall + mke2fs.wall, unpack.cpu + mke2fs.cpu


def second(bench):
    """What a second VM of the same image costs on disk."""
    bench.ignite("create", "--name", "first", bench.busybox, "true")
    data = bench.work / "data"
    before = measure.allocated_bytes(data)
    cost = bench.ignite("create", "--name", "second", bench.busybox, "true")
    after = measure.allocated_bytes(data)
    images_before = measure.allocated_bytes(data) - measure.allocated_bytes(data / "vm")
    bench.ignite("create", "--name", "third", bench.busybox, "true")
    image_bytes = measure.allocated_bytes(data) - measure.allocated_bytes(data / "vm") - images_before
    bench.ignite("rm", "first", "second", "third")
    yield Row("second VM: all new bytes on disk, KiB", f"{(after - before) / 1024:.0f}")
    yield Row("second VM: create, wall ms", f"{cost.wall * 1000:.0f}")
    yield judged("second VM: bytes of the image copied", str(image_bytes), image_bytes, 0, "0")


def memory(bench):
    """Memory of `ignite-spawn` beside a running VM."""
    bench.start_background("run", "-d", "--name", "memory", bench.busybox, "sleep", "1000")
    bench.start_background("exec", "memory", "true")
    values = []
    for _ in range(3):
        values.append(measure.pss_mib(bench.vm_process("ignite-spawn")))
        time.sleep(0.5)
    bench.start_background("rm", "-f", "memory")
    yield judged("ignite-spawn, PSS MiB", f"{median(values):.1f}", median(values), 6, "<= 6")


def exec_round_trip(bench):
    """`exec VM true`, against ssh to the same guest."""
    port = free_port()
    key = bench.work / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    bench.start_background("run", "-d", "--name", "guest", "-p", f"127.0.0.1:{port}:22", bench.debian)
    bench.start_background("exec", "guest", "systemctl", "is-system-running", "--wait")
    authorize = f"mkdir -p -m 700 /root/.ssh; echo '{key.with_suffix('.pub').read_text().strip()}' > /root/.ssh/authorized_keys"
    bench.start_background("exec", "guest", "sh", "-c", f"{authorize}; systemctl start ssh")
    ssh = ["ssh", "-q", "-F", "none", "-i", key, "-p", str(port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
           "-o", "ConnectTimeout=60", "root@127.0.0.1", "true"]
    for warm_up in range(2):
        subprocess.run(ssh, check=True)
        bench.start_background("exec", "guest", "true")
    execs, sshs = [], []
    for _ in range(max(5, bench.runs)):
        before = time.perf_counter()
        subprocess.run(ssh, check=True)
        sshs.append((time.perf_counter() - before) * 1000)
        execs += [bench.start_background("exec", "guest", "true").wall * 1000 for _ in range(4)]
    bench.start_background("rm", "-f", "guest")
    ratio = median(execs) / median(sshs)
    yield Row("exec guest true, wall ms", spread(execs))
    yield Row("ssh guest true, wall ms", spread(sshs))
    yield judged("exec / ssh", f"1/{1 / ratio:.0f}", ratio, 1 / 20, "<= 1/20")


def copying(bench):
    """`cp` of a 1 GiB file and of a tree of 20,000 files, both ways, against scp to the same guest."""
    return copying_subject.copying(bench, Row, judged, free_port)


def networking(bench):
    """The guest's network: cni against the same tap by hand, passt beside it, and what CNI adds to a start."""
    return networking_subject.networking(bench, Row, judged)


def importing(bench):
    """An image of 1 GiB and 20 layers from a registry, by phase, against skopeo, umoci and mke2fs; and killed ten times."""
    return importing_subject.importing(bench, Row, judged)


def listing(bench):
    """`ps -a` with 1,000 VM objects."""
    data = bench.work / "listing"
    env = bench.environment(data)
    shutil.copytree(bench.work / "data", data, copy_function=os.link)
    measure.must(measure.run(bench.command("create", "--name", "vm-0", bench.busybox, "true"), env, bench.log), "create", bench.log)
    [model] = (path for path in (data / "vm").iterdir() if (path / "metadata.json").is_file())
    record = json.loads((model / "metadata.json").read_text())
    for number in range(1, 1000):
        uid = f"{number:016x}"
        record["metadata"].update(uid=uid, name=f"vm-{number}")
        (data / "vm" / uid).mkdir()
        (data / "vm" / uid / "metadata.json").write_text(json.dumps(record))
    log = str(bench.work / "listing.log")
    costs = [bench.ignite("ps", "-a", env=env, log=log) for _ in range(max(5, bench.runs))]
    listed = len(re.findall(r"\bvm-\d+\b", Path(log).read_text())) // len(costs)
    if listed != 1000:
        raise SystemExit(f"bench: ps listed {listed} of 1000 VMs")
    shutil.rmtree(data)
    wall = median([c.wall for c in costs]) * 1000
    yield judged("ps -a with 1,000 VMs, wall ms", f"{wall:.0f}", wall, 50, "<= 50")


def guest(bench):
    """Size of the guest program."""
    target = Path(bench.options.ignite).parent
    found = [path for path in target.rglob("ignite-init") if path.is_file() and os.access(path, os.X_OK)]
    if not found:
        yield Row("guest program, MiB", "not found below the target directory", "<= 1.5")
        return
    newest = max(found, key=lambda path: path.stat().st_mtime)
    size = newest.stat().st_size / (1 << 20)
    yield judged("guest program, MiB", f"{size:.2f}", size, 1.5, "<= 1.5")


def operator(_bench):
    """The operator with 1,000 VMs: until they run, and in steady state."""
    return operating_subject.operating(Row, judged)


def template(_bench):
    """Start from a template."""
    yield Row("start from a template / cold start", "templates do not exist yet", "<= 0.35")


def free_port():
    import socket
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


ALL = {
    "start": start,
    "parallel": parallel,
    "imports": imports,
    "importing": importing,
    "second": second,
    "exec": exec_round_trip,
    "copying": copying,
    "networking": networking,
    "listing": listing,
    "memory": memory,
    "guest": guest,
    "operator": operator,
    "template": template,
}
