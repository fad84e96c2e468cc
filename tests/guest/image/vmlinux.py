#!/usr/bin/python3 -B
"""vmlinux.py VMLINUZ VMLINUX: the kernel unpacked, which starts four seconds sooner under software emulation."""

import lzma
import sys

XZ = b"\xfd7zXZ\x00"

packed = open(sys.argv[1], "rb").read()
start = packed.find(XZ)
while start >= 0:
    try:
        kernel = lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(packed[start:])
        if kernel.startswith(b"\x7fELF"):
            with open(sys.argv[2], "wb") as out:
                out.write(kernel)
            sys.exit()
    except lzma.LZMAError:
        pass
    start = packed.find(XZ, start + 1)
sys.exit(f"{sys.argv[1]}: no kernel packed with xz in it")
