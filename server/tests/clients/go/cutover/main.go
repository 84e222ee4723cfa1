// Watches all keys with the Go client while a cluster is cut over to another one. Usage: cutover OLD NEW
//
// Prints a line for each event: revision, kind, key. On SIGUSR1 the client is given the new endpoint, as an application's
// configuration would; its watch has to go on behind the last event. Ends when the key "the end" is seen; exits non-zero if
// the watch ends before.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func main() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[1]}, DialTimeout: 5 * time.Second})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switched := make(chan os.Signal, 1)
	signal.Notify(switched, syscall.SIGUSR1)
	go func() {
		<-switched
		client.SetEndpoints(os.Args[2])
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out := bufio.NewWriter(os.Stdout)
	for answer := range client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithCreatedNotify()) {
		if answer.Err() != nil {
			fmt.Fprintln(os.Stderr, answer.Err())
			os.Exit(1)
		}
		if answer.Created {
			fmt.Fprintln(out, "watching")
		}
		for _, event := range answer.Events {
			fmt.Fprintf(out, "%d %s %s\n", event.Kv.ModRevision, event.Type, event.Kv.Key)
			if string(event.Kv.Key) == "the end" {
				out.Flush()
				return
			}
		}
		out.Flush()
	}
	fmt.Fprintln(os.Stderr, "the watch ended")
	os.Exit(1)
}
