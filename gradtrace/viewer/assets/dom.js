// Elements, made without any markup: whatever a trace holds is text here.

const READ = new Set(["title", "aria-label", "value"]); // attributes that readers are told of
const MOST_LETTERS = 5000; // letters of a text or an attribute
const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Make an HTML element; a property that begins with "on" is a listener, others are attributes.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElement}
 */
export function html(tag, attributes = {}, ...children) {
  return /** @type {HTMLElement} */ (dressed(document.createElement(tag), attributes, children));
}

/**
 * Make an SVG element.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  return /** @type {SVGElement} */ (dressed(document.createElementNS(SVG, tag), attributes, children));
}

/**
 * @param {Element} element
 * @param {Record<string, any>} attributes
 * @param {(Child | Child[])[]} children
 * @returns {Element}
 */
function dressed(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : READ.has(name) ? cut(String(value)) : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false).map(text));
  return element;
}

/** @param {any} child @returns {Node | string} */
function text(child) {
  return child instanceof Node ? child : cut(String(child));
}

/** Cut what is longer than anybody reads: a browser takes minutes to lay out ten million letters. @param {string} words */
function cut(words) {
  return words.length > MOST_LETTERS ? `${words.slice(0, MOST_LETTERS)} …` : words;
}

/**
 * Put these in place of what an element holds.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren(.../** @type {(Node|string)[]} */ (children.flat().filter((child) => child !== null && child !== undefined && child !== false).map(text)));
}

/**
 * Make a button with a name for those who hear the page; words that can be seen on it are its name themselves.
 * @param {string} label
 * @param {string} name
 * @param {() => void} press
 * @param {Record<string, any>} [more]
 */
export function button(label, name, press, more = {}) {
  const spoken = name.toLowerCase().includes(label.toLowerCase()) || !/\p{L}{2}/u.test(label);
  return html("button", { type: "button", "aria-label": spoken && name, title: name, onclick: press, ...more }, label);
}

/** Tell assistive technology a sentence. @param {string} words */
export function announce(words) {
  const place = document.getElementById("said");
  if (place) place.textContent = words;
}

/** Whether the reader asked for less motion. */
export function still() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
