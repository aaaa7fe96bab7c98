// What there is to know of a block in a state: owners, fill, tokens, last use.

import type { EngineState } from "../replay.ts";
import type { TraceStore } from "../store.ts";
import type { RequestInfo } from "../trace_types.ts";

export interface Ownership {
  /** First owner of each block as an index into `ids`, -1 if it has none. */
  readonly first: Int32Array;
  /** Place of the block in that owner's table. */
  readonly index: Int32Array;
  readonly ids: readonly string[];
}

export function ownership(state: EngineState): Ownership {
  const first = new Int32Array(state.numBlocks).fill(-1);
  const index = new Int32Array(state.numBlocks);
  const ids: string[] = [];
  for (const [id, table] of state.blockTables) {
    const owner = ids.push(id) - 1;
    for (let i = 0; i < table.length; i++) {
      const block = table[i]!;
      if (first[block] === -1) {
        first[block] = owner;
        index[block] = i;
      }
    }
  }
  return { first, index, ids };
}

/** Share of a block that holds computed tokens of the request at this place of its table. */
export function fill(state: EngineState, request: string, index: number): number {
  const live = state.requests.get(request);
  if (live === undefined) return 1;
  return Math.max(0, Math.min(1, (live.numComputed - index * state.blockSize) / state.blockSize));
}

export function ownersOf(state: EngineState, block: number): string[] {
  const owners: string[] = [];
  for (const [id, table] of state.blockTables) if (table.includes(block)) owners.push(id);
  return owners;
}

/** Token ids in a block, as far as this page can know them. */
export function tokensIn(store: TraceStore, state: EngineState, block: number): readonly number[] | null {
  const request = store.requests.get(state.contentOf[block] ?? "");
  if (request === undefined || (state.refCounts[block] === 0 && state.hashes[block] === "")) return null;
  const live = state.requests.get(request.id);
  const holds = live !== undefined && (state.blockTables.get(request.id)?.includes(block) ?? false);
  const computed = holds ? live.numComputed : Number.POSITIVE_INFINITY;
  const from = state.contentIndex[block]! * state.blockSize;
  return sequence(request, from, Math.min(from + state.blockSize, Math.max(from, computed)));
}

function sequence(request: RequestInfo, from: number, to: number): number[] {
  const prompt = request.promptTokenIds;
  const ids: number[] = [];
  for (let i = from; i < to; i++) {
    const id = i < prompt.length ? prompt[i] : request.tokens[i - prompt.length]?.id;
    if (id === undefined) break;
    ids.push(id);
  }
  return ids;
}

/** Last step in which the block was written, read or changed hands; -1 if that is older than this page knows. */
export function lastUse(state: EngineState, block: number, owner: string | null): number {
  const scheduled = owner === null ? -1 : (state.requests.get(owner)?.lastScheduled ?? -1);
  return Math.max(state.lastEvent[block]!, scheduled);
}
