#!/usr/bin/env python3
"""Writes the layers of an image whose tree is hard to get right: every kind of entry, and every way a layer changes one.

    hard_layers.py DIR      writes DIR/layer-0.tar, DIR/layer-1.tar, ...
"""

import io
import random
import struct
import sys
import tarfile
from pathlib import Path

ROOT = "corpus"
TIME = 1_700_000_000


def main():
    out = Path(sys.argv[1])
    for number, (write, form) in enumerate(LAYERS):
        with tarfile.open(out / f"layer-{number}.tar", "w", format=form) as tar:
            write(Layer(tar))


class Layer:
    """A tar with entries in the order they are written."""

    def __init__(self, tar):
        self.tar = tar

    def add(self, path, kind, data=b"", mode=0o644, owner=(0, 0), time=TIME, xattrs=None, **fields):
        info = tarfile.TarInfo(f"{ROOT}/{path}".rstrip("/") if path is not None else ROOT)
        info.type, info.mode, info.size = kind, mode, len(data)
        info.uid, info.gid = owner
        info.mtime = int(float(time))
        if self.tar.format == tarfile.PAX_FORMAT:
            # Text, because a float has not enough digits for nanoseconds.
            info.pax_headers = {"mtime": str(time)} if isinstance(time, str) else {}
            for name, value in (xattrs or {}).items():
                info.pax_headers[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
        for name, value in fields.items():
            setattr(info, name, value)
        self.tar.addfile(info, io.BytesIO(data))

    def dir(self, path, mode=0o755, **more):
        self.add(path, tarfile.DIRTYPE, mode=mode, **more)

    def file(self, path, data=b"", **more):
        self.add(path, tarfile.REGTYPE, data if isinstance(data, bytes) else data.encode(), **more)

    def symlink(self, path, target, **more):
        self.add(path, tarfile.SYMTYPE, mode=0o777, linkname=target, **more)

    def hardlink(self, path, target, **more):
        self.add(path, tarfile.LNKTYPE, linkname=f"{ROOT}/{target}", **more)

    def whiteout(self, path):
        directory, _, name = path.rpartition("/")
        self.file(f"{directory}/.wh.{name}" if directory else f".wh.{name}")

    def opaque(self, path):
        self.file(f"{path}/.wh..wh..opq")


def base(layer):
    layer.dir(None)
    for name in ["kept", "opaque", "replaced-dir", "emptied", "real", "meta", "links"]:
        layer.dir(name)
    for number in range(5):
        layer.file(f"kept/{number}", f"base {number}\n")
        layer.file(f"opaque/{number}", "hidden\n")
        layer.file(f"emptied/{number}", "removed\n")
    layer.dir("opaque/sub/deeper")
    layer.file("opaque/sub/deeper/file", "hidden\n")
    layer.file("replaced-file", "was a file\n")
    layer.file("replaced-dir/inside", "was in a directory\n")
    layer.symlink("replaced-link", "kept/0")
    layer.file("empty")
    layer.file("setuid", "x", mode=0o4755)
    layer.file("setgid", "x", mode=0o2755, owner=(1000, 26))
    layer.dir("sticky", mode=0o1777)
    layer.file("no-rights", "x", mode=0)
    layer.file("big-ids", "x", owner=(2_000_000, 3_000_000))
    layer.add("fifo", tarfile.FIFOTYPE, mode=0o620, owner=(1, 2))
    layer.add("char", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
    layer.add("block", tarfile.BLKTYPE, mode=0o660, devmajor=259, devminor=70_000 % 4096)
    layer.symlink("dangling", "/nowhere/at/all")
    layer.symlink("absolute", f"/{ROOT}/real")
    layer.symlink("relative", "real")
    layer.symlink("long-target", "x/" * 600 + "end")
    layer.symlink("owned-link", "kept", owner=(7, 8), time="1600000000.5")
    layer.file("links/one", "shared\n", mode=0o640, owner=(5, 6))
    layer.hardlink("links/two", "links/one")
    layer.hardlink("links/three", "links/two")
    layer.file("ns-time", "x", time="1500000000.123456789")
    layer.file("old-time", "x", time="1.000000001")
    layer.file("far-time", "x", time="4102444800.999999999")


def names_and_sizes(layer):
    generator = random.Random(7)
    layer.file("n" * 255, "a name of 255 bytes\n")
    layer.file("name with spaces and \u00fcml\u00e4uts \u2603", "x")
    deep = "deep/" + "/".join("d" * 60 for _ in range(30))
    parts = deep.split("/")
    for end in range(1, len(parts) + 1):
        layer.dir("/".join(parts[:end]))
    layer.file(f"{deep}/bottom", "deep\n")
    layer.dir("many")
    for number in range(3000):
        layer.file(f"many/entry-{number:05}", str(number) if number % 10 == 0 else b"")
    for size in [1, 511, 512, 513, 4095, 4096, 4097, 65_536, 1_000_003]:
        layer.file(f"size-{size}", generator.randbytes(size))
    layer.file("zeros", bytes(3_000_000))
    holes = b"start".ljust(100_000, b"\0") + b"middle".ljust(2_000_000, b"\0") + b"end"
    layer.file("holes", holes)


def attributes(layer):
    capability = struct.pack("<IIIII", 0x0200_0001, 1 << 10, 0, 0, 0)
    layer.file("capable", "x", mode=0o755, xattrs={"security.capability": capability})
    layer.file("attributed", "x", xattrs={"user.name": b"value", "user.empty": b"", "user.long": b"v" * 1500})
    layer.dir("attributed-dir", xattrs={"user.on": b"a directory", "trusted.test": b"t"})


def gnu(layer):
    layer.dir("gnu")
    layer.file("gnu/" + "g" * 200, "GNU long name\n")
    layer.symlink("gnu/link", "t" * 300)
    layer.file("gnu/id", "x", owner=(3_000_000, 4_000_000))


def change(layer):
    layer.whiteout("kept/0")
    layer.whiteout("emptied/0")
    for number in range(1, 5):
        layer.whiteout(f"emptied/{number}")
    # A whiteout hides what is below, whatever the order in this layer.
    layer.file("opaque/new", "seen\n")
    layer.opaque("opaque")
    layer.dir("replaced-file")
    layer.file("replaced-file/now-a-directory", "x")
    layer.file("replaced-dir", "now a file\n")
    layer.file("replaced-link", "now a file\n")
    # Through links: the entry lands where the link leads.
    layer.file("relative/through-relative", "x")
    layer.file("absolute/through-absolute", "x")
    # A hard link to a lower layer's file, and a change of one name of a pair.
    layer.hardlink("kept/linked-from-above", "kept/1")
    layer.file("links/two", "its own now\n")
    # Metadata of a directory, its content untouched.
    layer.dir("meta", mode=0o2711, owner=(11, 12), time="1400000000.000000007")
    layer.whiteout("never-was-there")


def change_again(layer):
    layer.whiteout("replaced-file")
    layer.file("replaced-file/again", "a directory again, of this layer only\n")
    layer.file("kept/0", "back\n")
    layer.whiteout("sticky")
    layer.whiteout("links/one")
    layer.add("real/now-a-fifo", tarfile.FIFOTYPE)
    layer.file("kept/3", "replaced\n", mode=0o600, owner=(9, 9), time="1450000000.25")
    # Parents that no layer names.
    layer.file("unnamed/parents/of/this", "x")


LAYERS = [
    (base, tarfile.PAX_FORMAT),
    (names_and_sizes, tarfile.PAX_FORMAT),
    (attributes, tarfile.PAX_FORMAT),
    (gnu, tarfile.GNU_FORMAT),
    (change, tarfile.PAX_FORMAT),
    (change_again, tarfile.PAX_FORMAT),
]

if __name__ == "__main__":
    main()
