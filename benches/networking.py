"""The guest's network: `cni` (tap, tc redirect, veth, bridge) against a tap that is put into its bridge by hand, with nothing
of Ignite between; passt beside it; and what CNI adds to a start.

A VM has an interface in each of two networks of one kind. The tap of one of them is moved into its bridge by hand, so both
ways into the same guest are there at the same moment and are measured in turns of some hundred milliseconds. In the next VM
the interfaces have changed roles. Nothing that was measured is left out.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path

import measure
import pairs
from measure import median, spread
from throwaway import Host

PORT = 5001
SERVER = "/bin/network-server"
MEGABYTES = 16
REQUESTS = 400
# Of four turns, for each figure and VM.
PAIRS = 12
NETWORKS = ["bench0", "bench1"]
DEADLINE_SECONDS = 60


def into_guest(connection):
    """Bytes/s of a stream into the guest, which says when it has all."""
    size = MEGABYTES << 20
    block = memoryview(bytes(1 << 20))
    before = time.perf_counter()
    connection.sendall(struct.pack(">cI", b"R", size))
    for _ in range(MEGABYTES):
        connection.sendall(block)
    if connection.recv(1) != b".":
        raise OSError("the guest did not get all")
    return size / (time.perf_counter() - before)


def out_of_guest(connection):
    """Bytes/s of a stream out of the guest."""
    size = left = MEGABYTES << 20
    buffer = bytearray(1 << 20)
    before = time.perf_counter()
    connection.sendall(struct.pack(">cI", b"S", size))
    while left > 0:
        got = connection.recv_into(buffer, min(left, len(buffer)))
        if got == 0:
            raise OSError(f"{left} bytes are missing")
        left -= got
    return size / (time.perf_counter() - before)


def round_trips(connection):
    """Requests of one byte per second, one after the other."""
    connection.sendall(struct.pack(">cI", b"E", REQUESTS))
    before = time.perf_counter()
    for _ in range(REQUESTS):
        connection.sendall(b"?")
        if not connection.recv(1):
            raise OSError("the guest has hung up")
    return REQUESTS / (time.perf_counter() - before)


MEASURED = {"into the guest": into_guest, "out of the guest": out_of_guest, "requests": round_trips}


def shown(name, figures):
    """Median and spread in the unit people read."""
    if name == "requests":
        return f"{spread(figures)} /s of {len(figures)}"
    return f"{spread([figure / 1e6 for figure in figures])} MB/s of {len(figures)}"


def connected(address, function):
    """A connection over which the function has worked once: the way is open, and both ends are warm."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            connection = socket.create_connection((address, PORT), timeout=DEADLINE_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            function(connection)
            return connection
        except OSError:
            # passt takes connections before the guest does, and ends them.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def cpu_seconds(vmm):
    """CPU time of the VMM and of this process: of both ends, and of all that the kernel does between them on their behalf."""
    spent = sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{vmm}/task").iterdir())
    return spent / 1e9 + time.process_time()


def in_turns(addresses, vmm, order):
    """Speeds and CPU seconds of every function, in the order of turns."""
    found = {}
    for name, function in MEASURED.items():
        connections = {who: connected(address, function) for who, address in addresses.items()}
        speeds, costs = [], []
        for who in order:
            before = cpu_seconds(vmm)
            speeds.append(function(connections[who]))
            costs.append(cpu_seconds(vmm) - before)
        for connection in connections.values():
            connection.close()
        found[name] = (speeds, costs)
    return found


def networking(bench, row, judged):
    if os.geteuid() != 0 or not shutil.which("nsenter"):
        yield row("network", "not measured: it needs root and nsenter")
        return
    server = bench.work / "network-server"
    source = Path(__file__).with_name("network-server.c")
    subprocess.run(["cc", "-static", "-O2", "-o", server, source], check=True)
    host = Host()
    try:
        for number, name in enumerate(NETWORKS):
            host.does("sh", "-c", f"mkdir -p /etc/cni/net.d && cat > /etc/cni/net.d/{name}.conflist",
                      stdin=json.dumps(conflist(name, number)))
        yield from speeds(bench, row, judged, host, server)
        yield from starts(bench, row, host)
    finally:
        host.end()


