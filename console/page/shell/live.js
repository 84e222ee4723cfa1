// What changes by itself: one stream for all watches, since a browser has six connections to a host, and one short
// question a second for figures. Both rest while nobody looks.

const watches = { all: new Map(), next: 1, abort: null };

// Calls `changed` with the events of a range from now on, until `signal` ends it. `state` is told what is wrong.
function watchRange(fields, revision, changed, state, signal) {
  const id = String(watches.next++);
  watches.all.set(id, { fields, changed, state, from: BigInt(revision) + 1n });
  signal.addEventListener("abort", () => {
    watches.all.delete(id);
    restartWatches();
  });
  restartWatches();
}

function restartWatches() {
  if (watches.abort) watches.abort.abort();
  watches.abort = null;
  if (watches.all.size && !document.hidden) runWatches((watches.abort = new AbortController()));
}

async function runWatches(abort) {
  const bodies = [...watches.all].map(([id, watch]) => ({ create_request: { ...watch.fields, watch_id: id, start_revision: String(watch.from), prev_kv: false } }));
  const tell = (text) => watches.all.forEach((watch) => watch.state(text));
  try {
    for await (const answer of stream("watch", bodies, abort.signal)) {
      const watch = watches.all.get(answer.watch_id);
      if (!watch) continue;
      if (answer.canceled) {
        watches.all.delete(answer.watch_id);
        watch.state(answer.cancel_reason || (answer.compact_revision ? "what was to be followed is compacted" : "the server ended the watch"));
        continue;
      }
      watch.state("");
      if (!answer.events) continue;
      watch.from = BigInt(answer.header.revision) + 1n;
      watch.changed(answer.events.map(({ type, kv }) => ({ type: type || "PUT", kv: { ...kv, key: fromBase64(kv.key) } })));
    }
    if (watches.all.size) tell("the stream ended");
  } catch (error) {
    if (error.name === "AbortError") return;
    tell(error.message);
  }
  if (!abort.signal.aborted && watches.all.size) setTimeout(() => abort.signal.aborted || restartWatches(), 2000);
}

// Figures of the last fifteen minutes; whoever shows them is told of new ones.
const samples = { names: [], rows: [] };

function column(name) {
  const index = samples.names.indexOf(name);
  return samples.rows.map((row) => row[index]);
}

// What a counter gained by the second, over five of them.
function rates(name) {
  const times = column("time"), counts = column(name);
  return counts.map((count, index) => {
    const from = Math.max(0, index - 5);
    return Math.max(0, count - counts[from]) / Math.max(1, times[index] - times[from]);
  });
}

const lastOf = (values) => values[values.length - 1] || 0;

function followSamples(changed, signal) {
  everySecond(async () => {
    const since = samples.rows.length ? lastOf(samples.rows)[0] : 0;
    const { names, rows } = await view("samples?since=" + since, signal);
    samples.names = names;
    samples.rows.push(...rows);
    samples.rows.splice(0, Math.max(0, samples.rows.length - 900));
    if (rows.length) changed();
  }, signal);
}

// Does something each `seconds` while the view is shown and looked at. A failure is told once and tried again.
function everySecond(work, signal, seconds = 1) {
  let isFailing = false;
  const turn = async () => {
    if (signal.aborted) return;
    if (!document.hidden && !app.hasDeclined && !isSigningIn()) {
      const wasFailing = isFailing;
      isFailing = true;
      await attempt(async () => {
        await work();
        isFailing = false;
        if (wasFailing) notice("");
      });
    }
    if (!signal.aborted) setTimeout(turn, seconds * 1000);
  };
  turn();
}
