// KV memory held beside KV memory that stores a token, at the time cursor: the account of workbench/waste.py.

import type { EngineState } from "../replay.ts";

export interface WasteRow {
  readonly label: string;
  readonly title: string;
  /** Slots; one holds one token. */
  readonly held: number;
  readonly used: number;
}

/** outputs: how many tokens a request has made in the end, or so far. Empty where nobody holds memory. */
export function wasteRows(state: EngineState, outputs: (id: string) => number, maxModelLen: number): WasteRow[] {
  const size = state.pool.block_size;
  const held = state.numUsed * size;
  if (held === 0) return [];
  let [used, empty, pow2] = [0, 0, 0];
  const shared = new Map<number, number>();
  for (const id of state.running) {
    const request = state.requests.get(id)!;
    const table = state.blockTables.get(id) ?? [];
    const last = table.at(-1);
    if (last === undefined) continue;
    used += request.numComputed;
    const inLast = request.numComputed - (table.length - 1) * size;
    if (state.refCounts[last] === 1) empty += size - inLast;
    else shared.set(last, Math.max(shared.get(last) ?? 0, inLast));
    pow2 += request.numPrompt + nextPowerOfTwo(Math.max(1, outputs(id)));
  }
  for (const filled of shared.values()) empty += size - filled;
  return [
    { label: "in blocks", title: "What the requests hold: whole blocks, shared ones once", held, used: held - empty },
    {
      label: "next power of two",
      title: "In one piece: the prompt and the next power of two of the answer",
      held: pow2,
      used,
    },
    {
      label: "max_model_len",
      title: "In one piece: as many tokens as a request may have at most",
      held: state.running.length * maxModelLen,
      used,
    },
  ];
}

export function nextPowerOfTwo(number: number): number {
  return 2 ** Math.ceil(Math.log2(number));
}
