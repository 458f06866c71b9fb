"""Where a start's time goes: read from what a VM leaves behind, its supervisor's log and the times of its files.

```text
 command typed ─ create ─ supervisor up ─ vmm and early kernel ─ kernel's clock ─ kernel, drivers, ... switch ─ configured ─ command
     ─ guest's last word ─ guest end ─ VMM gone ─ teardown ─ prompt
```
"""

import datetime
import re
import subprocess

from measure import median

# Neither the VMM nor the guest works in these.
OURS = ("create", "teardown")

HELLO = re.compile(r"said hello (\d+) ms after its start")
TIMELINE = re.compile(r"guest: done at ms: (.*)$")
CONFIGURED = re.compile(r"configured (\d+) ms after the kernel's start")


def of(vm_dir, started, ended):
    """Phase -> milliseconds of one run, which began and ended at these Unix times."""
    kernel_start = configured = last_word = vmm_gone = None
    steps = {}
    for line in (vm_dir / "supervisor.log").read_text().splitlines():
        stamp, _, text = line.partition(" ")
        now = datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
        if match := HELLO.search(text):
            kernel_start = now - int(match[1]) / 1000
        elif match := TIMELINE.search(text):
            words = match[1].split()
            steps = dict(zip(words[::2], map(float, words[1::2])))
        elif CONFIGURED.search(text):
            configured = now
        elif "the guest closed the agent channel" in text:
            last_word = now
        elif "the machine ended" in text:
            vmm_gone = now
    if None in (kernel_start, configured, last_word, vmm_gone):
        return {}
    supervisor_up = born(vm_dir / "task.log")
    phases = {"create": supervisor_up - started, "vmm and early kernel": kernel_start - supervisor_up}
    before = 0.0
    for step, at in steps.items():
        phases[step] = (at - before) / 1000
        before = at
    phases["configured"] = configured - kernel_start - before / 1000
    phases["command"] = last_word - configured
    phases["guest end"] = vmm_gone - last_word
    phases["teardown"] = ended - vmm_gone
    return {name: seconds * 1000 for name, seconds in phases.items()}


def born(path):
    """When a file was made. (The clock of files ticks every 4 ms.)"""
    return float(subprocess.run(["stat", "--format=%.9W", path], capture_output=True, text=True, check=True).stdout)


def medians(reports):
    names = [name for report in reports[:1] for name in report]
    return {name: median([report[name] for report in reports if name in report]) for name in names}


def ours(table):
    """Milliseconds spent neither in the VMM nor in the guest; absent when the logs do not tell."""
    return sum(table[name] for name in OURS) if table else None
