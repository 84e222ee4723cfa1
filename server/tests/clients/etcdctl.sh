#!/usr/bin/env bash
# Checks a server with etcdctl 3.5: every command that a single member answers. Certificates and user by ETCDCTL_* variables.
# Usage: etcdctl.sh ETCDCTL ENDPOINT. Prints what differs and exits non-zero at the first difference.
set -euo pipefail
export ETCDCTL_API=3
etcdctl=$1 endpoint=$2
e() { "$etcdctl" --endpoints "$endpoint" "$@"; }

expect() { # what, wanted, got
    if [ "$2" != "$3" ]; then
        printf 'etcdctl: %s:\n  wanted: %q\n  got:    %q\n' "$1" "$2" "$3" >&2
        exit 1
    fi
}
matches() { # what, extended regular expression, got
    if ! [[ $3 =~ $2 ]]; then
        printf 'etcdctl: %s:\n  wanted: %s\n  got:    %q\n' "$1" "$2" "$3" >&2
        exit 1
    fi
}
fails_with() { # what, text, command...
    local what=$1 text=$2 out
    shift 2
    if out=$(e "$@" 2>&1); then
        printf 'etcdctl: %s: succeeded: %s\n' "$what" "$out" >&2
        exit 1
    fi
    case $out in *"$text"*) ;; *) printf 'etcdctl: %s: wanted %q in %q\n' "$what" "$text" "$out" >&2; exit 1 ;; esac
}

collect() { # lines, command...: what a command prints that does not end by itself
    local wanted=$1 out pid
    shift
    out=$(mktemp)
    "$etcdctl" --endpoints "$endpoint" "$@" >"$out" &
    pid=$!
    for _ in $(seq 200); do [ "$(wc -l <"$out")" -ge "$wanted" ] && break; sleep 0.05; done
    kill "$pid"
    wait "$pid" 2>/dev/null || true
    cat "$out"
    rm -f "$out"
}

key_value() {
    e del --prefix ctl/ >/dev/null
    expect put OK "$(e put ctl/a 1)"
    expect get $'ctl/a\n1' "$(e get ctl/a)"
    expect 'put --prev-kv' $'OK\nctl/a\n1' "$(e put --prev-kv ctl/a 2)"
    e put ctl/b 3 >/dev/null
    expect 'get --prefix' $'ctl/a\n2\nctl/b\n3' "$(e get --prefix ctl/)"
    expect 'descending' $'ctl/b\nctl/a' "$(e get --prefix --keys-only --order=DESCEND ctl/ | grep .)"
    expect 'limit' $'ctl/a\n2' "$(e get --prefix --limit 1 ctl/)"
    matches 'count' '"Count" : 2' "$(e get --prefix --count-only -w fields ctl/)"
    matches 'json' '"count":2' "$(e get --prefix ctl/ -w json)"
    fails_with 'future revision' 'required revision is a future revision' get ctl/a --rev 100000000
    fails_with 'ignore value' 'etcdserver: key not found' put --ignore-value ctl/none
    expect 'del --prev-kv' $'1\nctl/b\n3' "$(e del --prev-kv ctl/b)"
    expect 'del of nothing' 0 "$(e del ctl/b)"
}

txns() {
    e put ctl/t old >/dev/null
    expect txn $'SUCCESS\n\nOK\n\nctl/t\nnew' "$(printf 'val("ctl/t") = "old"\n\nput ctl/t new\nget ctl/t\n\nput ctl/t never\n\n' | e txn)"
    expect 'failed txn' $'FAILURE\n\nctl/t\nnew' "$(printf 'ver("ctl/t") > "9"\n\nput ctl/t never\n\nget ctl/t\n\n' | e txn)"
}

watches() {
    local out revision
    out=$(mktemp)
    "$etcdctl" --endpoints "$endpoint" watch --prefix ctl/w/ >"$out" &
    local pid=$!
    sleep 0.5
    e put ctl/w/a 1 >/dev/null
    e del ctl/w/a >/dev/null
    for _ in $(seq 100); do [ "$(wc -l <"$out")" -ge 6 ] && break; sleep 0.05; done
    kill "$pid"
    wait "$pid" 2>/dev/null || true
    expect watch $'PUT\nctl/w/a\n1\nDELETE\nctl/w/a' "$(grep . "$out")"
    rm -f "$out"
    revision=$(e put ctl/w/b x -w json | sed 's/.*"revision":\([0-9]*\).*/\1/')
    out=$(collect 3 watch ctl/w/b --rev "$revision")
    expect 'watch from history' $'PUT\nctl/w/b\nx' "$out"
}

leases() {
    local id out
    out=$(e lease grant 60)
    matches grant '^lease [0-9a-f]{16} granted with TTL\(60s\)$' "$out"
    id=$(echo "$out" | cut -d' ' -f2)
    e put --lease="$id" ctl/leased x >/dev/null
    matches timetolive "^lease $id granted with TTL\\(60s\\), remaining\\((59|60)s\\), attached keys\\(\\[ctl/leased\\]\\)\$" "$(e lease timetolive --keys "$id")"
    matches list "$id" "$(e lease list)"
    expect keep-alive "lease $id keepalived with TTL(60)" "$(e lease keep-alive --once "$id")"
    expect revoke "lease $id revoked" "$(e lease revoke "$id")"
    expect 'key of a revoked lease' '' "$(e get ctl/leased)"
    expect 'revoked lease' "lease $id already expired" "$(e lease timetolive "$id")"
    fails_with 'revoke twice' 'etcdserver: requested lease not found' lease revoke "$id"
}

maintenance() {
    local revision
    revision=$(e put ctl/c x -w json | sed 's/.*"revision":\([0-9]*\).*/\1/')
    expect compaction "compacted revision $revision" "$(e compaction "$revision")"
    fails_with 'compacted revision' 'required revision has been compacted' get ctl/c --rev $((revision - 1))
    fails_with 'compaction twice' 'required revision has been compacted' compaction "$revision"
    matches health 'is healthy: successfully committed proposal' "$(e endpoint health 2>&1)"
    matches status "^$endpoint, [0-9a-f]+, 3\\.[0-9.]+, [0-9.]+ [kMG]?B, true, false, [0-9]+, [0-9]+, [0-9]+, \$" "$(e endpoint status)"
    matches hashkv "^$endpoint, [0-9]+" "$(e endpoint hashkv)"
    matches 'member list' '^[0-9a-f]+, started, ' "$(e member list)"
    expect 'alarm list' '' "$(e alarm list)"
    expect 'alarm disarm' '' "$(e alarm disarm)"
    matches defrag 'Finished defragmenting etcd member' "$(e defrag)"
}

concurrency() {
    expect 'lock and run' locked "$(e lock ctl-lock echo locked)"
    local out pid
    out=$(mktemp)
    "$etcdctl" --endpoints "$endpoint" elect ctl-election me >"$out" &
    pid=$!
    for _ in $(seq 100); do [ -s "$out" ] && break; sleep 0.05; done
    matches elected $'^ctl-election/[0-9a-f]+\nme$' "$(cat "$out")"
    matches 'elect --listen' $'\nme' "$(collect 2 elect --listen ctl-election)"
    kill "$pid"
    wait "$pid" || true
    rm -f "$out"
}

for check in key_value txns watches leases maintenance concurrency; do
    "$check"
    echo "etcdctl: $check ok"
done
