// How the page is laid out: bar, outline, graph, details, and below them play and passes; and what each key does.

import { button, html } from "./dom.js";

/** @typedef {import("./main.js").Page} Page */
/** @typedef {{tab: HTMLElement, panel: HTMLElement | null}} Tab */

/** Put the parts of a page together. @param {Page} page */
export function build(page) {
  const { store } = page;
  const title = html("h1", {}, page.overview.title);
  const search = /** @type {HTMLInputElement} */ (html("input", {
    type: "search", placeholder: "Search: op:mm  norm<1e-6  nan  train.py:42", "aria-label": "Search nodes", value: store.seen.find, spellcheck: "false", autocomplete: "off",
    oninput: () => store.set({ find: search.value, side: "nodes" }),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter") page.choose(page.nodes.next(event.shiftKey ? -1 : 1));
    },
  }));
  const foldAll = button("Unfold", "Show every node, or fold again", () => store.set({ all: !store.seen.all, open: [] }), { "aria-pressed": "false" });
  const bar = html("header", { class: "bar" }, title, page.status.element, html("div", { class: "grow" }, search),
    html("div", { class: "tools" },
      button("Fit", "Show all of the graph", () => page.graph.fit()), foldAll,
      button("Play", "Play the backward pass step by step", () => page.play.toggle()),
      page.overview.passes.length > 1 && button("Compare", "Compare with another pass", () => page.besides()),
      button("◐", "Light or dark", dark), button("?", "Keys", () => page.help.showModal())));
  const side = tabs(page, "side", { modules: ["Modules", page.modules.element], nodes: ["Nodes", page.nodes.element], findings: [`Findings ${page.overview.findings.length || ""}`, page.findings.element] });
  const right = tabs(page, "tab", { details: ["Details", page.details.element], source: ["Source", page.source.element] });
  const many = Math.max(page.overview.made, page.overview.passes.length) > 1 || page.overview.live;
  const narrow = tabs(page, "panel", { graph: ["Graph", null], list: ["Outline", null], details: ["Details", null], ...(many ? { passes: /** @type {[string, null]} */ (["Passes", null]) } : {}) });
  const element = html("main", { class: `page${many ? "" : " single"}`, "data-panel": "graph" }, bar,
    html("nav", { class: "outline", "aria-label": "Outline" }, side.list, side.panels),
    html("div", { class: "middle" }, html("div", { class: "graphs" }, page.graph.element, page.compare.element), page.play.element),
    html("aside", { class: "right", "aria-label": "Details" }, right.list, right.panels),
    page.passes.element, html("nav", { class: "narrow", "aria-label": "Parts of the page" }, narrow.list),
    html("p", { id: "said", class: "unseen", role: "status" }), page.help);
  document.getElementById("app")?.replaceChildren(element);
  return { element, title, search, foldAll, tabs: { side: side.tabs, tab: right.tabs, panel: narrow.tabs }, findingsTab: side.tabs.findings.tab };
}

/** A row of tabs, and the panels that they show. @param {Page} page @param {"side"|"tab"|"panel"} name @param {Record<string, [string, HTMLElement | null]>} entries */
function tabs(page, name, entries) {
  const found = /** @type {Record<string, Tab>} */ ({});
  for (const [key, [label, panel]] of Object.entries(entries)) {
    const tab = html("button", { type: "button", role: "tab", id: `tab-${name}-${key}`, "aria-selected": "false", onclick: () => page.store.set({ [name]: key }) }, label);
    if (panel) {
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", `tab-${name}-${key}`);
      panel.id = `panel-${name}-${key}`;
      tab.setAttribute("aria-controls", panel.id);
    }
    found[key] = { tab, panel };
  }
  const list = html("div", { class: "tabs", role: "tablist", "aria-label": { side: "Outline", tab: "Details", panel: "Parts" }[name] }, Object.values(found).map(({ tab }) => tab));
  list.addEventListener("keydown", (event) => {
    const keys = Object.keys(found);
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.stopPropagation();
    const next = keys[(keys.indexOf(page.store.seen[name]) + by + keys.length) % keys.length];
    page.store.set({ [name]: next });
    found[next].tab.focus();
  });
  return { list, tabs: found, panels: Object.values(found).flatMap(({ panel }) => (panel ? [panel] : [])) };
}

