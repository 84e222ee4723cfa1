#!/usr/bin/env python3
"""What `/self` costs a metad with 10,000 clients. Usage: self.py PLINTH [SECONDS]

Starts a member that is a metad as well (--metad-config), gives each of 10,000 loopback addresses a mapping of its own, and asks
over a connection of each, in turns, for so many seconds. Prints the CPU of the whole process per request, from /proc/PID/stat.
"""
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

PLINTH, SECONDS = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 10
CLIENTS, AT_ONCE = 10_000, 64


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def put(port, path, value):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(value).encode(), method="PUT")
    assert urllib.request.urlopen(request, timeout=60).read() == b"OK"


def cpu(pid):
    fields = open(f"/proc/{pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid):
    return next(int(line.split()[1]) / 1024 for line in open(f"/proc/{pid}/status", encoding="ascii") if "VmRSS" in line)


def address(number):
    return f"127.1.{number // 250}.{number % 250 + 1}"


def fill(manage):
    for first in range(0, CLIENTS, 1000):
        numbers = range(first, first + 1000)
        own = {str(n): {"ip": address(n), "name": f"node{n}", "role": "worker", "zone": f"z{n % 3}", "rack": n % 40} for n in numbers}
        put(manage, "/v1/data", {"nodes": own})
        put(manage, "/v1/mapping", {address(n): {"host": f"/nodes/{n}"} for n in numbers})


def measure(process, data):
    clients = []
    for number in range(CLIENTS):
        client = socket.socket()
        client.bind((address(number), 0))
        client.connect(("127.0.0.1", data))
        clients.append(client)
    ask = b"GET /self HTTP/1.1\r\nHost: m\r\nAccept: application/json\r\n\r\n"
    selector, following, done = selectors.DefaultSelector(), AT_ONCE, 0
    for number, client in enumerate(clients):
        selector.register(client, selectors.EVENT_READ, number)
    for client in clients[:AT_ONCE]:
        client.sendall(ask)
    began, before = time.monotonic(), cpu(process.pid)
    while time.monotonic() - began < SECONDS:
        for key, _ in selector.select(1):
            answer = key.fileobj.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200") and f'"node{key.data}"'.encode() in answer, answer
            done += 1
            clients[following % CLIENTS].sendall(ask)
            following += 1
    took, used = time.monotonic() - began, cpu(process.pid) - before
    print(f"{done} requests of {CLIENTS} clients in {took:.1f} s: {used / done * 1e6:.1f} us of CPU each, {memory(process.pid):.0f} MiB")


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    data, manage, client = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/metad.yaml", "w", encoding="utf-8") as settings:
            settings.write(f"listen: 127.0.0.1:{data}\nlisten_manage: 127.0.0.1:{manage}\nrate_limit: 0\n")
        url = f"http://127.0.0.1:{client}"
        flags = [f"--metad-config={folder}/metad.yaml", f"--data-dir={folder}/d", f"--listen-client-urls={url}",
                 f"--advertise-client-urls={url}", "--listen-peer-urls=http://127.0.0.1:0"]
        with open(f"{folder}/log", "w", encoding="utf-8") as log:
            process = subprocess.Popen([PLINTH, *flags], stderr=log)
        try:
            for _ in range(100):
                if "ready to serve client requests" in open(f"{folder}/log", encoding="utf-8").read():
                    break
                time.sleep(0.1)
            fill(manage)
            measure(process, data)
        finally:
            process.terminate()
            process.wait()


main()
