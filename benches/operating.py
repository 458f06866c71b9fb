"""The operator: 1,000 VM objects until they run, and then while nothing happens."""

import json
import os
import subprocess
from pathlib import Path

VMS = 1000
ROOT = Path(__file__).resolve().parent.parent


def operating(row, judged):
    build = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "ignited", "-p", "ignite-kubernetes-fake",
             "--bin", "ignited", "--example", "operator-load"]
    subprocess.run(build, cwd=ROOT, check=True)
    yield from load("in memory", [], row, judged)
    kubeconfig = os.environ.get("IGNITE_TEST_KUBECONFIG")
    if kubeconfig:
        yield from load("real API server", ["--kubeconfig", kubeconfig], row, judged)
    else:
        yield row("operator, real API server", "not measured: IGNITE_TEST_KUBECONFIG names a cluster for tests")


def load(where, arguments, row, judged):
    release = ROOT / "target" / "release"
    command = [release / "examples" / "operator-load", release / "ignited", "--vms", str(VMS), *arguments]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    yield row(f"operator, {where}: {VMS} VMs ready, s", f"{found['settled_s']:.1f} ({VMS / found['settled_s']:.0f} VMs/s)")
    yield row(f"operator, {where}: CPU s", f"{found['cpu_s']:.1f}")
    yield row(f"operator, {where}: peak memory MiB", f"{found['peak_mib']:.0f}")
    if found["requests"] is None:
        return
    yield row(f"operator, {where}: requests per VM until ready", f"{found['requests'] / VMS:.2f}, {found['writes'] / VMS:.2f} of them writes")
    yield row(f"operator, {where}: requests in {found['quiet_s']} s of quiet", str(found["quiet_requests"]))
    yield judged(f"operator, {where}: writes in {found['quiet_s']} s of quiet", str(found["quiet_writes"]), found["quiet_writes"], 0, "0")
