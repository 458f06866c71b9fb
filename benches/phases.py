"""Where a start's time goes, as the programs' own logs tell it: lines that hold `phase=NAME` and `ms=NUMBER`."""

import re
from pathlib import Path

from measure import median

LINE = re.compile(r"\bphase=\"?([a-z -]+?)\"? .*?\bms=([0-9.]+)|\bms=([0-9.]+) .*?\bphase=\"?([a-z -]+?)\"?(?:\s|$)")
# Phases in which the VMM or the guest works; the rest is ours.
OF_VMM_AND_GUEST = {"vmm start", "kernel", "init", "configure", "command", "guest end"}


def of(log):
    """Phase -> milliseconds of one run."""
    found = {}
    text = re.sub(r"\x1b\[[0-9;]*m", "", Path(log).read_text(errors="replace"))
    for match in LINE.finditer(text):
        name, value = (match[1], match[2]) if match[1] else (match[4], match[3])
        found[name] = found.get(name, 0.0) + float(value)
    return found


def medians(reports):
    names = [name for report in reports[:1] for name in report]
    return {name: median([report[name] for report in reports if name in report]) for name in names}


def host_side(table):
    """Milliseconds spent neither in the VMM nor in the guest; absent when the logs do not tell."""
    if not table:
        return None
    return sum(value for name, value in table.items() if name not in OF_VMM_AND_GUEST)
