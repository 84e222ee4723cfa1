// Addresses of views: #/keys?prefix=/a/&key=/a/b. Every view is found again by its address alone.

function parseRoute(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const params = {};
  for (const part of (query || "").split("&")) {
    if (!part) continue;
    const [name, value] = part.split(/=(.*)/s);
    params[unescapePart(name)] = unescapePart(value || "");
  }
  return { view: unescapePart(path) || "overview", params };
}

function unescapePart(text) {
  try {
    return decodeURIComponent(text.replace(/\+/g, "%20"));
  } catch {
    return text;
  }
}

// Slashes and colons stay readable.
const escapePart = (text) => encodeURIComponent(text).replace(/%2F/g, "/").replace(/%3A/g, ":").replace(/%2C/g, ",");

function formatRoute(view, params) {
  const parts = Object.entries(params || {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return "#/" + escapePart(view) + (parts.length ? "?" + parts.map(([name, value]) => escapePart(name) + "=" + escapePart(String(value))).join("&") : "");
}
