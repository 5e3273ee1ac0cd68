// What the checks found: a click shows the pass, the node and the line.

import { fill, html } from "./dom.js";

/** @typedef {import("./data.js").Finding} Finding */

/** The list of findings. */
export class Findings {
  /** @param {(found: Finding) => void} go */
  constructor(go) {
    this.go = go;
    this.element = html("div", { class: "findings" });
  }

  /** @param {Finding[]} findings @param {number} made how many passes there were */
  show(findings, made) {
    if (!findings.length) {
      fill(this.element, html("p", { class: "muted pad" }, "The checks found nothing wrong."));
      return;
    }
    fill(this.element, ...findings.map((found) => html("button", { type: "button", class: `finding ${found.severity}`, onclick: () => this.go(found) },
      html("b", {}, html("span", { class: `flag ${found.severity}` }, { error: "×", warning: "!", info: "i" }[found.severity] ?? "", html("span", { class: "unseen" }, ` ${found.severity}: `)), ` ${found.check}`),
      html("span", { class: "muted" }, this._where(found, made)),
      html("span", {}, found.message),
      found.hint ? html("span", { class: "hint" }, `→ ${found.hint}`) : null,
    )));
  }

  /** @param {Finding} found @param {number} made */
  _where(found, made) {
    const pass = made > 1 && found.pass_index ? `pass ${found.pass_index}${(found.count ?? 1) > 1 ? ` and ${(found.count ?? 1) - 1} more` : ""}` : "";
    const line = found.source ? `${found.source.filename.split(/[\\/]/).at(-1)}:${found.source.line}` : "";
    return [pass, line].filter(Boolean).join(" · ");
  }
}
