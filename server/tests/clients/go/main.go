// Checks a server with the Go client and its concurrency package: key-value, transactions, leases, watches, STM,
// mutexes, elections, maintenance. Usage: clientcheck ENDPOINT. Exits non-zero at the first difference. CHECK_TLS and
// CHECK_USER as in ../run.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "go clientv3: %s: %v\n", what, err)
		os.Exit(1)
	}
}

func expect(ok bool, format string, args ...any) {
	if !ok {
		fmt.Fprintf(os.Stderr, "go clientv3: "+format+"\n", args...)
		os.Exit(1)
	}
}

func keyValue(ctx context.Context, c *clientv3.Client) {
	_, err := c.Delete(ctx, "go/", clientv3.WithPrefix())
	check(err, "delete prefix")
	put, err := c.Put(ctx, "go/a", "1")
	check(err, "put")
	got, err := c.Get(ctx, "go/a")
	check(err, "get")
	expect(got.Kvs[0].ModRevision == put.Header.Revision, "mod revision %d, put at %d", got.Kvs[0].ModRevision, put.Header.Revision)
	again, err := c.Put(ctx, "go/a", "2", clientv3.WithPrevKV())
	check(err, "put with previous")
	expect(string(again.PrevKv.Value) == "1", "previous value %q", again.PrevKv.Value)
	old, err := c.Get(ctx, "go/a", clientv3.WithRev(put.Header.Revision))
	check(err, "historical get")
	expect(string(old.Kvs[0].Value) == "1", "historical value %q", old.Kvs[0].Value)
	_, err = c.Get(ctx, "go/a", clientv3.WithRev(again.Header.Revision+1000))
	expect(errors.Is(err, rpctypes.ErrFutureRev), "future revision: %v", err)
	_, err = c.Get(ctx, "")
	expect(errors.Is(err, rpctypes.ErrEmptyKey), "empty key: %v", err)
	_, err = c.Put(ctx, "go/none", "", clientv3.WithIgnoreValue())
	expect(errors.Is(err, rpctypes.ErrKeyNotFound), "ignore value on a missing key: %v", err)
	for i := 0; i < 20; i++ {
		_, err = c.Put(ctx, fmt.Sprintf("go/list/%02d", i), "x")
		check(err, "put in a list")
	}
	page, err := c.Get(ctx, "go/list/", clientv3.WithPrefix(), clientv3.WithLimit(7), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	check(err, "page")
	expect(len(page.Kvs) == 7 && page.More && page.Count == 20 && string(page.Kvs[0].Key) == "go/list/19", "page %v", page)
	compacted, err := c.Compact(ctx, again.Header.Revision, clientv3.WithCompactPhysical())
	check(err, "compact")
	expect(compacted.Header.Revision >= again.Header.Revision, "header of a compaction")
	_, err = c.Get(ctx, "go/a", clientv3.WithRev(put.Header.Revision))
	expect(errors.Is(err, rpctypes.ErrCompacted), "compacted revision: %v", err)
}

func transactions(ctx context.Context, c *clientv3.Client) {
	txn, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision("go/txn"), "=", 0)).
		Then(clientv3.OpPut("go/txn", "made"), clientv3.OpGet("go/txn")).
		Else(clientv3.OpGet("go/txn")).Commit()
	check(err, "txn")
	expect(txn.Succeeded && string(txn.Responses[1].GetResponseRange().Kvs[0].Value) == "made", "txn %v", txn)
	_, err = c.Txn(ctx).Then(clientv3.OpPut("go/txn", "a"), clientv3.OpPut("go/txn", "b")).Commit()
	expect(errors.Is(err, rpctypes.ErrDuplicateKey), "duplicate key: %v", err)
	nested, err := c.Txn(ctx).Then(clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.Value("go/txn"), "=", "made")},
		[]clientv3.Op{clientv3.OpPut("go/nested", "yes")}, nil)).Commit()
	check(err, "nested txn")
	expect(nested.Responses[0].GetResponseTxn().Succeeded, "nested %v", nested)
}

func leases(ctx context.Context, c *clientv3.Client) {
	grant, err := c.Grant(ctx, 60)
	check(err, "grant")
	_, err = c.Put(ctx, "go/leased", "x", clientv3.WithLease(grant.ID))
	check(err, "put with lease")
	alive, err := c.KeepAliveOnce(ctx, grant.ID)
	check(err, "keep alive")
	expect(alive.TTL == 60, "ttl %d", alive.TTL)
	info, err := c.TimeToLive(ctx, grant.ID, clientv3.WithAttachedKeys())
	check(err, "time to live")
	expect(len(info.Keys) == 1 && info.GrantedTTL == 60, "info %v", info)
	_, err = c.Revoke(ctx, grant.ID)
	check(err, "revoke")
	_, err = c.Revoke(ctx, grant.ID)
	expect(errors.Is(err, rpctypes.ErrLeaseNotFound), "revoke twice: %v", err)
	short, err := c.Grant(ctx, 1)
	check(err, "short grant")
	_, err = c.Put(ctx, "go/short", "x", clientv3.WithLease(short.ID))
	check(err, "put with a short lease")
	deadline := time.Now().Add(15 * time.Second)
	for {
		got, err := c.Get(ctx, "go/short")
		check(err, "get of an expiring key")
		if len(got.Kvs) == 0 {
			break
		}
		expect(time.Now().Before(deadline), "a lease of %d s has not expired after 15 s", short.TTL)
		time.Sleep(100 * time.Millisecond)
	}
}

