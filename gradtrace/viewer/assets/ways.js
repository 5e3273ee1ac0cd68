// The ways through nodes: all that lies above them, where their gradient comes from, and below, where it goes.

/** @typedef {import("./data.js").Pass} Pass */

/**
 * Return the positions of all nodes on ways through these, themselves too.
 * @param {Pass} pass
 * @param {number[]} starts
 * @returns {{above: Set<number>, below: Set<number>}}
 */
export function ways(pass, starts) {
  return {
    above: reached(starts, (at) => pass.into[at].map((edge) => pass.place(pass.edges[edge].source))),
    below: reached(starts, (at) => pass.out[at].map((edge) => pass.place(pass.edges[edge].target))),
  };
}

/**
 * @param {number[]} starts
 * @param {(at: number) => number[]} onward
 */
function reached(starts, onward) {
  const found = new Set(starts);
  const waiting = [...starts];
  while (waiting.length) {
    for (const other of onward(/** @type {number} */ (waiting.pop()))) {
      if (!found.has(other)) {
        found.add(other);
        waiting.push(other);
      }
    }
  }
  return found;
}