def conflist(name, number):
    """As Ignite writes its own network."""
    bridge = {"type": "bridge", "bridge": name, "isGateway": True, "isDefaultGateway": True, "hairpinMode": True, "ipMasq": True,
              "ipam": {"type": "host-local", "subnet": f"10.6{number + 2}.0.0/16"}}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": name, "plugins": [bridge, portmap, {"type": "firewall"}]}


def speeds(bench, row, judged, host, server):
    ratios, costs = ({name: [] for name in MEASURED} for _ in range(2))
    figures = {who: {name: [] for name in MEASURED} for who in ("cni", "by hand", "passt")}
    order = pairs.turns(PAIRS)
    for number in range(bench.runs):
        for by_hand in range(len(NETWORKS)):
            vm = Vm(bench, host, server, f"net-{number}-{by_hand}", "--network", "cni:" + ",".join(NETWORKS))
            vm.put_by_hand(by_hand)
            addresses = {"a": vm.addresses[1 - by_hand], "b": vm.addresses[by_hand]}
            for name, (speed, cpu) in host.asks(in_turns, addresses, vm.vmm, order).items():
                ratios[name] += pairs.ratios(order, speed)
                costs[name] += pairs.ratios(order, cpu)
                figures["cni"][name] += [figure for who, figure in zip(order, speed) if who == "a"]
                figures["by hand"][name] += [figure for who, figure in zip(order, speed) if who == "b"]
            vm.end()
        vm = Vm(bench, host, server, f"user-{number}", "--network", "user", "-p", f"{PORT}:{PORT}")
        for name, (speed, _) in host.asks(in_turns, {"a": "127.0.0.1"}, vm.vmm, ["a"] * 4).items():
            figures["passt"][name] += speed
        vm.end()
    for name in MEASURED:
        for who, its in figures.items():
            yield row(f"{who}: {name}", shown(name, its[name]))
        ratio = median(ratios[name])
        yield judged(f"cni / by hand: {name}", pairs.told(ratios[name]), -ratio, -0.95, ">= 0.95")
        yield row(f"cni / by hand: {name}, CPU time", pairs.told(costs[name]))


def starts(bench, row, host):
    walls = {mode: [] for mode in ("none", "user", "cni:bench0")}
    for _ in range(bench.runs):
        for mode, costs in walls.items():
            command = [*host.enter, *bench.command("run", "--rm", "--network", mode, bench.busybox, "true")]
            costs.append(measure.must(measure.run(command, bench.env, bench.log), f"run --network {mode}", bench.log).wall)
    for mode, costs in walls.items():
        yield row(f"run --rm --network {mode}, wall s", spread(costs))
    for mode in list(walls)[1:]:
        more = median(walls[mode]) - median(walls["none"])
        yield row(f"share of {mode} in a run, ms", f"{more * 1000:.0f} = {more / median(walls[mode]):.0%}")


class Vm:
    """A VM that serves; the tap of one of its interfaces may be in the bridge itself."""

    def __init__(self, bench, host, server, name, *options):
        self.bench, self.host, self.name = bench, host, name
        command = bench.command("run", "-d", "--name", name, "--copy-files", f"{server}:{SERVER}", *options, bench.busybox,
                                SERVER, PORT)
        subprocess.run([*host.enter, *command], env={**os.environ, **bench.env}, check=True, capture_output=True)
        status = json.loads(bench.output("inspect", "vm", name))["status"]
        self.addresses = status["network"]["ipAddresses"]
        self.netns = "ignite-" + bench.output("inspect", "vm", name, "-t", "{{.ObjectMeta.UID}}").strip()
        self.vmm = bench.vm_process("qemu")

    def put_by_hand(self, number):
        """The tap of this interface leaves the VM's namespace for the bridge: no veth, no tc."""
        inside = ["ip", "-n", self.netns, "link", "set"]
        self.host.does(*inside, f"vm_eth{number}", "netns", self.host.keeper.pid)
        self.host.does(*inside, f"eth{number}", "down")
        self.host.does("ip", "link", "set", f"vm_eth{number}", "master", NETWORKS[number], "up")

    def end(self):
        subprocess.run([*self.host.enter, *self.bench.command("rm", "-f", self.name)],
                       env={**os.environ, **self.bench.env}, check=True, capture_output=True)
