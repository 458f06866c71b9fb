"""The guest's network: `cni` (tap, tc redirect, veth, bridge) against the same tap of the same VMM put into the same bridge by
hand, with nothing of Ignite between; passt beside it; and what CNI adds to a start."""

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import time

import measure
from measure import median, spread

# The throw-away host, which lasts as long as its standard input.
SETUP = """set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /var/lib/cni /etc/cni
mount -t tmpfs tmpfs /var/lib/cni
mount -t tmpfs tmpfs /etc/cni
ip link set lo up
ip link add towards type veth peer name outside
ip addr add 198.51.100.1/24 dev towards
ip link set towards up
ip link set outside up
ip route add default via 198.51.100.2
echo ready
exec cat
"""
CLONE_NEWNET = 0x40000000
MEGABYTES = 8
REQUESTS = 200
# Of a VM, half of them by hand: many short ones in turns, because the host may be busy for seconds.
STEPS = 12
SINK, SOURCE, ECHO = 5001, 5002, 5003
# They leave the end to the client: passt of 2023 loses what a server says with its end.
SERVERS = (f"nc -ll -p {SINK} -e sh -c 'head -c {MEGABYTES << 20} >/dev/null; echo .; cat >/dev/null' & "
           f"nc -ll -p {SOURCE} -e sh -c 'read line; head -c {MEGABYTES << 20} /dev/zero; cat >/dev/null' & nc -ll -p {ECHO} -e cat")
SETTLE_SECONDS = 1.0