func watches(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.Watch(clientv3.WithRequireLeader(ctx), "go/watch/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	<-events
	first, err := c.Put(ctx, "go/watch/a", "1")
	check(err, "put")
	_, err = c.Put(ctx, "go/watch/a", "2")
	check(err, "put")
	_, err = c.Delete(ctx, "go/watch/a")
	check(err, "delete")
	var got []*clientv3.Event
	for len(got) < 3 {
		response := <-events
		check(response.Err(), "watch")
		got = append(got, response.Events...)
	}
	expect(got[0].IsCreate() && got[1].IsModify() && got[2].Type == clientv3.EventTypeDelete, "events %v", got)
	expect(string(got[1].PrevKv.Value) == "1" && string(got[2].PrevKv.Value) == "2", "previous values %v", got)
	history := c.Watch(ctx, "go/watch/a", clientv3.WithRev(first.Header.Revision))
	response := <-history
	check(response.Err(), "watch from history")
	expect(response.Events[0].Kv.ModRevision == first.Header.Revision, "history starts at %d", response.Events[0].Kv.ModRevision)
	compacted := c.Watch(ctx, "go/watch/a", clientv3.WithRev(1))
	response = <-compacted
	expect(errors.Is(response.Err(), rpctypes.ErrCompacted), "watch below the compact revision: %v", response.Err())
	check(c.RequestProgress(ctx), "progress request")
}

func concurrent(ctx context.Context, c *clientv3.Client) {
	_, err := c.Put(ctx, "go/counter", "")
	check(err, "put")
	var group sync.WaitGroup
	for worker := 0; worker < 8; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := 0; i < 10; i++ {
				_, err := concurrency.NewSTM(c, func(stm concurrency.STM) error {
					stm.Put("go/counter", stm.Get("go/counter")+"x")
					return nil
				})
				check(err, "stm")
			}
		}()
	}
	group.Wait()
	got, err := c.Get(ctx, "go/counter")
	check(err, "get")
	expect(len(got.Kvs[0].Value) == 80, "80 increments gave %d", len(got.Kvs[0].Value))

	held := 0
	for worker := 0; worker < 4; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			session, err := concurrency.NewSession(c, concurrency.WithTTL(10))
			check(err, "session")
			defer session.Close()
			mutex := concurrency.NewMutex(session, "go/mutex/")
			for i := 0; i < 5; i++ {
				check(mutex.Lock(ctx), "lock")
				held++
				expect(held == 1, "%d holders of a mutex", held)
				time.Sleep(time.Millisecond)
				held--
				check(mutex.Unlock(ctx), "unlock")
			}
		}()
	}
	group.Wait()

	session, err := concurrency.NewSession(c, concurrency.WithTTL(10))
	check(err, "session")
	election := concurrency.NewElection(session, "go/election")
	check(election.Campaign(ctx, "me"), "campaign")
	leader, err := election.Leader(ctx)
	check(err, "leader")
	expect(string(leader.Kvs[0].Value) == "me", "leader %q", leader.Kvs[0].Value)
	check(election.Resign(ctx), "resign")
	check(session.Close(), "close")
}

func maintenance(ctx context.Context, c *clientv3.Client) {
	status, err := c.Status(ctx, c.Endpoints()[0])
	check(err, "status")
	expect(status.Leader == status.Header.MemberId && status.DbSize > 0, "status %v", status)
	members, err := c.MemberList(ctx)
	check(err, "member list")
	expect(len(members.Members) == 1 && members.Members[0].ID == status.Header.MemberId, "members %v", members)
	alarms, err := c.AlarmList(ctx)
	check(err, "alarm list")
	expect(len(alarms.Alarms) == 0, "alarms %v", alarms)
	hash, err := c.HashKV(ctx, c.Endpoints()[0], 0)
	check(err, "hash")
	expect(hash.Hash != 0, "hash %v", hash)
	_, err = c.Defragment(ctx, c.Endpoints()[0])
	check(err, "defragment")
}

func main() {
	config := clientv3.Config{Endpoints: []string{os.Args[1]}, DialTimeout: 5 * time.Second}
	if folder := os.Getenv("CHECK_TLS"); folder != "" {
		pair, err := tls.LoadX509KeyPair(folder+"/client.crt", folder+"/client.key")
		check(err, "certificate")
		authority, err := os.ReadFile(folder + "/ca.crt")
		check(err, "authority")
		roots := x509.NewCertPool()
		expect(roots.AppendCertsFromPEM(authority), "no authority in %s", folder)
		config.TLS = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
	}
	config.Username, config.Password, _ = strings.Cut(os.Getenv("CHECK_USER"), ":")
	client, err := clientv3.New(config)
	check(err, "connect")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, step := range []struct {
		name string
		run  func(context.Context, *clientv3.Client)
	}{{"key-value", keyValue}, {"transactions", transactions}, {"leases", leases}, {"watches", watches}, {"concurrency", concurrent}, {"maintenance", maintenance}} {
		step.run(ctx, client)
		fmt.Printf("go clientv3: %s ok\n", step.name)
	}
	check(client.Close(), "close")
}
