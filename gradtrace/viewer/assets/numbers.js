// Numbers and tensors in words, as gradtrace/formats/numbers.py writes them.

/**
 * @typedef {object} Stats what a tensor held: see TensorStats in model.py
 * @property {number[]} shape
 * @property {string} [dtype]
 * @property {string} [device]
 * @property {number | null} [norm]
 * @property {number | null} [mean]
 * @property {number | null} [min]
 * @property {number | null} [max]
 * @property {number | null} [zeros]
 * @property {number} [nan]
 * @property {number} [inf]
 * @property {any} [values]
 * @property {string} [note]
 * @property {Record<string, number>} [magnitudes]
 */

const LONGEST = 40;

/** A number with four significant digits. @param {any} x @returns {string} */
export function number(x) {
  if (x === null || x === undefined) return "none";
  if (typeof x === "boolean") return x ? "True" : "False";
  if (typeof x !== "number") return String(x);
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "-inf";
  if (x === 0) return "0";
  const absolute = Math.abs(x);
  if (absolute >= 1e3 && absolute < 1e6 - 0.5) return x.toFixed(0);
  return general(x);
}

/** A number with two significant digits, for a narrow column. @param {number | null} x */
export function brief(x) {
  const text = number(x && Number(x.toPrecision(2)));
  return text.replace("e-0", "e-").replace("e+0", "e");
}

/** As Python's format ".4g". @param {number} x */
function general(x) {
  const [digits, power] = x.toExponential(3).split("e");
  const exponent = Number(power);
  const trim = (/** @type {string} */ text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  if (exponent >= -4 && exponent < 4) return trim(x.toFixed(Math.max(0, 3 - exponent)));
  return `${trim(digits)}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

/** Sizes: 64×256; one alone in parentheses. @param {number[]} sizes */
export function shape(sizes) {
  return sizes.length > 1 ? sizes.join("×") : `(${sizes.join("")})`;
}

/**
 * Tell apart no tensor, one that is not finite, one that has no numbers, all zeros, and the rest.
 * @param {Stats | null | undefined} s
 * @returns {"none" | "nan" | "inf" | "unknown" | "zero" | "finite"}
 */
export function kind(s) {
  if (!s) return "none";
  if (s.nan) return "nan";
  if (s.inf) return "inf";
  if (s.zeros === 1 || (s.norm === 0 && !s.min && !s.max)) return "zero";
  return (s.norm ?? s.values ?? null) !== null ? "finite" : "unknown";
}

/** What a tensor held, in words. @param {Stats | null | undefined} s @returns {string} */
export function stats(s) {
  if (!s) return "none";
  const what = kind(s);
  if (what === "nan" || what === "inf") return broken(s);
  if (what === "unknown") return `${s.shape.length ? shape(s.shape) : ""} ${s.note || s.dtype || "float32"}`.trim();
  if (s.shape.includes(0)) return `empty ${shape(s.shape)}`;
  return (s.values ?? null) !== null ? small(s) : large(s);
}

/** @param {Stats} s */
function broken(s) {
  if (!s.shape.length) return s.nan ? "nan" : "inf";
  if ((s.values ?? null) !== null && !(s.nan && s.inf)) {
    const text = nested(s.values, s.nan ? "nan" : "inf");
    if (text.length <= LONGEST) return text;
  }
  const counts = [s.nan ? `${s.nan} nan` : "", s.inf ? `${s.inf} inf` : ""].filter(Boolean);
  return `${counts.join(", ")} in ${shape(s.shape)}`;
}

/** @param {Stats} s */
function small(s) {
  const text = nested(s.values, "none");
  if (text.length <= LONGEST) return text;
  if (kind(s) === "zero" || s.shape.length > 1 || !Array.isArray(s.values)) return large(s);
  const [one, two, last] = [s.values[0], s.values[1], s.values.at(-1)].map((value) => nested(value, "none"));
  return `[${one}, ${two}, …, ${last}] ‖${number(s.norm)}‖`;
}

/** @param {Stats} s */
function large(s) {
  return `${shape(s.shape)} ${kind(s) === "zero" ? "all 0" : `‖${number(s.norm)}‖`}`;
}

/** @param {any} values @param {string} missing @returns {string} */
function nested(values, missing) {
  if (!Array.isArray(values)) return values === null ? missing : number(values);
  return `[${values.map((value) => nested(value, missing)).join(", ")}]`;
}

/**
 * Where a norm lies on the scale of its pass: 0 the smallest, 1 the largest; null where there is no number.
 * @param {[number, number]} scale
 * @param {number | null | undefined} norm
 */
export function share(scale, norm) {
  if (!norm || !Number.isFinite(norm)) return null;
  let [low, high] = scale.map(Math.log10);
  const widening = Math.max(0, 1 - (high - low)) / 2;
  low -= widening;
  high += widening;
  return Math.min(1, Math.max(0, (Math.log10(norm) - low) / (high - low)));
}

/** The class that colours a gradient: a step of the ramp, or what it is instead of a number. @param {string} what @param {number | null} part */
export function tint(what, part) {
  return what === "finite" ? `heat${Math.min(4, Math.floor((part ?? 0) * 5))}` : what;
}

/** @param {number} count */
export function bytes(count) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let at = 0;
  for (; count >= 1000 && at < units.length - 1; at += 1) count /= 1000;
  return `${at ? number(count) : count} ${units[at]}`;
}

/** @param {number | null | undefined} time */
export function seconds(time) {
  if (time === null || time === undefined) return "";
  if (time < 1e-3) return `${number(time * 1e6)} µs`;
  return time < 1 ? `${number(time * 1e3)} ms` : `${number(time)} s`;
}

/** How many elements a tensor has. @param {Stats | null | undefined} s */
export function size(s) {
  return s ? s.shape.reduce((product, each) => product * each, 1) : 0;
}
