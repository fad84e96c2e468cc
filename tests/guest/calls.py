#!/usr/bin/python3 -B
"""calls.py COUNT POOL...: calls poold that many times, about a pool `others` and what is known already of these pools.

Each call is answered before the next; the first that fails ends it. Prints how long they took, in milliseconds: the
median, and the time within which 99 of 100 were answered.
"""

import sys
import time

import dbus

MANAGER = "/org/poold1", "org.poold1.Manager"
OBJECTS = "org.freedesktop.DBus.ObjectManager"
NONE = dbus.Dictionary({}, signature="sv")
BUS = dbus.SystemBus()
RUN = time.monotonic_ns()


def call(place, method, signature="a{sv}", args=(NONE,)):
    """One call; its answer."""
    path, interface = place
    return BUS.call_blocking("org.poold1", path, interface, method, signature, args, timeout=25)


def pool(name):
    """The object of a pool."""
    return call(MANAGER, "LookupPool", "sa{sv}", (name, NONE)), "org.poold1.Pool"


def main():
    count, beside = int(sys.argv[1]), [pool(name) for name in sys.argv[2:]]
    others = pool("others")

    def one(number):
        some = beside[number % len(beside)]
        match number % 10:
            case 0 if number % 50 == 0:
                document = f"<pool type='dir'><name>p{RUN}-{number}</name><target><path>/srv/p</path></target></pool>"
                document = document.replace("/srv/p", f"/srv/p{RUN}-{number}")
                call(MANAGER, "DefinePoolXml", "sa{sv}", (document, NONE))
            case 0:
                call(others, "CreateVolume", "sta{sv}", (f"v{RUN}-{number}", 1 << 20, NONE))
            case 1:
                call(others, "Refresh")
            case 2:
                call(("/org/poold1/pools", OBJECTS), "GetManagedObjects", "", ())
            case 3:
                call(MANAGER, "LookupVolume", "sa{sv}", ("/srv/others/one", NONE))
            case 4:
                call(others, "ListVolumes", "sua{sv}", ("", 10, NONE))
            case 5:
                call((some[0], "org.freedesktop.DBus.Properties"), "GetAll", "s", (some[1],))
            case 6:
                call(some, "GetXml")
            case _:
                call(MANAGER, "ListPools")

    took = []
    for number in range(count):
        begun = time.monotonic()
        one(number)
        took.append((time.monotonic() - begun) * 1000)
    took.sort()
    print(f"{took[count // 2]:.3f} {took[count * 99 // 100]:.3f}")


main()
