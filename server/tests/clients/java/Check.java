// Checks a server with the Java client `jetcd`: key-value, transactions, leases, watches, locks, maintenance.
// Usage: java Check HOST:PORT. Ends with an exception at the first difference. CHECK_TLS and CHECK_USER as in ../run.

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.ClientBuilder;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.watch.WatchEvent;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

public class Check {
    static ByteSequence bytes(String text) {
        return ByteSequence.from(text, StandardCharsets.UTF_8);
    }

    static <T> T await(CompletableFuture<T> future) throws Exception {
        return future.get(20, TimeUnit.SECONDS);
    }

    static void expect(Object actual, Object wanted, String what) {
        if (!wanted.equals(actual)) {
            throw new AssertionError("jetcd: " + what + ": got " + actual + ", wanted " + wanted);
        }
    }

    static void keyValue(Client client) throws Exception {
        var kv = client.getKVClient();
        await(kv.delete(bytes("java/"), DeleteOption.builder().isPrefix(true).build()));
        await(kv.put(bytes("java/a"), bytes("1")));
        var again = await(kv.put(bytes("java/a"), bytes("2"), PutOption.builder().withPrevKV().build()));
        expect(again.getPrevKv().getValue().toString(), "1", "previous value");
        for (int n = 0; n < 5; n++) {
            await(kv.put(bytes("java/list/" + n), bytes("x")));
        }
        var page = await(kv.get(bytes("java/list/"), GetOption.builder().isPrefix(true).withLimit(3).build()));
        expect(page.getKvs().size(), 3, "page");
        expect(page.getCount(), 5L, "count");
        expect(await(kv.delete(bytes("java/a"))).getDeleted(), 1L, "delete");
    }

    static void transactions(Client client) throws Exception {
        var kv = client.getKVClient();
        await(kv.put(bytes("java/txn"), bytes("old")));
        var isOld = new Cmp(bytes("java/txn"), Cmp.Op.EQUAL, CmpTarget.value(bytes("old")));
        var put = Op.put(bytes("java/txn"), bytes("new"), PutOption.DEFAULT);
        var get = Op.get(bytes("java/txn"), GetOption.DEFAULT);
        expect(await(kv.txn().If(isOld).Then(put, get).commit()).isSucceeded(), true, "txn");
        var second = await(kv.txn().If(isOld).Then(put).Else(get).commit());
        expect(second.isSucceeded(), false, "second txn");
        expect(second.getGetResponses().get(0).getKvs().get(0).getValue().toString(), "new", "value in a txn");
    }

    static void leases(Client client) throws Exception {
        long lease = await(client.getLeaseClient().grant(60)).getID();
        var leased = PutOption.builder().withLeaseId(lease).build();
        await(client.getKVClient().put(bytes("java/leased"), bytes("x"), leased));
        var left = await(client.getLeaseClient().timeToLive(lease, LeaseOption.builder().withAttachedKeys().build()));
        expect(left.getKeys().size(), 1, "attached keys");
        expect(await(client.getLeaseClient().keepAliveOnce(lease)).getTTL(), 60L, "keep-alive");
        await(client.getLeaseClient().revoke(lease));
        expect(await(client.getKVClient().get(bytes("java/leased"))).getCount(), 0L, "key of a revoked lease");
    }

    static void watches(Client client) throws Exception {
        BlockingQueue<WatchEvent> events = new LinkedBlockingQueue<>();
        var watcher = client.getWatchClient().watch(bytes("java/watched"), answer -> events.addAll(answer.getEvents()));
        // From its creation on; the first ones may be lost before.
        WatchEvent first = null;
        for (int n = 0; n < 100 && first == null; n++) {
            await(client.getKVClient().put(bytes("java/watched"), bytes("x")));
            first = events.poll(200, TimeUnit.MILLISECONDS);
        }
        expect(first != null, true, "an event");
        expect(first.getEventType(), WatchEvent.EventType.PUT, "kind of event");
        watcher.close();
    }

    static void locks(Client client) throws Exception {
        long lease = await(client.getLeaseClient().grant(60)).getID();
        var key = await(client.getLockClient().lock(bytes("java-lock"), lease)).getKey();
        await(client.getLockClient().unlock(key));
        await(client.getLeaseClient().revoke(lease));
    }

    static void maintenance(Client client) throws Exception {
        expect(await(client.getClusterClient().listMember()).getMembers().size(), 1, "members");
        expect(await(client.getMaintenanceClient().listAlarms()).getAlarms().size(), 0, "alarms");
    }

    interface Step {
        void run(Client client) throws Exception;
    }

    static void run(String name, Client client, Step step) throws Exception {
        step.run(client);
        System.out.println("jetcd: " + name + " ok");
    }

    public static void main(String[] arguments) throws Exception {
        String folder = System.getenv("CHECK_TLS");
        String user = System.getenv("CHECK_USER");
        ClientBuilder builder = Client.builder().endpoints((folder == null ? "http://" : "https://") + arguments[0]);
        if (folder != null) {
            builder.sslContext(context -> context
                .trustManager(new File(folder, "ca.crt"))
                .keyManager(new File(folder, "client.crt"), new File(folder, "client.key")));
        }
        if (user != null) {
            String[] parts = user.split(":", 2);
            builder.user(bytes(parts[0])).password(bytes(parts[1]));
        }
        try (Client client = builder.build()) {
            run("key-value", client, Check::keyValue);
            run("transactions", client, Check::transactions);
            run("leases", client, Check::leases);
            run("watches", client, Check::watches);
            run("locks", client, Check::locks);
            run("maintenance", client, Check::maintenance);
        }
        System.exit(0);
    }
}
