#!/usr/bin/python3 -B
"""noise.py PORT: listens at a TCP port, and answers all that is said there with the same noise. Never hangs up."""

import random
import selectors
import socket
import sys

NOISE = random.Random(1).randbytes(1024)


def main():
    ports = selectors.DefaultSelector()
    listener = socket.create_server(("", int(sys.argv[1])))
    ports.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in ports.select():
            if key.fileobj is listener:
                ports.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            try:
                heard = key.fileobj.recv(65536)
                if heard:
                    key.fileobj.send(NOISE, socket.MSG_DONTWAIT)
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            ports.unregister(key.fileobj)
            key.fileobj.close()


main()
