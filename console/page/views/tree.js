// The tree of keys by slashes. A level is read when it is opened, and what lies below a child is not read but jumped over:
// an answer with a limit says how many keys the whole range has, so counts are differences.

// Keys in the first page of a level, most in a later one, and children that are shown at a time.
const TREE_PAGE = 20, TREE_PAGE_MAX = 1000, TREE_NODES = 400;

// Children of a prefix from a key on: { nodes: [{ bytes, count, isLeaf }], next }, all of one revision.
async function childrenOf(prefix, from, revision, signal) {
  const end = toBase64(prefixEnd(prefix));
  const nodes = [];
  let at = from, open = null, limit = TREE_PAGE;
  for (;;) {
    const page = await range({ key: toBase64(at.length ? at : new Uint8Array([0])), range_end: end, limit, keys_only: true, revision }, signal);
    revision = revision || page.revision;
    if (open) open.count = open.left - page.count;
    open = null;
    page.kvs.forEach(({ key }, index) => {
      const until = levelEnd(key, prefix.length), last = nodes[nodes.length - 1];
      const isLeaf = until === key.length && (key[until - 1] !== 0x2f || until === prefix.length);
      if (last && !last.isLeaf && startsWith(key, last.bytes)) last.count++;
      else nodes.push({ bytes: key.slice(0, until), count: 1, isLeaf, left: page.count - index });
    });
    const last = nodes[nodes.length - 1];
    if (page.kvs.length >= page.count || !last) return { nodes, next: null, revision };
    if (!last.isLeaf) {
      open = last;
      limit = TREE_PAGE;
      at = prefixEnd(last.bytes);
      if (at.length === 1 && at[0] === 0) return { nodes, next: null, revision };
    } else {
      at = concat(page.kvs[page.kvs.length - 1].key, new Uint8Array([0]));
      limit = Math.min(limit * 4, TREE_PAGE_MAX);
    }
    if (nodes.length >= TREE_NODES) {
      if (open) open.count = open.left - (await range({ key: toBase64(at), range_end: end, limit: 1, keys_only: true, revision }, signal)).count;
      return { nodes, next: at, revision };
    }
  }
}

// The tree as a list that arrow keys walk. `choose` is called with a node.
function treeView(choose) {
  const root = new Uint8Array(0);
  const stop = new AbortController();
  let wasPicked = false;
  const tree = h("ul", { role: "tree", "aria-label": "Keys", onkeydown: treeKeys });
  const load = async (list, prefix, from, revision) => {
    const { nodes, next, revision: seen } = await childrenOf(prefix, from, revision, stop.signal);
    fill(list, nodes.map((node) => item(node, prefix)));
    if (!nodes.length && !list.children.length) fill(list, [h("li.soft", { role: "none" }, h("p", null, "no keys"))]);
    if (next) {
      const more = h("li", { role: "none" }, h("p", null, button("More", () => attempt(async () => {
        await load(list, prefix, next, seen);
        more.remove();
      }))));
      fill(list, [more]);
    }
    if (list === tree && tree.querySelector("[role=treeitem]") && !tree.querySelector("[tabindex='0']")) tree.querySelector("[role=treeitem]").tabIndex = 0;
  };
  const item = (node, prefix) => {
    const list = h("ul", { role: "group", hidden: true });
    const sign = h("span.sign", { "aria-hidden": "true" }, node.isLeaf ? "" : "▸");
    const element = h("li", { role: "treeitem", tabindex: "-1", "aria-expanded": node.isLeaf ? undefined : "false" },
      h("div.row", { onclick: () => pick(element) }, sign, h("span.mono", null, keyText(node.bytes.subarray(prefix.length)) || "(empty)"), node.isLeaf ? null : h("span.count", null, grouped(node.count))), list);
    element.node = node;
    element.list = list;
    if (!node.isLeaf) {
      element.open = async () => {
        element.setAttribute("aria-expanded", "true");
        sign.textContent = "▾";
        list.hidden = false;
        // Read once, also when it is opened twice at a time; after a failure again.
        element.read = element.read || load(list, node.bytes, node.bytes);
        await element.read.catch((error) => {
          element.read = null;
          throw error;
        });
      };
      element.close = () => {
        element.setAttribute("aria-expanded", "false");
        sign.textContent = "▸";
        list.hidden = true;
      };
      sign.addEventListener("click", (event) => {
        event.stopPropagation();
        element.getAttribute("aria-expanded") === "true" ? element.close() : attempt(element.open);
      });
    }
    return element;
  };
  const mark = (element) => {
    for (const other of tree.querySelectorAll("[aria-selected]")) other.removeAttribute("aria-selected");
    element.setAttribute("aria-selected", "true");
    for (const other of tree.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
    element.tabIndex = 0;
  };
  const pick = (element) => {
    wasPicked = true;
    mark(element);
    if (element.open && element.getAttribute("aria-expanded") !== "true") attempt(element.open);
    choose(element.node);
  };
  function treeKeys(event) {
    const here = event.target.closest("[role=treeitem]");
    if (!here || event.target.tagName === "BUTTON") return;
    const shown = [...tree.querySelectorAll("[role=treeitem]")].filter((element) => element.offsetParent);
    const step = (by) => shown[shown.indexOf(here) + by];
    const parent = here.parentElement.closest("[role=treeitem]");
    const isOpen = here.getAttribute("aria-expanded") === "true";
    const moves = {
      ArrowDown: () => step(1), ArrowUp: () => step(-1), Home: () => shown[0], End: () => shown[shown.length - 1],
      ArrowRight: () => (isOpen ? step(1) : here.open && attempt(here.open) && null), ArrowLeft: () => (isOpen ? here.close() : parent), Enter: () => pick(here), " ": () => pick(here),
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    const next = moves[event.key]();
    if (next && next.focus) {
      here.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
  }
  // Down to what is selected, opening levels on the way.
  const descend = async (list, selected) => {
    for (const child of list.children) {
      if (!child.node || !startsWith(selected, child.node.bytes) || (child.node.isLeaf && selected.length > child.node.bytes.length)) continue;
      mark(child);
      if (!child.open) return;
      await child.open();
      return descend(child.list, selected);
    }
  };
  const loaded = load(tree, root, root);
  const select = async (selected) => {
    await loaded;
    for (const other of tree.querySelectorAll("[aria-selected]")) other.removeAttribute("aria-selected");
    await descend(tree, selected);
    // Whoever walks the tree stays in it.
    const here = wasPicked && tree.querySelector("[aria-selected]");
    wasPicked = false;
    if (here) here.focus({ preventScroll: true });
  };
  return { element: tree, select, stop: () => stop.abort() };
}
