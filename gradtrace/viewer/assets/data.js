// What the page knows: the run, its passes and their views, from the page itself or from the server.

/**
 * @typedef {import("./numbers.js").Stats} Stats
 * @typedef {{filename: string, line: number, end_line?: number, column?: number, end_column?: number, function?: string, text?: string}} Source
 * @typedef {{id: string, kind: string, op: string, name?: string, module?: string, call?: number, source?: Source, library?: Source,
 *   values?: (Stats|null)[], grads?: (Stats|null)[], saved?: {name: string, shape?: number[], dtype?: string, bytes?: number}[],
 *   attributes?: Record<string, any>, order?: number, seconds?: number, origin?: any, formula?: string,
 *   accumulated?: Stats|null, reduced?: Stats|null}} GraphNode
 * @typedef {{source: string, target: string, source_index?: number, target_index?: number, grad?: Stats|null}} Edge
 * @typedef {{check: string, severity: string, message: string, hint?: string, nodes?: string[], source?: Source, pass_index?: number, count?: number}} Finding
 * @typedef {{key: string, kind: string, at: number[], rows: any[][], nodes: [number, number][], leaves: number[], name: string}} ViewBox
 * @typedef {{from: string, to: string, points: number[], text: string, label: number[]|null, kind: string, share: number, edges: number[]}} ViewLine
 * @typedef {{at: number[], label: string, boxes: string[], depth: number}} ViewFrame
 * @typedef {{width: number, height: number, boxes: ViewBox[], lines: ViewLine[], frames: ViewFrame[], note?: string[]}} View
 * @typedef {{index: number, kind: string, title: string, words: string, nodes: number, edges: number, parent: number|null, rank: number, error: boolean, call: Source|null, outputs: any[]}} PassRow
 * @typedef {{name: string, shape?: number[], passes: number[], norms: (number|null)[], reached: boolean[]}} Series
 * @typedef {{title: string, command: string[], versions: Record<string, string>, made: number, passes: PassRow[], series: Series[],
 *   findings: Finding[], error: any, sources: Record<string, string>, metrics: Record<string, [number, number, string]>, mode: string, start?: number, beside?: number, left?: number, live?: boolean}} Overview
 */

/** A pass, with its nodes by id and the edges at each. */
export class Pass {
  /** @param {any} raw */
  constructor(raw) {
    this.index = /** @type {number} */ (raw.index);
    this.nodes = /** @type {GraphNode[]} */ (raw.nodes ?? []);
    this.edges = /** @type {Edge[]} */ (raw.edges ?? []);
    this.calls = /** @type {{path: string, type: string, parent?: number|null}[]} */ (raw.calls ?? []);
    this.scale = /** @type {[number, number]} */ (raw.scale);
    this.of = /** @type {string} */ (raw.of);
    this.error = raw.error ?? null;
    this.comparisons = /** @type {any[]} */ (raw.comparisons ?? []);
    this.notes = /** @type {Record<string, string>} */ (raw.notes ?? {});
    this._formulas = /** @type {Record<string, string[]>} */ (raw.formulas ?? {});
    this.at = new Map(this.nodes.map((node, at) => [node.id, at]));
    this.out = this.nodes.map(() => /** @type {number[]} */ ([]));
    this.into = this.nodes.map(() => /** @type {number[]} */ ([]));
    this.edges.forEach((edge, at) => {
      this.out[this.place(edge.source)].push(at);
      this.into[this.place(edge.target)].push(at);
    });
  }

  /** The position of a node. @param {string} id @returns {number} */
  place(id) {
    return this.at.get(id) ?? -1;
  }

  /** The edges into a node in the order in which their gradients came. @param {number} at @returns {Edge[]} */
  arriving(at) {
    const order = (/** @type {Edge} */ edge) => this.node(edge.source)?.order ?? -1;
    return this.into[at].map((edge) => this.edges[edge]).sort((a, b) => order(a) - order(b));
  }

  /** The formula of what a node sent along an edge, or nothing. @param {Edge} edge @returns {string} */
  formula(edge) {
    const mine = this.out[this.place(edge.source)].findIndex((at) => this.edges[at] === edge);
    return this._formulas[edge.source]?.[mine] ?? "";
  }

  /** @param {string} id @returns {GraphNode | undefined} */
  node(id) {
    return this.nodes[this.place(id)];
  }
}

/** Everything that can be asked for. */
export class Library {
  /** @param {any} held */
  constructor(held) {
    const { passData, views, ...overview } = held;
    this.overview = /** @type {Overview} */ (overview);
    this._raw = /** @type {Record<string, any>} */ (passData ?? {});
    this._views = /** @type {Record<string, Record<string, View>>} */ (views ?? {});
    this._passes = /** @type {Map<string, Promise<Pass>>} */ (new Map());
    this._asked = /** @type {Map<string, Promise<View|null>>} */ (new Map());
  }

  get served() {
    return this.overview.mode === "server";
  }

  /** @param {number} index @returns {Promise<Pass>} */
  pass(index) {
    const key = String(index);
    if (!this._passes.has(key)) this._passes.set(key, this._loaded(key));
    return /** @type {Promise<Pass>} */ (this._passes.get(key));
  }

  /** @param {string} key */
  async _loaded(key) {
    return new Pass(this._raw[key] ?? (await asked(`pass?pass=${key}`)));
  }

  /**
   * A view of a pass; null where it is not in this file.
   * @param {number} index
   * @param {string} key of a fold, empty for the whole, "*" for all nodes
   * @returns {Promise<View | null>}
   */
  view(index, key) {
    const name = `${index} ${key}`;
    if (!this._asked.has(name)) this._asked.set(name, this._seen(index, key));
    return /** @type {Promise<View|null>} */ (this._asked.get(name));
  }

  /** @param {number} index @param {string} key */
  async _seen(index, key) {
    const held = this._views[String(index)]?.[key];
    if (held || !this.served) return held ?? null;
    return asked(`view?pass=${index}&fold=${encodeURIComponent(key)}`).catch((error) => {
      this._asked.delete(`${index} ${key}`);
      throw error;
    });
  }

  /** The index of the pass kept that is nearest to this one. @param {number} index */
  nearest(index) {
    const kept = this.overview.passes.map((row) => row.index);
    return kept.reduce((best, each) => (Math.abs(each - index) < Math.abs(best - index) ? each : best), kept[0] ?? 0);
  }
}

/** Ask the server that the page came from. @param {string} path */
export async function asked(path) {
  const answer = await fetch(path);
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error ?? answer.statusText);
  return told;
}

/** Return what the page was given. @returns {Promise<Library>} */
export async function opened() {
  const text = document.getElementById("data")?.textContent?.trim() ?? "";
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Library(JSON.parse(await new Response(stream).text()));
}
