// Numbers as people read them. Those of 64 bits come as texts and go through BigInt.

// An id as etcdctl shows it.
const hexId = (text) => BigInt.asUintN(64, BigInt(text || 0)).toString(16);

// The other way; null if it is no id.
function idFromHex(text) {
  const digits = text.trim().replace(/^0x/i, "");
  return /^[0-9a-f]{1,16}$/i.test(digits) ? BigInt("0x" + digits).toString() : null;
}

// Thousands apart, by a blank that is no end of a line.
function grouped(number) {
  const text = String(number === undefined || number === null ? 0 : number);
  const [, sign, digits, rest] = /^(-?)(\d*)(.*)$/.exec(text);
  return sign + digits.replace(/\B(?=(\d{3})+$)/g, "\u202f") + rest;
}

// Three digits of a number: the unit that suits it.
function scaled(number, base, units) {
  let index = 0, value = Math.abs(number);
  while (value >= base * 0.9995 && index < units.length - 1) {
    value /= base;
    index++;
  }
  const digits = index === 0 && Number.isInteger(number) ? 0 : value >= 99.5 ? 0 : value >= 9.95 ? 1 : 2;
  return (number < 0 ? "-" : "") + value.toFixed(digits) + (units[index] ? "\u00a0" + units[index] : "");
}

const sizeText = (bytes) => scaled(Number(bytes || 0), 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
const countText = (count) => scaled(Number(count || 0), 1000, ["", "k", "M", "G"]);
const rateText = (rate) => countText(rate) + "/s";
const microsText = (micros) => scaled(Number(micros || 0), 1000, ["µs", "ms", "s"]);
const percentText = (part, whole) => (whole > 0 ? scaled((part * 100) / whole, Infinity, [""]) + "\u00a0%" : "–");

// The two largest units of a time.
function durationText(seconds) {
  let left = Math.round(Number(seconds));
  if (left < 0) return "-" + durationText(-left);
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    if (left >= size || (unit === "s" && !parts.length)) {
      parts.push(Math.floor(left / size) + unit);
      left %= size;
    }
  }
  return parts.slice(0, 2).join(" ");
}

// A time of the day of both clocks, by seconds since 1970.
function clockTexts(seconds) {
  const date = new Date(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const local = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return { utc: date.toISOString().slice(0, 19).replace("T", " ") + " UTC", local };
}

// Seconds until a size is reached that grows as it has between samples; null if it does not.
function forecast(times, sizes, limit) {
  const last = sizes.length - 1;
  if (last < 30 || !(limit > 0)) return null;
  const perSecond = (sizes[last] - sizes[0]) / Math.max(1, times[last] - times[0]);
  return perSecond > 0 && limit > sizes[last] ? (limit - sizes[last]) / perSecond : null;
}
