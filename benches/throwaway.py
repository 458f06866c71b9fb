"""A host to throw away: a network and CNI directories of its own, which last as long as this process."""

import ast
import ctypes
import os
import subprocess
import sys

import measure

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


class Host:
    """A network namespace that this process enters for its own connections, and the programs for theirs."""

    def __init__(self):
        self.keeper = subprocess.Popen(["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", SETUP],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        measure.LASTING.add(self.keeper.pid)
        if self.keeper.stdout.readline() != b"ready\n":
            raise SystemExit("bench: no throw-away network could be made")
        self.enter = ["nsenter", f"--net=/proc/{self.keeper.pid}/ns/net", f"--mount=/proc/{self.keeper.pid}/ns/mnt", "--"]

    def does(self, *words, stdin=None):
        return subprocess.run([*self.enter, *map(str, words)], check=True, capture_output=True, text=True, input=stdin).stdout

    def asks(self, function, *arguments):
        """What the function returns, from a process of the host."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                # os.setns is of Python 3.12.
                if ctypes.CDLL(None).setns(os.open(f"/proc/{self.keeper.pid}/ns/net", os.O_RDONLY), CLONE_NEWNET) != 0:
                    raise OSError("the throw-away network cannot be entered")
                with os.fdopen(writer, "w") as answer:
                    answer.write(repr(function(*arguments)))
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
        return ast.literal_eval(answer)

    def end(self):
        self.keeper.stdin.close()
        self.keeper.wait()
        measure.LASTING.discard(self.keeper.pid)
