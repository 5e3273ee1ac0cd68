// What the reader looks at, kept in the address: a link shows a colleague the same.

/**
 * @typedef {object} Seen
 * @property {number} pass the index of the pass
 * @property {string} node the id of the selected node, or empty
 * @property {string[]} open the keys of the folds that are open
 * @property {boolean} all whether nothing is folded
 * @property {string} tab details or source
 * @property {string} side modules, nodes or findings; empty for what there is most to see of
 * @property {string} find the search
 * @property {string} file the source file shown
 * @property {number} line the line chosen in it
 * @property {number} step of the play, -1 where it is not on
 * @property {boolean} hide whether numbers are hidden until clicked
 * @property {number} beside the pass to compare with, 0 for none
 * @property {string} panel on a narrow screen: graph, list, details or passes
 */

/** @type {Seen} */
export const NOTHING = {
  pass: 0, node: "", open: [], all: false, tab: "details", side: "", find: "", file: "", line: 0, step: -1,
  hide: false, beside: 0, panel: "graph",
};

/** The state, and who is told when it changes. */
export class Store {
  constructor() {
    this.seen = { ...NOTHING, ...read(location.hash) };
    this._told = /** @type {((seen: Seen, before: Seen) => void)[]} */ ([]);
    this._written = location.hash;
    addEventListener("hashchange", () => {
      if (location.hash !== this._written) this.set({ ...NOTHING, pass: this.seen.pass, ...read(location.hash) });
    });
  }

  /** Be told of each change. @param {(seen: Seen, before: Seen) => void} listener */
  on(listener) {
    this._told.push(listener);
  }

  /** Change some of it. @param {Partial<Seen>} changed */
  set(changed) {
    const before = this.seen;
    this.seen = { ...before, ...changed };
    this._write();
    for (const listener of this._told) listener(this.seen, before);
  }

  _write() {
    const text = written(this.seen);
    if (text === this._written) return;
    this._written = text;
    try {
      history.replaceState(null, "", text || "#");
    } catch {
      // A frame without an address of its own.
    }
  }
}

/** @param {Seen} seen */
function written(seen) {
  const parts = Object.entries(seen).flatMap(([key, value]) => {
    const usual = /** @type {any} */ (NOTHING)[key];
    const text = Array.isArray(value) ? value.map(encodeURIComponent).join(",") : encodeURIComponent(String(value));
    return String(value) === String(usual) ? [] : [`${key}=${text}`];
  });
  return parts.length ? `#${parts.join("&")}` : "";
}

/** @param {string} hash @returns {Partial<Seen>} */
function read(hash) {
  /** @type {any} */
  const found = {};
  for (const part of hash.replace(/^#/, "").split("&")) {
    const [key, value = ""] = part.split("=", 2);
    const usual = /** @type {any} */ (NOTHING)[key];
    if (usual === undefined || !Object.hasOwn(NOTHING, key)) continue;
    try {
      if (Array.isArray(usual)) found[key] = value.split(",").filter(Boolean).map(decodeURIComponent);
      else if (typeof usual === "number") found[key] = Number.parseInt(value, 10) || usual;
      else if (typeof usual === "boolean") found[key] = value === "true";
      else found[key] = decodeURIComponent(value);
    } catch {
      // A broken address: that part of it says nothing.
    }
  }
  return found;
}
