// A run that goes on: new passes and findings come from the server as they are made.

import { html } from "./dom.js";

/**
 * Follow the run; each message is the overview as it is now.
 * @param {import("./data.js").Library} library
 * @param {(words: string) => void} changed
 */
export function follow(library, changed) {
  if (!library.served) return;
  const events = new EventSource("events");
  events.onmessage = (event) => {
    const { words, ...overview } = JSON.parse(event.data);
    Object.assign(library.overview, overview);
    changed(words);
    if (!overview.live) events.close();
  };
  events.onerror = () => {
    if (events.readyState !== EventSource.CLOSED) changed("the server does not answer");
  };
}

/** A word on whether the script still runs. */
export class Status {
  constructor() {
    this.element = html("span", { class: "status", role: "status", hidden: true });
  }

  /** @param {string} words @param {boolean} live */
  show(words, live) {
    this.element.toggleAttribute("hidden", !words);
    this.element.classList.toggle("live", live);
    this.element.textContent = words;
  }
}
