"""The v2 API through python-etcd: keys, directories, times to live, conditions, waiting, locks. Usage: v2.py HOST PORT"""

import sys
import threading
import time

import etcd

host, port = sys.argv[1], int(sys.argv[2])
client = etcd.Client(host=host, port=port, read_timeout=10)


def refuses(error, act):
    try:
        act()
    except error:
        return
    raise AssertionError(f"{error.__name__} did not come")


def keys():
    written = client.write("/py/key", "value", ttl=100)
    assert written.newKey and written.ttl == 100, written
    read = client.read("/py/key")
    assert read.value == "value" and read.etcd_index >= read.modifiedIndex
    assert "/py/key" in client and "/py/none" not in client
    refuses(etcd.EtcdKeyNotFound, lambda: client.read("/py/none"))
    refuses(etcd.EtcdNotFile, lambda: client.write("/py", "no directory"))
    refuses(etcd.EtcdAlreadyExist, lambda: client.write("/py/key", "x", prevExist=False))
    client.write("/py/key", "other", prevValue="value")
    refuses(etcd.EtcdCompareFailed, lambda: client.write("/py/key", "x", prevValue="value"))
    refuses(etcd.EtcdCompareFailed, lambda: client.write("/py/key", "x", prevIndex=1))
    client.refresh("/py/key", ttl=50)
    kept = client.read("/py/key", quorum=True)
    assert kept.value == "other" and 45 <= kept.ttl <= 50, kept


def directories():
    client.write("/py/dir/sub", None, dir=True)
    for number in range(3):
        client.write("/py/queue", f"job {number}", append=True)
    jobs = [child.value for child in client.read("/py/queue", sorted=True).children]
    assert jobs == ["job 0", "job 1", "job 2"], jobs
    refuses(etcd.EtcdDirNotEmpty, lambda: client.delete("/py/queue", dir=True))
    client.delete("/py/queue", recursive=True)
    leaves = {leaf.key for leaf in client.read("/py", recursive=True).leaves}
    assert leaves == {"/py/key", "/py/dir/sub"}, leaves


def waiting():
    index = client.read("/py").etcd_index
    later = threading.Timer(0.3, lambda: client.write("/py/watched/a", "1"))
    later.start()
    told = client.read("/py/watched", wait=True, recursive=True)
    assert told.key == "/py/watched/a" and told.value == "1", told
    later.join()
    past = client.read("/py/watched", wait=True, recursive=True, waitIndex=index + 1)
    assert past.modifiedIndex == told.modifiedIndex
    client.write("/py/short", "x", ttl=1)
    ended = client.watch("/py/short")
    assert ended.action == "expire", ended
    some = []
    for event in client.eternal_watch("/py/watched", index=told.modifiedIndex, recursive=True):
        some.append(event)
        break
    assert some[0].key == "/py/watched/a"


def locks():
    first, second = etcd.Lock(client, "py"), etcd.Lock(client, "py")
    assert first.acquire(lock_ttl=30)
    assert not second.acquire(blocking=False, lock_ttl=30)
    started = time.monotonic()
    threading.Timer(0.3, first.release).start()
    assert second.acquire(blocking=True, lock_ttl=30) and time.monotonic() - started < 10
    second.release()


def cluster():
    assert len(client.machines) >= 0
    assert len(client.members) == 1 and client.leader["clientURLs"], client.leader
    assert client.stats["state"] == "StateLeader" and client.store_stats["setsSuccess"] > 0


for check in (keys, directories, waiting, locks, cluster):
    check()
print("python-etcd ok")
