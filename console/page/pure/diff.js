// Differences of two texts, line by line: the shortest script, as long as it is not too long to look for.

const DIFF_STEPS_MAX = 500;

// [[mark, line]]: " " in both, "-" in the old one alone, "+" in the new one alone.
function diffLines(before, after) {
  const old = before.split("\n"), now = after.split("\n");
  let start = 0, oldEnd = old.length, nowEnd = now.length;
  while (start < oldEnd && start < nowEnd && old[start] === now[start]) start++;
  while (oldEnd > start && nowEnd > start && old[oldEnd - 1] === now[nowEnd - 1]) {
    oldEnd--;
    nowEnd--;
  }
  const same = (lines) => lines.map((line) => [" ", line]);
  const middle = shortestScript(old.slice(start, oldEnd), now.slice(start, nowEnd));
  return [...same(old.slice(0, start)), ...middle, ...same(old.slice(oldEnd))];
}

// Myers' greedy search, kept step by step and walked back.
function shortestScript(old, now) {
  const whole = () => [...old.map((line) => ["-", line]), ...now.map((line) => ["+", line])];
  const most = Math.min(old.length + now.length, DIFF_STEPS_MAX);
  const trace = [];
  let reach = new Map([[1, 0]]);
  for (let steps = 0; steps <= most; steps++) {
    trace.push(new Map(reach));
    for (let diagonal = -steps; diagonal <= steps; diagonal += 2) {
      const goesDown = diagonal === -steps || (diagonal !== steps && reach.get(diagonal - 1) < reach.get(diagonal + 1));
      let x = goesDown ? reach.get(diagonal + 1) : reach.get(diagonal - 1) + 1;
      let y = x - diagonal;
      while (x < old.length && y < now.length && old[x] === now[y]) {
        x++;
        y++;
      }
      reach.set(diagonal, x);
      if (x >= old.length && y >= now.length) return walkBack(trace, old, now);
    }
  }
  return whole();
}

function walkBack(trace, old, now) {
  const out = [];
  let x = old.length, y = now.length;
  for (let steps = trace.length - 1; steps >= 0; steps--) {
    const reach = trace[steps], diagonal = x - y;
    const goesDown = diagonal === -steps || (diagonal !== steps && reach.get(diagonal - 1) < reach.get(diagonal + 1));
    const from = goesDown ? diagonal + 1 : diagonal - 1;
    const fromX = steps === 0 ? 0 : reach.get(from), fromY = steps === 0 ? 0 : fromX - from;
    while (x > fromX && y > fromY) {
      out.push([" ", old[--x]]);
      y--;
    }
    if (steps > 0) out.push(goesDown ? ["+", now[--y]] : ["-", old[--x]]);
  }
  return out.reverse();
}

// Without the lines that are far from any change; a gap is a line that says how many are left out.
function shortened(lines, around = 3) {
  const isNear = lines.map(() => false);
  lines.forEach(([mark], index) => {
    if (mark !== " ") for (let near = Math.max(0, index - around); near <= Math.min(lines.length - 1, index + around); near++) isNear[near] = true;
  });
  const out = [];
  for (let index = 0; index < lines.length; ) {
    if (isNear[index]) out.push(lines[index++]);
    else {
      const from = index;
      while (index < lines.length && !isNear[index]) index++;
      out.push(["…", `${index - from} lines alike`]);
    }
  }
  return out;
}
