"""The floor: the bare VMM started by hand, with the same options, kernel and memory, and a guest that only says it is up."""

import os
import subprocess
from pathlib import Path

import measure

# Options of the driver that only make sense with someone at the other end.
DROPPED_FLAGS = {"-S"}
DROPPED_OPTIONS = {"-mon", "-add-fd", "-blockdev", "-netdev"}
DROPPED_DEVICES = ("virtio-blk", "virtio-net")


class Floor:
    """A command line derived from a running VM's, so that it follows whatever the driver does."""

    def __init__(self, vmm_pid, work):
        self.work = Path(work)
        self.log = self.work / "floor-console.log"
        self.argv = derive(vmm_pid, build_initramfs(self.work), self.log)

    def run(self):
        return self.run_many(1)[0]

    def run_many(self, count):
        self.log.unlink(missing_ok=True)
        costs = measure.run_all([self.argv] * count, log=str(self.work / "floor.log"))
        for cost in costs:
            measure.must(cost, "the floor's VMM", self.work / "floor.log")
        said = self.log.read_text(errors="replace")
        if "floor: up" not in said:
            raise SystemExit(f"bench: the floor's guest did not report; its console:\n{said[-2000:]}")
        return costs


def derive(vmm_pid, initramfs, console_log):
    words = Path(f"/proc/{vmm_pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    argv = [os.readlink(f"/proc/{vmm_pid}/exe")]
    index = 1
    while index < len(words):
        option = words[index]
        if option in DROPPED_FLAGS or not option.startswith("-"):
            index += 1
            continue
        has_value = index + 1 < len(words) and not words[index + 1].startswith("-")
        value = words[index + 1] if has_value else None
        index += 2 if has_value else 1
        if option in DROPPED_OPTIONS or (option == "-device" and value.startswith(DROPPED_DEVICES)):
            continue
        if option == "-kernel":
            value = opened(vmm_pid, value)
        elif option == "-initrd":
            value = str(initramfs)
        elif option == "-chardev":
            identity = dict(part.split("=", 1) for part in value.split(",") if "=" in part)["id"]
            if identity == "qmp":
                continue
            value = f"file,id={identity},path={console_log},append=on" if identity == "console" else f"null,id={identity}"
        argv += [option] if value is None else [option, value]
    return argv


def opened(pid, path):
    """What a `/proc/self/fd/N` of another process is."""
    prefix = "/proc/self/fd/"
    return os.readlink(f"/proc/{pid}/fd/{path[len(prefix):]}") if path.startswith(prefix) else path


def build_initramfs(work):
    """An initramfs with the floor's init and nothing else."""
    tree = work / "floor"
    (tree / "dev").mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_name("floor-init.c")
    subprocess.run(["gcc", "-static", "-Os", "-s", "-o", tree / "init", source], check=True)
    archive = work / "floor.cpio"
    entries = [("dev", 0o040755, 0, 0, b""), ("dev/console", 0o020600, 5, 1, b""),
               ("init", 0o100755, 0, 0, (tree / "init").read_bytes()), ("TRAILER!!!", 0, 0, 0, b"")]
    with open(archive, "wb") as out:
        for number, (name, mode, major, minor, data) in enumerate(entries, 1):
            out.write(newc(number, name, mode, major, minor, data))
    return archive


def newc(inode, name, mode, major, minor, data):
    """A cpio member in the "new ASCII" format (Linux, Documentation/driver-api/early-userspace/buffer-format.rst)."""
    encoded = name.encode() + b"\0"
    fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(encoded), 0]
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    member = header + encoded
    member += b"\0" * (-len(member) % 4) + data
    return member + b"\0" * (-len(member) % 4)
