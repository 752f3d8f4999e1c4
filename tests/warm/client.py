"""Stands for Python in a forked process: what that starts with `sys.executable` is forked, too.

`client.py SERVER PYTHON ARGUMENTS`: has the server (`tests.warm`) fork a process for
`-m MODULE` or `-c CODE`, hands on the signals that may be caught, ends as that process ends, and
takes it along if it is killed itself. Anything else is a new interpreter. Only the standard library
is imported, and little of it.
"""

from __future__ import annotations

import array
import ctypes
import json
import os
import signal
import socket
import sys

HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
PR_SET_PDEATHSIG = 1


def main() -> None:
    address, python, *arguments = sys.argv[1:]
    flags = [argument for argument in arguments[:1] if argument == "-u"]
    if arguments[len(flags)] not in ("-m", "-c"):
        os.execv(python, [python, *arguments])  # noqa: S606
    order = {
        "arguments": arguments[len(flags) :],
        "folder": os.getcwd(),  # noqa: PTH109, pathlib takes its time to import.
        "environment": dict(os.environ),
        "session": True,
        "owned": True,
    }
    text = os.memfd_create("order")
    os.write(text, json.dumps(order).encode())
    keeper = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper.connect(address)
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)
    passed = array.array("i", [0, 1, 2, text])
    keeper.sendmsg([b"start"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
    child = int(keeper.recv(64))
    for number in HANDED_ON:
        signal.signal(number, lambda received, _: os.kill(child, received))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDED_ON)
    ended = int(keeper.recv(64))
    if ended < 0:
        signal.signal(-ended, signal.SIG_DFL) if -ended != signal.SIGKILL else None
        os.kill(os.getpid(), -ended)
    os._exit(ended)


if __name__ == "__main__":
    # As the process that it stands for would, if that asked to die with the one that started it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    main()
