"""Files into a guest and out of it: `ignite cp` against scp to the same guest, over the same virtual hardware."""

import filecmp
import os
import random
import shutil
import subprocess
import time

from measure import median, spread

FILE_BYTES = 1 << 30
TREE_FILES = 20_000


def copying(bench, row, judged, free_port):
    """`cp` of a 1 GiB file and of a tree of 20,000 files, both ways, byte for byte the same; against scp to the same guest."""
    port = free_port()
    bench.start_background("run", "-d", "--name", "copies", "--ssh", "--memory", "1GB", "--size", "16GB",
                           "-p", f"127.0.0.1:{port}:22", bench.debian)
    bench.start_background("exec", "copies", "systemctl", "is-system-running", "--wait")
    bench.start_background("exec", "copies", "systemctl", "start", "ssh")
    # Waits for sshd, and has its host key ready.
    bench.start_background("ssh", "--timeout", "120", "copies", "true")
    scp = scp_command(bench, port)
    local = bench.work / "local"
    local.mkdir()
    make_file(local / "file", FILE_BYTES)
    tree_bytes = make_tree(local / "tree", TREE_FILES)
    rounds = max(1, bench.runs // 3)
    yield row("runs of each", str(rounds))
    for what, source, size in [("1 GiB file", "file", FILE_BYTES), (f"tree of {TREE_FILES} files", "tree", tree_bytes)]:
        ours_in, ours_out, theirs_in, theirs_out = [], [], [], []
        for number in range(rounds):
            ours, theirs = f"/root/ours-{source}-{number}", f"/root/theirs-{source}-{number}"
            ours_in.append(bench.start_background("cp", local / source, f"copies:{ours}").wall)
            theirs_in.append(timed([*scp, str(local / source), f"root@127.0.0.1:{theirs}"]))
            ours_out.append(bench.start_background("cp", f"copies:{ours}", local / "back").wall)
            must_be_same(local / source, local / "back")
            theirs_out.append(timed([*scp, f"root@127.0.0.1:{theirs}", str(local / "back")]))
            must_be_same(local / source, local / "back")
            bench.start_background("exec", "copies", "rm", "-rf", ours, theirs)
        for way, ours, theirs in [("into the guest", ours_in, theirs_in), ("out of the guest", ours_out, theirs_out)]:
            yield row(f"{what} {way}, cp, wall s", f"{spread(ours)} = {size / median(ours) / 1e6:.0f} MB/s")
            yield row(f"{what} {way}, scp, wall s", f"{spread(theirs)} = {size / median(theirs) / 1e6:.0f} MB/s")
            ratio = median(ours) / median(theirs)
            yield judged(f"{what} {way}, cp / scp", f"{ratio:.2f}", ratio, 1.0, "<= 1.0")
    bench.start_background("rm", "-f", "copies")
    shutil.rmtree(local)


def scp_command(bench, port):
    uid = bench.output("ps", "-q", "-f", "name=copies").strip()
    vm = bench.work / "data" / "vm" / uid
    options = ["UserKnownHostsFile=" + str(vm / "known_hosts"), "HostKeyAlias=" + uid, "IdentityFile=" + str(vm / f"id_{uid}")]
    return ["scp", "-r", "-p", "-q", "-F", "none", "-P", str(port), *(word for option in options for word in ("-o", option))]


def timed(command):
    before = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - before


def make_file(path, size):
    with open(path, "wb") as file:
        for _ in range(size >> 24):
            file.write(os.urandom(1 << 24))


def make_tree(root, count):
    """Files of 0 to 9,000 bytes, a hundred in each directory; the bytes of all."""
    chance, total = random.Random(1), 0
    for number in range(count):
        directory = root / f"d{number // 2000}" / f"s{number // 100}"
        if number % 100 == 0:
            directory.mkdir(parents=True)
        content = chance.randbytes(chance.choice([0, 100, 1000, 4000, 9000]))
        (directory / f"f{number}").write_bytes(content)
        total += len(content)
    return total


def must_be_same(left, right):
    """Compares every byte, and removes what came back."""
    if left.is_file():
        if not filecmp.cmp(left, right, shallow=False):
            raise SystemExit(f"bench: {right} is not what {left} is")
        right.unlink()
        return
    outcome = subprocess.run(["diff", "-r", left, right], capture_output=True, text=True)
    if outcome.returncode != 0:
        raise SystemExit(f"bench: {right} is not what {left} is\n{outcome.stdout[:2000]}")
    shutil.rmtree(right)
