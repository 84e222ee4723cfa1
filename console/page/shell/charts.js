// Lines over time, as SVG: the last fifteen minutes, from nothing up to the largest value.

const CHART_WIDTH = 300, CHART_HEIGHT = 60;

// series: [[name, values]], at most three; `format` says a value.
function chart(title, format, series, times) {
  const most = Math.max(...series.map(([, values]) => values.reduce((left, right) => Math.max(left, right), 0)), 0);
  const start = times.length ? lastOf(times) - 900 : 0;
  const path = (values) => {
    let out = "";
    // Three seconds a point are finer than the lines.
    const step = Math.max(1, Math.floor(values.length / CHART_WIDTH));
    for (let index = 0; index < values.length; index += step) {
      const x = ((times[index] - start) / 900) * CHART_WIDTH, y = CHART_HEIGHT - (most ? values[index] / most : 0) * CHART_HEIGHT;
      out += (out ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1);
    }
    return out;
  };
  const lines = series.map(([, values], index) => svg("path", { d: path(values), class: "s" + index }));
  const now = series.map(([name, values], index) => h("span", null, h("i.s" + index), name ? name + " " : "", format(lastOf(values))));
  return h("div.card", null, h("h3", null, title, h("span", { title: "largest of the last 15 minutes" }, format(most))),
    svg("svg", { viewBox: `0 0 ${CHART_WIDTH} ${CHART_HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}, now ${series.map(([name, values]) => name + " " + format(lastOf(values))).join(", ")}` },
      svg("line", { x1: 0, x2: CHART_WIDTH, y1: CHART_HEIGHT, y2: CHART_HEIGHT }), lines),
    h("div.legend", null, now));
}

// The panels that people know from dashboards of etcd, by their names there.
function panels() {
  const times = column("time");
  const show = (title, format, ...series) => chart(title, format, series, times);
  return h("div.cards", null,
    show("Up", (value) => (value ? "leader known" : "no leader"), ["", column("has_leader")]),
    show("RPC rate", rateText, ["started", rates("rpc_started")], ["failed", rates("rpc_failed")]),
    show("Active streams", countText, ["watch", column("watch_streams")], ["lease", column("lease_streams")]),
    show("DB size", sizeText, ["file", column("db_size")], ["in use", column("db_in_use")]),
    show("Disk sync, p99", microsText, ["log", column("fsync_p99_us")], ["data file", column("commit_p99_us")]),
    show("Memory", sizeText, ["resident", column("resident")]),
    show("Client traffic", (value) => sizeText(value) + "/s", ["in", rates("client_in")], ["out", rates("client_out")]),
    show("Peer traffic", (value) => sizeText(value) + "/s", ["in", rates("peer_in")], ["out", rates("peer_out")]),
    show("Raft proposals", rateText, ["committed", rates("committed")], ["applied", rates("applied")], ["failed", rates("failed")]),
    show("Proposals pending", countText, ["", column("pending")]),
    show("Leader elections", countText, ["seen since the start", column("leader_changes")]),
    show("Peer round trip", microsText, ["slowest", column("round_trip_us")]),
    show("CPU", (value) => percentText(value, 1000), ["of a core", rates("cpu_ms")]));
}
