"""A large image of many layers from a registry of this machine: time by phase, memory, and what `kill -9` costs."""

import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import measure
from measure import median, spread

LAYERS = 20
SMALL_FILES = 150
KILLS = 10
SEED = 20
PHASE = re.compile(r"phase ([a-z ]+) took (\d+) ms")
MIB = 1 << 20


def importing(bench, row, judged):
    size_mib = bench.options.image_mib
    layout = bench.work / "large"
    # In a process of its own: a child's peak memory begins with its parent's.
    command(bench, sys.executable, __file__, layout, size_mib)
    registry = Registry(bench)
    try:
        yield from measured(bench, row, judged, layout, registry, size_mib)
    finally:
        registry.stop()
        shutil.rmtree(layout)


def measured(bench, row, judged, layout, registry, size_mib):
    image = f"127.0.0.1:{registry.port}/bench/large:v1"
    command(bench, "skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}:latest", f"docker://{image}")
    ours, theirs, reports = [], [], []
    for number in range(max(3, bench.runs // 2)):
        data, log = bench.work / f"large-{number}", bench.work / f"large-{number}.log"
        cost, report = timed_import(bench, image, data, log)
        ours.append(cost)
        reports.append(report)
        shutil.rmtree(data)
        theirs.append(copy_unpack_and_format(bench, image, number, size_mib))
    yield row("image: MiB, layers, files in each", f"{size_mib}, {LAYERS}, {SMALL_FILES + 1}")
    yield row("import of it, wall s", spread([c.wall for c in ours]))
    yield row("import of it, CPU s", spread([c.cpu for c in ours]))
    for phase in reports[0]:
        yield row(f"  phase {phase}, ms", f"{median([report[phase] for report in reports]):.0f}")
    yield row("import of it, peak memory MiB", f"{max(c.peak_rss_mib for c in ours):.0f}")
    for name in theirs[0]:
        yield row(f"  {name}, wall s", spread([costs[name].wall for costs in theirs]))
    wall = [sum(cost.wall for cost in costs.values()) for costs in theirs]
    yield row("skopeo copy + umoci unpack + mke2fs -d, wall s", spread(wall))
    yield row("skopeo copy + umoci unpack + mke2fs -d, CPU s", spread([sum(c.cpu for c in costs.values()) for costs in theirs]))
    yield row("skopeo copy + umoci unpack + mke2fs -d, peak memory MiB",
              f"{max(c.peak_rss_mib for costs in theirs for c in costs.values()):.0f}")
    ratio = median([c.wall for c in ours]) / median(wall)
    yield judged("import / (skopeo copy + umoci unpack + mke2fs -d)", f"{ratio:.2f}", ratio, 1, "<= 1")
    yield from killed(bench, row, judged, image, registry, median([c.wall for c in ours]))


def timed_import(bench, image, data, log):
    """What an import cost, and phase -> milliseconds as the program tells them."""
    cost = bench.ignite("--log-level", "debug", "image", "import", image, env=bench.environment(data), log=str(log))
    report = {phase: int(ms) for phase, ms in PHASE.findall(log.read_text(errors="replace"))}
    missing = {"pull", "base disk", "digest", "record"} - set(report)
    if missing:
        raise SystemExit(f"bench: the program does not tell the phases {', '.join(sorted(missing))}")
    return cost, report


def copy_unpack_and_format(bench, image, number, size_mib):
    copy, bundle, disk = (bench.work / f"{name}-{number}" for name in ("copy", "bundle", "disk"))
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    costs = {
        "skopeo copy": command(bench, "skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{image}", f"oci:{copy}:latest"),
        "umoci unpack": command(bench, "umoci", "unpack", *rootless, "--image", f"{copy}:latest", bundle),
        "mke2fs -d": command(bench, "mke2fs", "-q", "-F", "-t", "ext4", "-d", bundle / "rootfs", disk, f"{size_mib * 2}M"),
    }
    shutil.rmtree(copy)
    shutil.rmtree(bundle)
    disk.unlink()
    return costs


def command(bench, *argv):
    argv = [str(argument) for argument in argv]
    return measure.must(measure.run(argv, log=bench.log), " ".join(argv[:2]), bench.log)


def killed(bench, row, judged, image, registry, duration):
    """One kill in each tenth of an import's duration, at a moment drawn within it; then a retry."""
    drawn = random.Random(SEED)
    fell = {"pull": 0, "base disk": 0, "digest": 0, "record": 0}
    walls, again, late = [], 0, 0
    for number in range(KILLS):
        data, log = bench.work / f"killed-{number}", bench.work / f"killed-{number}.log"
        moment = (number + drawn.random()) * duration / KILLS
        while (phase := kill_at(bench, moment, image, data, log)) is None:
            # It was over: the same share of a shorter time.
            late += 1
            moment *= 0.7
            shutil.rmtree(data)
        fell[phase] += 1
        verified = {path.name for path in (data / "oci/blobs/sha256").glob("*")}
        check_names(data)
        registry.forget()
        walls.append(bench.ignite("image", "import", image, env=bench.environment(data)).wall)
        again += sum(digest in verified for digest in registry.blobs_asked_for())
        check_nothing_half_made(data)
        shutil.rmtree(data)
    yield row("kill -9 in phase", ", ".join(f"{phase} {count}" for phase, count in fell.items()) + f"; {late} more came too late and were drawn anew")
    yield row("retry after it, wall s", spread(walls))
    yield judged("verified blobs that a retry fetched again", str(again), again, 0, "0")


def kill_at(bench, moment, image, data, log):
    """Kills an import after so many seconds; the phase it was in, absent when it had ended."""
    with open(log, "w") as output:
        process = subprocess.Popen(bench.command("--log-level", "debug", "image", "import", image), stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=output, env={**os.environ, **bench.environment(data)})
        try:
            process.wait(moment)
            return None
        except subprocess.TimeoutExpired:
            process.kill()
            if process.wait() >= 0:
                return None
    told = [phase for phase, _ in PHASE.findall(log.read_text(errors="replace"))]
    return next((phase for phase in ("pull", "base disk", "digest") if phase not in told), "record")


def check_names(data):
    for path in (data / "oci/blobs/sha256").glob("*"):
        with open(path, "rb") as blob:
            if hashlib.file_digest(blob, "sha256").hexdigest() != path.name:
                raise SystemExit(f"bench: {path} is not what its name says")


def check_nothing_half_made(data):
    left = [path for path in data.rglob("*") if path.name.startswith((".making", ".new", "import-")) or path.suffix == ".partial"]
    if left:
        raise SystemExit(f"bench: after a retry there is {left[0]}")


class Registry:
    """A registry on the loopback interface."""

    def __init__(self, bench):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        directory = bench.work / "registry"
        directory.mkdir()
        config = directory / "config.yml"
        config.write_text(f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {directory}/blobs}}}}\n"
                          f"http: {{addr: '127.0.0.1:{self.port}'}}\n")
        self.log, self.directory, self.forgotten = directory / "log", directory, 0
        with open(self.log, "w") as output:
            self.process = subprocess.Popen(["docker-registry", "serve", config], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        measure.LASTING.add(self.process.pid)
        deadline = time.monotonic() + 60
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if time.monotonic() > deadline:
                    self.stop()
                    raise SystemExit("bench: the registry does not listen") from None
                time.sleep(0.05)

    def forget(self):
        self.forgotten = len(self.log.read_text().splitlines())

    def blobs_asked_for(self):
        """Hexadecimal digests of blobs, one for each request since `forget`."""
        lines = self.log.read_text().splitlines()[self.forgotten:]
        return [match[1] for line in lines if (match := re.search(r'"GET \S*/blobs/sha256:([0-9a-f]{64})', line))]

    def stop(self):
        self.process.kill()
        self.process.wait()
        measure.LASTING.discard(self.process.pid)
        shutil.rmtree(self.directory)


def make_image(layout, size_mib):
    """An OCI layout whose layers hold many small files and a large one, half of the bytes not to be compressed."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    drawn = random.Random(SEED)
    text = b"".join(b"%08x the quick brown fox jumps over the lazy dog\n" % drawn.getrandbits(32) for _ in range(MIB // 50))

    def content(size):
        noise = drawn.randbytes(size // 2)
        return noise + (text * (size // len(text) + 1))[:size - len(noise)]

    def put(data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    layers, diff_ids = [], []
    for layer in range(LAYERS):
        sizes = [drawn.randrange(1, 64 << 10) for _ in range(SMALL_FILES)]
        sizes.append(max(MIB, size_mib * MIB // LAYERS - sum(sizes)))
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            for number, size in enumerate(sizes):
                member = tarfile.TarInfo(f"layer-{layer}/{number % 10}/file-{number}")
                member.size, member.mode = size, 0o644
                archive.addfile(member, io.BytesIO(content(size)))
        diff_ids.append("sha256:" + hashlib.sha256(tar.getbuffer()).hexdigest())
        layers.append(put(gzip.compress(tar.getbuffer(), 1, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip"))
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    configuration = {"architecture": machine, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    config = put(json.dumps(configuration).encode(), "application/vnd.oci.image.config.v1+json")
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = put(json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}).encode(), kind)
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))


if __name__ == "__main__":
    make_image(Path(sys.argv[1]), int(sys.argv[2]))
