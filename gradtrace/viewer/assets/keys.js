// The keys, each with what it does; the help lists them.

import { button, html } from "./dom.js";

/** @typedef {{keys: string[], words: string, run: (event: KeyboardEvent) => void, shown?: string}} Key */

/**
 * Listen for keys, but for those that are typed into a field.
 * @param {Key[]} table
 */
export function listen(table) {
  const by = new Map(table.flatMap((entry) => entry.keys.map((key) => [key, entry])));
  addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const typing = target.closest("input:not([type=range]):not([type=checkbox]), select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key !== "Escape")) return;
    if (document.querySelector("dialog[open]") && event.key !== "?") return;
    if (target.closest("button, [role=button]") && (event.key === "Enter" || event.key === " ")) return;
    if (target.closest("input[type=range]") && event.key.startsWith("Arrow")) return;
    const entry = by.get(event.key);
    if (!entry) return;
    event.preventDefault();
    entry.run(event);
  });
}

/** The list of keys, as a dialog. @param {Key[]} table */
export function help(table) {
  const rows = table.map(({ shown, keys, words }) => html("tr", {}, html("th", { scope: "row" }, html("kbd", {}, shown ?? keys[0])), html("td", {}, words)));
  const dialog = /** @type {HTMLDialogElement} */ (html("dialog", { class: "help", "aria-label": "Keys" },
    html("header", {}, html("h2", {}, "Keys"), button("✕", "Close", () => dialog.close())),
    html("table", {}, html("tbody", {}, rows)),
    html("h3", {}, "Search"),
    html("p", {}, "op:mm · module:h.3 · name:weight · train.py:42 · norm<1e-6 · seconds>0.01 · nan · inf · zero · none · leaf · \"two words\" · -word for not"),
    html("h3", {}, "Colours"),
    html("p", {}, ...[0, 1, 2, 3, 4].map((step) => html("i", { class: `swatch heat${step}` })), " from the smallest gradient of the pass to the largest ",
      ...["none", "zero", "inf", "nan"].flatMap((what) => [html("i", { class: `swatch ${what}` }), ` ${what === "none" ? "no gradient" : what} `])),
  ));
  return dialog;
}