/** Change between light and dark, whatever the system prefers. */
function dark() {
  const root = document.documentElement;
  const now = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  dispatchEvent(new Event("themed"));
}

/** What each key does. @param {Page} page @returns {import("./keys.js").Key[]} */
export function keysOf(page) {
  const { store, graph } = page;
  const move = (/** @type {"up"|"down"|"left"|"right"} */ where) => () => {
    if (store.seen.step >= 0 && (where === "left" || where === "right")) return page.play.by(where === "right" ? 1 : -1);
    if (document.activeElement === page.passes.canvas) return page.passes.step(where === "right" || where === "down" ? 1 : -1);
    return page.choose(graph.beside(where));
  };
  return [
    { keys: ["/"], words: "search", run: () => page.seek() },
    { keys: ["j"], words: "next node of the list", run: () => page.choose(page.nodes.next(1)) },
    { keys: ["k"], words: "node before it", run: () => page.choose(page.nodes.next(-1)) },
    { keys: ["ArrowDown"], shown: "↓", words: "the box below, where the gradient goes", run: move("down") },
    { keys: ["ArrowUp"], shown: "↑", words: "the box above, where it comes from", run: move("up") },
    { keys: ["ArrowLeft"], shown: "←", words: "the box to the left; in a play, one step back", run: move("left") },
    { keys: ["ArrowRight"], shown: "→", words: "the box to the right; in a play, one step on", run: move("right") },
    { keys: ["Enter", "o"], shown: "Enter", words: "open or close the chosen fold", run: () => page.openChosen() },
    { keys: ["c"], words: "close the fold around the chosen node", run: () => page.closeAround() },
    { keys: ["u"], words: "unfold everything, or fold again", run: () => store.set({ all: !store.seen.all, open: [] }) },
    { keys: ["f"], words: "fit the graph into the window", run: () => graph.fit() },
    { keys: ["z"], words: "zoom to the chosen node", run: () => graph.look(store.seen.node, true) },
    { keys: ["+", "="], shown: "+", words: "zoom in", run: () => graph.camera.zoom(1.25) },
    { keys: ["-"], words: "zoom out", run: () => graph.camera.zoom(0.8) },
    { keys: ["w", "W"], shown: "w", words: "move up (a, s, d: left, down, right)", run: () => graph.camera.pan(0, 80) },
    { keys: ["a"], words: "move left", run: () => graph.camera.pan(80, 0) },
    { keys: ["s"], words: "move down", run: () => graph.camera.pan(0, -80) },
    { keys: ["d"], words: "move right", run: () => graph.camera.pan(-80, 0) },
    { keys: [" "], shown: "Space", words: "play, or pause", run: () => page.play.toggle() },
    { keys: ["x"], words: "hide numbers until clicked, in a play", run: () => store.set({ hide: !store.seen.hide, step: Math.max(0, store.seen.step) }) },
    { keys: ["["], words: "previous pass", run: () => page.passes.step(-1) },
    { keys: ["]"], words: "next pass", run: () => page.passes.step(1) },
    { keys: ["p"], words: "compare with another pass, or end it", run: () => page.besides() },
    { keys: ["m"], words: "modules", run: () => store.set({ side: "modules", panel: "list" }) },
    { keys: ["n"], words: "nodes", run: () => store.set({ side: "nodes", panel: "list" }) },
    { keys: ["e"], words: "findings", run: () => store.set({ side: "findings", panel: "list" }) },
    { keys: ["!"], words: "next finding", run: () => page.nextFinding() },
    { keys: ["t"], words: "source, or details", run: () => store.set({ tab: store.seen.tab === "source" ? "details" : "source", panel: "details" }) },
    { keys: ["l"], words: "light or dark", run: dark },
    { keys: ["Escape"], shown: "Esc", words: "end the play, the comparison, the search, the choice", run: () => page.back() },
    { keys: ["?"], words: "these keys", run: () => (page.help.open ? page.help.close() : page.help.showModal()) },
  ];
}