class Host:
    """A network namespace that this process enters for its own connections, and the programs for theirs."""

    def __init__(self):
        self.keeper = subprocess.Popen(["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", SETUP],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.keeper.stdout.readline() != b"ready\n":
            raise SystemExit("bench: no throw-away network could be made")
        self.enter = ["nsenter", f"--net=/proc/{self.keeper.pid}/ns/net", f"--mount=/proc/{self.keeper.pid}/ns/mnt", "--"]

    def does(self, *words):
        return subprocess.run([*self.enter, *map(str, words)], check=True, capture_output=True, text=True).stdout

    def asks(self, function, *arguments):
        """The function's figure, measured in a process of the host."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                # os.setns is of Python 3.12.
                if ctypes.CDLL(None).setns(os.open(f"/proc/{self.keeper.pid}/ns/net", os.O_RDONLY), CLONE_NEWNET) != 0:
                    raise OSError("the throw-away network cannot be entered")
                os.write(writer, repr(function(*arguments)).encode())
                code = 0
            except OSError as error:
                print(f"bench: {function.__name__}{arguments}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        os.close(writer)
        with os.fdopen(reader) as answers:
            answer = answers.read()
        _, status = os.waitpid(pid, 0)
        if status != 0:
            raise SystemExit(f"bench: {function.__name__}{arguments} failed")
        return float(answer)

    def end(self):
        self.keeper.stdin.close()
        self.keeper.wait()


def connected(address, port):
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = socket.create_connection((address, port), timeout=60)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def patiently(function, address, port):
    """The first time: passt takes connections before the guest does, and ends them."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return function(address, port)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def into_guest(address, port):
    """MB/s of a stream into the guest, which says when it has all."""
    block = bytes(1 << 20)
    with connected(address, port) as connection:
        before = time.perf_counter()
        for _ in range(MEGABYTES):
            connection.sendall(block)
        if connection.recv(1) != b".":
            raise OSError("the guest did not get all")
        return MEGABYTES * (1 << 20) / (time.perf_counter() - before) / 1e6


def out_of_guest(address, port):
    """MB/s of a stream out of the guest."""
    with connected(address, port) as connection:
        before = time.perf_counter()
        connection.sendall(b"go\n")
        left = MEGABYTES << 20
        while left > 0:
            got = len(connection.recv(1 << 20))
            if got == 0:
                raise OSError(f"{left} bytes are missing")
            left -= got
        return MEGABYTES * (1 << 20) / (time.perf_counter() - before) / 1e6


def round_trips(address, port):
    """Requests of one byte per second, one after the other."""
    with connected(address, port) as connection:
        connection.sendall(b"?")
        connection.recv(1)
        before = time.perf_counter()
        for _ in range(REQUESTS):
            connection.sendall(b"?")
            if not connection.recv(1):
                raise OSError("the guest has hung up")
        return REQUESTS / (time.perf_counter() - before)


MEASURED = [("into the guest, MB/s", into_guest, SINK), ("out of the guest, MB/s", out_of_guest, SOURCE),
            ("requests/s", round_trips, ECHO)]


def networking(bench, row, judged):
    if os.geteuid() != 0 or not shutil.which("nsenter"):
        yield row("network", "not measured: it needs root and nsenter")
        return
    host = Host()
    try:
        yield from measure_all(bench, row, judged, host)
    finally:
        host.end()


def measure_all(bench, row, judged, host):
    ignite, direct, passt = ({name: [] for name, _, _ in MEASURED} for _ in range(3))
    for number in range(bench.runs):
        vm = start(bench, host, f"net-{number}", "--network", "cni")
        for name, function, port in MEASURED:
            host.asks(patiently, function, vm.address, port)
        # In turns, and the first one in turns as well: a busy host slows both.
        for step in range(STEPS):
            is_ignite = (step + number) % 2 == 0
            (vm.by_ignite if is_ignite else vm.by_hand)()
            for name, function, port in MEASURED:
                (ignite if is_ignite else direct)[name].append(host.asks(function, vm.address, port))
        vm.end()
        vm = start(bench, host, f"user-{number}", "--network", "user", "-p", f"{SINK}-{ECHO}:{SINK}-{ECHO}")
        for name, function, port in MEASURED:
            host.asks(patiently, function, "127.0.0.1", port)
            passt[name].append(host.asks(function, "127.0.0.1", port))
        vm.end()
    for name, _, _ in MEASURED:
        yield row(f"cni: {name}", f"{spread(ignite[name])} of {len(ignite[name])}")
        yield row(f"same tap by hand: {name}", f"{spread(direct[name])} of {len(direct[name])}")
        yield row(f"passt: {name}", f"{spread(passt[name])} of {len(passt[name])}")
        ratio = median(ignite[name]) / median(direct[name])
        yield judged(f"cni / by hand: {name}", f"{ratio:.2f}", -ratio, -0.95, ">= 0.95")
    walls = {mode: [] for mode in ("none", "user", "cni")}
    for _ in range(bench.runs):
        for mode, costs in walls.items():
            command = [*host.enter, *bench.command("run", "--rm", "--network", mode, bench.busybox, "true")]
            costs.append(measure.must(measure.run(command, bench.env, bench.log), f"run --network {mode}", bench.log).wall)
    for mode, costs in walls.items():
        yield row(f"run --rm --network {mode}, wall s", spread(costs))
    for mode in ("user", "cni"):
        more = median(walls[mode]) - median(walls["none"])
        yield row(f"share of {mode} in a run, ms", f"{more * 1000:.0f} = {more / median(walls[mode]):.0%}")


def start(bench, host, name, *options):
    command = bench.command("run", "-d", "--name", name, *options, bench.busybox, "sh", "-c", SERVERS)
    subprocess.run([*host.enter, *command], env={**os.environ, **bench.env}, check=True, capture_output=True)
    address = bench.output("inspect", "vm", name, "-t", "{{index .Status.Network.IPAddresses 0}}").strip()
    uid = bench.output("inspect", "vm", name, "-t", "{{.ObjectMeta.UID}}").strip()
    return Vm(bench, host, name, f"ignite-{uid}", address)


class Vm:
    """A VM whose tap is where Ignite has put it, or in the bridge itself."""

    def __init__(self, bench, host, name, netns, address):
        self.bench, self.host, self.name, self.netns, self.address = bench, host, name, netns, address
        self.is_by_hand = False

    def by_hand(self):
        """The tap leaves the VM's namespace for the bridge: no veth, no tc."""
        if self.is_by_hand:
            return
        inside = ["ip", "-n", self.netns, "link", "set"]
        self.host.does(*inside, "vm_eth0", "netns", self.host.keeper.pid)
        self.host.does(*inside, "eth0", "down")
        self.host.does("ip", "link", "set", "vm_eth0", "master", "ignite0", "up")
        self.is_by_hand = True
        time.sleep(SETTLE_SECONDS)

    def by_ignite(self):
        """Back again, with the redirects as `crates/ignite-network/src/link.rs` makes them."""
        if not self.is_by_hand:
            return
        self.host.does("ip", "link", "set", "vm_eth0", "nomaster")
        self.host.does("ip", "link", "set", "vm_eth0", "netns", self.netns)
        tc = ["tc", "-n", self.netns]
        self.host.does(*tc, "qdisc", "del", "dev", "eth0", "ingress")
        for link in ("eth0", "vm_eth0"):
            self.host.does("ip", "-n", self.netns, "link", "set", link, "up")
            self.host.does(*tc, "qdisc", "add", "dev", link, "ingress")
        forged = [["match", "u32", "0x40000000", "0xf0000000", "at", "0", "match", "u32", "0x7f000000", "0xff000000", "at", "16"],
                  ["match", "u32", "0x8100", "0xffff", "at", "-4"], ["match", "u32", "0x88a8", "0xffff", "at", "-4"]]
        for keys in forged:
            self.host.does(*tc, "filter", "add", "dev", "vm_eth0", "parent", "ffff:", "protocol", "all", "prio", "1", "u32", *keys)
        for here, there in (("eth0", "vm_eth0"), ("vm_eth0", "eth0")):
            self.host.does(*tc, "filter", "add", "dev", here, "parent", "ffff:", "protocol", "all", "prio", "2", "u32",
                           "match", "u8", "0", "0", "action", "mirred", "egress", "redirect", "dev", there)
        self.is_by_hand = False
        time.sleep(SETTLE_SECONDS)

    def end(self):
        self.by_ignite()
        subprocess.run([*self.host.enter, *self.bench.command("rm", "-f", self.name)],
                       env={**os.environ, **self.bench.env}, check=True, capture_output=True)
