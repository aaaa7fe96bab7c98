// What there is to know of a block in a state: owners, fill, tokens, last use.

import type { EngineState } from "../replay.ts";
import type { TraceStore } from "../store.ts";
import type { RequestInfo } from "../trace_types.ts";

/** Blocks that any step between two steps touched, in either direction of time; null if that is not known. */
export function changedBlocks(store: TraceStore, from: number, to: number): number[] | null {
  const [low, high] = [Math.min(from, to), Math.max(from, to)];
  const first = store.indexOf(low) + 1;
  const last = store.indexOf(high);
  if (last - first + 1 !== high - low) return null;
  const touched = new Set<number>();
  for (let i = first; i <= last; i++) {
    for (const event of store.steps[i]!.record.block_events) {
      if (event.kind === "resize") return null;
      touched.add(event.block);
      if (event.kind === "copy" || event.kind === "move") touched.add(Number(event.other));
    }
  }
  return [...touched];
}

/** The request that wrote a block, if it holds it still. */
function writer(state: EngineState, block: number): string {
  const id = state.contentOf[block]!;
  return state.blockTables.get(id)?.[state.contentIndex[block]!] === block ? id : "";
}

/** Of every block, whose it is: the request that wrote it, else the first that holds it, else "". */
export function ownersOfAll(state: EngineState): string[] {
  const owners = new Array<string>(state.numBlocks).fill("");
  for (const [id, table] of state.blockTables) {
    for (const block of table) if (owners[block] === "") owners[block] = writer(state, block) || id;
  }
  return owners;
}

/** The same for some blocks, in place. */
export function ownersOfSome(state: EngineState, blocks: readonly number[], owners: string[]): void {
  const orphans = new Set<number>();
  for (const block of blocks) {
    owners[block] = state.refCounts[block] === 0 ? "" : writer(state, block);
    if (owners[block] === "" && state.refCounts[block]! > 0) orphans.add(block);
  }
  if (orphans.size === 0) return;
  for (const [id, table] of state.blockTables) {
    for (const block of table) {
      if (orphans.delete(block)) owners[block] = id;
    }
    if (orphans.size === 0) return;
  }
}

/** The place of a block in a request's table; -1 if it is not in it. */
export function placeIn(state: EngineState, request: string, block: number): number {
  const table = state.blockTables.get(request);
  if (table === undefined) return -1;
  const written = state.contentIndex[block]!;
  return table[written] === block ? written : table.indexOf(block);
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
export function lastUse(state: EngineState, block: number, owners: readonly string[]): number {
  const scheduled = owners.map((id) => state.requests.get(id)?.lastScheduled ?? -1);
  return Math.max(state.lastEvent[block]!, ...scheduled);
}

/** Hashes of a block and of those before it in its sequence, newest first, as far as they are known. */
export function hashChain(state: EngineState, block: number): string[] {
  if (state.hashes[block] === "") return [];
  const at = state.contentIndex[block]!;
  const before = new Array<string>(at).fill("");
  const owner = ownersOf(state, block)[0];
  if (owner !== undefined) {
    const table = state.blockTables.get(owner)!;
    for (let i = 0; i < at; i++) before[i] = state.hashes[table[i]!] ?? "";
  } else {
    // Nobody holds it: what its writer left behind still says where it came from.
    const id = state.contentOf[block]!;
    for (let b = 0; b < state.numBlocks; b++) {
      if (state.contentOf[b] === id && state.contentIndex[b]! < at) before[state.contentIndex[b]!] ||= state.hashes[b]!;
    }
  }
  return [state.hashes[block]!, ...before.reverse()];
}

/** How many blocks are reused before this free one. */
export function reuseRank(state: EngineState, block: number): number {
  let rank = 0;
  for (const free of state.free) {
    if (free === block) return rank;
    rank += 1;
  }
  return -1;
}
