// Elements. Texts become text nodes: nothing that comes from a server is ever read as markup.

// h("button.main", { type: "button", onclick }, "Save"): a tag with classes, attributes and listeners, children.
function h(name, attributes, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  return fill(dress(element, attributes || {}), children);
}

function dress(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  return element;
}

function fill(element, children) {
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const refill = (element, ...children) => {
  element.replaceChildren();
  return fill(element, children);
};

// SVG has a namespace of its own.
function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return fill(dress(element, attributes), children);
}

const link = (view, params, ...children) => h("a", { href: formatRoute(view, params) }, children);
const keyLink = (bytes) => h("a.key", { href: formatRoute("keys", { key: keyText(bytes) }) }, keyText(bytes));
const soft = (...children) => h("span.soft", null, children);

// A table: columns as texts ("#Size" is a column of numbers), rows of cells. A row may have a class.
function table(columns, rows, empty) {
  const isNumber = (index) => columns[index] && columns[index][0] === "#";
  const head = columns.map((column, index) => h(isNumber(index) ? "th.num" : "th", { scope: "col" }, column.replace(/^#/, "")));
  const line = (row) => {
    const cells = row.cells || row;
    return dress(h("tr", null, cells.map((cell, index) => (cell instanceof HTMLTableCellElement ? cell : h(isNumber(index) ? "td.num" : "td", null, cell)))), row.cells ? { class: row.class } : {});
  };
  const body = rows.length ? rows.map(line) : h("tr", null, h("td.soft", { colspan: columns.length }, empty || "nothing"));
  return h("div.table", null, h("table", null, h("thead", null, h("tr", null, head)), h("tbody", null, body)));
}

const wide = (...children) => h("td.wide", null, children);
const keyCell = (...children) => h("td.key", null, children);

// Name and value, one pair a row.
const facts = (pairs) => h("div.table", null, h("table", null, h("tbody", null, pairs.filter(Boolean).map(([name, ...value]) => h("tr", null, h("th.soft", { scope: "row" }, name), h("td.key", null, value))))));
const figures = (pairs) => h("div.figures", null, pairs.map(([name, value]) => h("div", null, h("span", null, name), h("b", null, value))));

// What was said is said no more when somebody goes on.
const button = (text, onclick, kind = "") => h("button" + kind, {
  type: "button",
  onclick: () => {
    notice("");
    onclick();
  },
}, text);
// What changes something: off where nothing is changed from here, or who has signed in may not. Some views are for root.
function action(text, onclick, kind = "", may = true) {
  const isDenied = !may || (/^#\/(cluster|users)/.test(location.hash) && !mayAdminister());
  return dress(button(text, onclick, kind), { disabled: app.readOnly || isDenied, title: app.readOnly ? "this console is read-only" : isDenied && "you may not" });
}
const check = (text, attributes) => h("label", null, h("input", { type: "checkbox", ...attributes }), text);

// A form whose fields are named; `submit` gets what was typed.
function form(fields, submitText, submit, kind = ".main") {
  const rows = fields.map(([name, label, attributes = {}]) => {
    const id = "f-" + name;
    const input = attributes.options ? h("select", { id, name }, attributes.options.map((option) => h("option", { value: option, selected: option === attributes.value }, option))) : h("input", { id, name, spellcheck: "false", autocomplete: "off", ...attributes });
    return [h("label", { for: id }, label), input];
  });
  const send = h("button" + kind, { disabled: app.readOnly && kind !== "" }, submitText);
  return h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      notice("");
      const typed = {};
      for (const input of event.target.elements) if (input.name) typed[input.name] = input.type === "checkbox" ? input.checked : input.value;
      attempt(() => submit(typed, event.target));
    },
  }, h("div.form", null, rows, h("span"), h("div", null, send)));
}

// A file to keep: no page can be made of it, whatever is in it.
function download(name, parts) {
  const url = URL.createObjectURL(new Blob(parts, { type: "application/octet-stream" }));
  h("a", { href: url, download: name.replace(/[^\w.@-]+/g, "_") || "value" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

const copy = (text) => navigator.clipboard ? navigator.clipboard.writeText(text).then(() => notice("copied", false)) : notice("the browser lets pages copy over TLS and from this machine only");
