// The page: its parts, put together, and told of what the reader looks at.

import { announce } from "./dom.js";
import { opened, Pass } from "./data.js";
import { number, share, stats } from "./numbers.js";
import { search } from "./search.js";
import { NOTHING, Store } from "./state.js";
import { Graph } from "./graph.js";
import { Minimap } from "./minimap.js";
import { Details } from "./details.js";
import { SourceView } from "./source.js";
import { Modules, Nodes } from "./outline.js";
import { Findings } from "./findings.js";
import { Passes } from "./passes.js";
import { Play } from "./play.js";
import { Compare } from "./compare.js";
import { follow, Status } from "./live.js";
import { help, listen } from "./keys.js";
import { build, keysOf } from "./parts.js";

/** @typedef {import("./state.js").Seen} Seen */

/** The page of one run. */
export class Page {
  /** @param {import("./data.js").Library} library */
  constructor(library) {
    this.library = library;
    this.overview = library.overview;
    this.store = new Store();
    this.pass = /** @type {import("./data.js").Pass | null} */ (null);
    this._finding = -1;
    this._newest = 0;
    const told = { choose: (/** @type {string} */ key) => this.choose(key), toggle: (/** @type {string} */ key) => this.toggle(key) };
    this.graph = new Graph(library, { ...told, moved: () => this._moved() });
    this.map = new Minimap(this.graph);
    this.compare = new Compare(library, this.graph, told);
    const go = { ...told, line: (/** @type {any} */ source) => this.store.set({ tab: "source", panel: "details", file: source.filename, line: source.line }), find: (/** @type {string} */ query) => this.find(query), module: (/** @type {string} */ path, /** @type {string} */ first) => this.module(path, first) };
    this.details = new Details(this.overview, go);
    this.source = new SourceView(this.overview, (file, line, nodes) => this.line(file, line, nodes));
    this.modules = new Modules(go);
    this.nodes = new Nodes(go);
    this.findings = new Findings((found) => this.finding(found));
    this.passes = new Passes(this.overview, (index) => this.store.set({ pass: index }));
    this.play = new Play(this.graph, (change) => this.store.set(change));
    this.status = new Status();
    const keys = keysOf(this);
    this.help = help(keys);
    const parts = build(this);
    this.element = parts.element;
    this.title = parts.title;
    this.search = parts.search;
    this.foldAll = parts.foldAll;
    this.tabs = parts.tabs;
    listen(keys);
    this.store.on((seen, before) => void this.shown(seen, before));
    addEventListener("themed", () => this._themed());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this._themed());
    follow(library, (words) => this._grown(words));
  }

  /** Show what the address says, or the pass to begin with. */
  async start() {
    const { seen } = this.store;
    const known = this.overview.passes.some((row) => row.index === seen.pass);
    const first = this.overview.start || this.overview.passes.at(-1)?.index || 0;
    this.store.seen = { ...seen, pass: known ? seen.pass : first, beside: known ? seen.beside : this.overview.beside ?? 0 };
    this.status.show(this.overview.live ? "running" : "", Boolean(this.overview.live));
    if (!first) this.graph.say(this.overview.live ? "the script runs; its first backward pass will be shown here" : "no backward pass was recorded");
    await this.shown(this.store.seen, { ...NOTHING, pass: -1 });
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
  }

  /** Choose a node or a fold; nothing for an empty key. @param {string} key */
  choose(key) {
    this.store.set({ node: key, line: 0, file: "" });
    if (this.store.seen.hide) this.graph._groups.get(this.graph.boxOf(key)?.key ?? "")?.classList.add("shown");
  }

  /** Open a fold, or close it. @param {string} key */
  toggle(key) {
    const { open } = this.store.seen;
    const name = this.graph.placed(key)?.box.name ?? "";
    const closed = open.filter((each) => each !== key && each !== name);
    const opening = closed.length === open.length;
    this.store.set({ open: opening ? [...open, key] : closed, node: key });
    announce(opening ? "opened" : "closed");
  }

  /** @param {string} query */
  find(query) {
    this.search.value = query;
    this.store.set({ find: query, side: "nodes", panel: "list" });
  }

  /** @param {string} path @param {string} first */
  module(path, first) {
    const placed = this.graph.scene?.boxes.find((each) => each.box.name === path);
    if (placed) this.graph.camera.show(placed, true);
    this.store.set({ node: placed ? placed.key : first, panel: "graph" });
  }

  /** @param {string} file @param {number} line @param {import("./data.js").GraphNode[]} nodes */
  line(file, line, nodes) {
    this.store.set({ file, line, node: nodes.length === 1 ? nodes[0].id : "", find: line ? `${file.split(/[\\/]/).at(-1)}:${line}` : "", side: line ? "nodes" : this.store.seen.side });
    this.search.value = this.store.seen.find;
  }

  /** @param {import("./data.js").Finding} found */
  finding(found) {
    const pass = this.library.nearest(found.pass_index || this.store.seen.pass);
    this.store.set({ pass, node: found.nodes?.[0] ?? "", tab: found.nodes?.length ? "details" : "source", file: found.source?.filename ?? "", line: found.source?.line ?? 0, panel: "graph", step: -1 });
  }

  /** @param {Seen} seen @param {Seen} before */
  async shown(seen, before) {
    if (!seen.pass) return;
    const changed = (/** @type {(keyof Seen)[]} */ ...keys) => keys.some((key) => String(seen[key]) !== String(before[key]));
    const pass = await this.library.pass(seen.pass);
    if (seen !== this.store.seen && !changed("pass")) return;
    const fresh = this.pass !== pass;
    this.pass = pass;
    if (fresh) this._pass(seen);
    if (fresh || changed("open", "all")) await this.graph.show(pass, seen.open, seen.all);
    if (fresh || changed("beside", "open", "all")) await this._beside(seen);
    if (fresh || changed("node", "open", "all")) await this._choose(seen, changed("node") && !changed("open"));
    if (fresh || changed("node", "tab", "file", "line", "open")) this._right(seen);
    if (fresh || changed("find", "node", "side", "open")) this._left(seen);
    if (Math.max(seen.step, before.step) >= 0) this.play.show(pass, seen.step, seen.hide);
    this._panels(seen);
  }

  /** @param {Seen} seen */
  _pass(seen) {
    const row = this.overview.passes.find((each) => each.index === seen.pass);
    const pass = /** @type {import("./data.js").Pass} */ (this.pass);
    this.title.textContent = row?.title ?? this.overview.title;
    this.graph.picture.setAttribute("aria-label", row?.words ?? "backward pass");
    this.passes.show(seen.pass);
    this.modules.show(pass, this.overview.findings);
    this.findings.show(this.overview.findings, this.overview.made);
  }

  /** Choose a node; open the folds that it is in. @param {Seen} seen @param {boolean} look */
  async _choose(seen, look) {
    const key = seen.node;
    for (let turn = 0; key && turn < 20; turn += 1) {
      const placed = this.graph.boxOf(key);
      if (!placed || placed.open || placed.key === key || placed.box.leaves.includes(this.pass?.place(key) ?? -1)) break;
      const before = this.graph.scene;
      this.store.seen = { ...this.store.seen, open: [...this.store.seen.open, placed.key] };
      await this.graph.show(/** @type {any} */ (this.pass), this.store.seen.open, this.store.seen.all);
      if (this.graph.scene === before || this.graph.boxOf(key)?.key === placed.key) break;
    }
    this.store._write();
    this.graph.choose(key);
    this.compare.choose(key);
    if (look && key) this.graph.look(key);
  }

  /** @param {Seen} seen */
  async _beside(seen) {
    const pass = /** @type {import("./data.js").Pass} */ (this.pass);
    const other = seen.beside && this.overview.passes.some((row) => row.index === seen.beside) ? await this.library.pass(seen.beside) : null;
    const turned = this.element.classList.toggle("comparing", other !== null) !== this.compare.on;
    await this.compare.show(pass, other, seen.open, seen.all);
    if (turned) this.graph.fit(false);
  }

  /** @param {Seen} seen */
  _right(seen) {
    const pass = /** @type {import("./data.js").Pass} */ (this.pass);
    const node = pass.node(seen.node);
    const placed = this.graph.placed(seen.node);
    if (node) this.details.node(pass, node);
    else if (placed) this.details.fold(pass, placed, this.graph.positions(seen.node));
    else this.details.nothing(pass, this.overview.passes.find((row) => row.index === seen.pass));
    if (seen.tab === "source") {
      const mine = node?.source ?? node?.library ?? (placed ? pass.nodes[this.graph.positions(seen.node)[0]]?.source : undefined);
      this.source.show(pass, seen.file || mine?.filename || "", seen.line, node);
    }
  }

  /** @param {Seen} seen */
  _left(seen) {
    this.nodes.show(/** @type {any} */ (this.pass), seen.find, seen.node);
    const found = seen.find && seen.step < 0 && !seen.beside ? this.nodes.found : [];
    if (seen.step < 0 && !seen.beside) {
      this.graph.marks = new Map(found.slice(0, 20000).map((at) => [this.graph.home.get(at)?.key ?? "", "found"]));
      this.graph.light();
    }
  }

  /** The outline to show: the one that was asked for, or the one with most to see. @param {Seen} seen */
  side(seen) {
    if (seen.side) return seen.side;
    if (this.overview.findings.some((found) => found.severity === "error")) return "findings";
    return this.pass?.calls.length ? "modules" : "nodes";
  }

  /** @param {Seen} seen */
  _panels(seen) {
    this.element.dataset.panel = seen.panel;
    for (const [name, tabs] of Object.entries(this.tabs)) {
      const chosen = name === "side" ? this.side(seen) : /** @type {any} */ (seen)[name];
      for (const [key, { tab, panel }] of Object.entries(tabs)) {
        tab.setAttribute("aria-selected", String(key === chosen));
        tab.tabIndex = key === chosen ? 0 : -1;
        panel?.toggleAttribute("hidden", key !== chosen);
      }
    }
    this.foldAll.setAttribute("aria-pressed", String(seen.all));
  }

  _moved() {
    this.map.update();
    this.compare.moved();
  }

  _themed() {
    this.passes.draw();
    this.map._drawn = null;
    if (this.graph.scene) this.graph._draw();
  }

  /** Go to the search. */
  seek() {
    this.search.focus();
    this.search.select();
  }

  /** Open or close what is chosen. */
  openChosen() {
    const placed = this.graph.placed(this.store.seen.node);
    if (placed && placed.box.nodes.flat().some((at) => at !== placed.box.nodes[0][0])) this.toggle(placed.key);
  }

  /** Close the innermost open fold that the chosen node is in. */
  closeAround() {
    const at = this.graph.positions(this.store.seen.node)[0] ?? -1;
    const around = (this.graph.scene?.boxes ?? []).filter((each) => each.open && each.box.nodes.some(([first, last]) => at >= first && at <= last));
    const inner = around.sort((a, b) => b.depth - a.depth)[0];
    if (inner) this.toggle(inner.key);
  }

  /** Compare with the pass before this one, or with the next; or end it. */
  besides() {
    const { pass, beside } = this.store.seen;
    const kept = this.overview.passes.map((row) => row.index);
    const other = kept.filter((index) => index < pass).at(-1) ?? kept.find((index) => index > pass) ?? 0;
    this.store.set({ beside: beside ? 0 : other, step: -1 });
  }

  /** Go to the finding after the one that was shown last. */
  nextFinding() {
    const { findings } = this.overview;
    this._finding = ((this._finding ?? -1) + 1) % Math.max(1, findings.length);
    if (findings.length) this.finding(findings[this._finding]);
  }

  /** End what was begun last. */
  back() {
    const { seen } = this.store;
    if (document.activeElement === this.search) this.search.blur();
    if (seen.step >= 0) return this.play.end();
    if (seen.beside) return this.store.set({ beside: 0 });
    if (seen.find) {
      this.search.value = "";
      return this.store.set({ find: "" });
    }
    return this.store.set({ node: "", line: 0, file: "" });
  }

  /** The run has gone on. @param {string} words */
  _grown(words) {
    this.status.show(words, Boolean(this.overview.live));
    const newest = this.overview.passes.at(-1)?.index ?? 0;
    const followed = !this.store.seen.pass || (this.store.seen.pass === this._newest && !this.store.seen.node && this.store.seen.step < 0);
    this._newest = newest;
    this.findings.show(this.overview.findings, this.overview.made);
    this.tabs.side.findings.tab.textContent = `Findings ${this.overview.findings.length || ""}`;
    this.element.classList.toggle("single", Math.max(this.overview.made, this.overview.passes.length) < 2 && !this.overview.live);
    if (followed && newest) this.store.set({ pass: newest });
    else this.passes.show(this.store.seen.pass);
  }
}

// What a reader may use in the console, too.
const page = new Page(await opened());
Object.assign(globalThis, { gradtrace: { Pass, number, page, search, share, stats } });
await page.start();
