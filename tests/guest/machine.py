#!/usr/bin/python3 -B
"""Starts guests.

machine.py freeze IMAGE
    boots the image and keeps the running machine in IMAGE/frozen.
machine.py run [--cold] [--limit S] [--trace] [--quiet] --image IMAGE --work DIR NAME
    runs the step file NAME, of the job DIR/job.tar, in a guest of its own: from the frozen machine, or booted. Writes
    what it says, and its RESULT lines once more to DIR/results.

Files of a guest are in a directory below DIR. Nothing of it is left, and QEMU dies with this program.
"""

import argparse
import contextlib
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import hardware


class Failed(Exception):
    """The guest did not do what it should."""


class Guest:
    """A QEMU, and the sockets to it."""

    def __init__(self, command, work):
        # It dies with us, however we end.
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL)
        self.work = work
        self.output = self.connect("output")
        self.control = self.connect("control")
        self.monitor = self.connect("qmp").makefile("rw")
        self.monitor.readline()
        self.qmp("qmp_capabilities")

    def connect(self, name):
        while self.process.poll() is None:
            client = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError):
                client.connect(f"{self.work}/{name}")
                return client
            client.close()
            time.sleep(0.01)
        raise Failed(f"QEMU ended with status {self.process.returncode}")

    def qmp(self, execute, **arguments):
        """One command to QEMU's monitor, and its answer."""
        self.monitor.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
        self.monitor.flush()
        for line in self.monitor:
            answer = json.loads(line)
            if "error" in answer:
                raise Failed(f"{execute}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise Failed("QEMU ended")

    def lines(self, deadline):
        """What comes from the guest until it is off: pairs of the port's name and a line."""
        ports = selectors.DefaultSelector()
        rest = {}
        for name, port in ("output", self.output), ("control", self.control):
            ports.register(port, selectors.EVENT_READ, name)
            rest[name] = b""
        while ports.get_map():
            if time.monotonic() > deadline:
                raise Failed("no end within the time limit")
            for key, _ in ports.select(1):
                data = key.fileobj.recv(65536)
                if not data:
                    ports.unregister(key.fileobj)
                    data = b"\n" if rest[key.data] else b""
                *lines, rest[key.data] = (rest[key.data] + data).split(b"\n")
                for line in lines:
                    yield key.data, line.decode(errors="replace")

    def end(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def place(parent):
    """A directory for a guest, with its spare disks."""
    work = tempfile.mkdtemp(prefix="guest.", dir=parent)
    try:
        for disk in hardware.VIRTIO_DISKS + hardware.SCSI_DISKS:
            with open(f"{work}/{disk}", "wb") as file:
                file.truncate(hardware.DISK_SIZE)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def turn(cache):
    """At most two guests at a time, whoever starts them: more of them are slower than one after the other. Who comes
    first is first."""
    told = False
    first = open(f"{cache}/first", "w")
    fcntl.flock(first, fcntl.LOCK_EX)
    places = [open(f"{cache}/running-{number}", "w") for number in range(int(os.environ.get("POOLD_GUESTS", 2)))]
    while True:
        for mine in places:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
                first.close()
                yield
                return
        if not told:
            print("guest: waiting for other guests to end", file=sys.stderr)
            told = True
        time.sleep(0.1)


def freeze(image):
    """Boots an image and keeps what runs then."""
    with place(image) as work:
        job = f"{work}/job"
        with open(job, "wb") as file:
            file.truncate(hardware.JOB_SIZE)
        root = f"{image}/frozen/root.qcow2"
        guest = Guest(hardware.command(image, work, root, job, freeze=True), work)
        try:
            deadline = time.monotonic() + 600
            if ("control", "ready") not in guest.lines(deadline):
                raise Failed(f"the image does not boot:\n{tail(work)}")
            # What systemd, udev and the disks still have to do after a boot.
            time.sleep(3)
            guest.qmp("stop")
            guest.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            guest.qmp("migrate", uri=f"exec:cat >{image}/frozen/memory")
            while (status := guest.qmp("query-migrate").get("status")) != "completed":
                if status == "failed" or time.monotonic() > deadline:
                    raise Failed("QEMU cannot keep the machine")
                time.sleep(0.05)
            guest.qmp("quit")
            guest.process.wait()
        finally:
            guest.end()


def tail(work):
    """The end of the guest's console."""
    with contextlib.suppress(OSError), open(f"{work}/console", errors="replace") as console:
        return "".join(f"    console: {line}" for line in console.readlines()[-20:])
    return ""


class Report:
    """What the guest says, in blocks that end with a RESULT line, so that two guests can speak at a time."""

    def __init__(self, work, name, quiet):
        self.work, self.name, self.quiet = work, name, quiet
        self.held = []
        self.results = 0

    def line(self, text):
        self.held.append(text + "\n")
        if text.startswith("RESULT "):
            self.results += 1
            with open(f"{self.work}/results", "a") as results:
                results.write(text + "\n")
        if not self.quiet or text.startswith("RESULT "):
            self.flush()

    def fail(self, why):
        self.line(f"RESULT guest {self.name} fail {why}")

    def flush(self):
        with open(f"{self.work}/speaking", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            sys.stdout.write("".join(self.held))
            sys.stdout.flush()
        self.held = []


def run(options):
    """Runs a step file and says what came of it; false when nothing did."""
    image, report = options.image, Report(options.work, options.name, options.quiet)
    with turn(os.path.dirname(image)), place(options.work) as work:
        below = f"{image}/root.ext4,raw" if options.cold else f"{image}/frozen/root.qcow2,qcow2"
        below, kind = below.split(",")
        root = f"{work}/root"
        subprocess.check_call(["qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", kind, root])
        memory = None if options.cold else f"{image}/frozen/memory"
        command = hardware.command(image, work, root, f"{options.work}/job.tar", incoming=memory)
        begun = time.monotonic()
        deadline = begun + options.limit
        guest = Guest(command, work)
        status = None

        def go():
            guest.control.sendall(f"{int(time.time())} {options.name} {options.trace:d} {options.limit:.0f}\n".encode())

        try:
            if memory:
                while (state := guest.qmp("query-status")["status"]) != "running":
                    if state == "paused":
                        guest.qmp("cont")
                    elif time.monotonic() > deadline:
                        raise Failed(f"the frozen machine does not go on: {state}")
                    time.sleep(0.01)
                go()
            for port, line in guest.lines(deadline):
                if port == "output":
                    report.line(line)
                elif line == "ready":
                    go()
                elif line.startswith("status "):
                    status = int(line.split()[1])
            if status is None:
                raise Failed("the guest went off in the middle")
            if status not in (0, 1):
                raise Failed(f"the step file ended with status {status}")
            if not report.results:
                raise Failed("no step ran")
        except Failed as failed:
            report.line(tail(work).rstrip("\n"))
            report.fail(failed)
        finally:
            guest.end()
            report.line(f"guest: {options.name} took {time.monotonic() - begun:.0f} s")
            report.flush()


def ended(_signal, _frame):
    """So that what is to be done at the end is done."""
    sys.exit(143)


def main():
    signal.signal(signal.SIGTERM, ended)
    parser = argparse.ArgumentParser(usage=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("freeze")
    command.add_argument("image", type=os.path.abspath)
    command = commands.add_parser("run")
    command.add_argument("--image", type=os.path.abspath, required=True)
    command.add_argument("--work", type=os.path.abspath, required=True)
    command.add_argument("--cold", action="store_true")
    command.add_argument("--trace", action="store_true")
    command.add_argument("--quiet", action="store_true")
    command.add_argument("--limit", type=float, default=600)
    command.add_argument("name")
    options = parser.parse_args()
    try:
        freeze(options.image) if options.command == "freeze" else run(options)
    except Failed as failed:
        sys.exit(f"guest: {failed}")


main()
