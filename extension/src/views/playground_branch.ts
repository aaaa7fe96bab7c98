// A branch: the prompt and the tokens up to one of them, or another token in its place, as a prompt of its own.

import type { EngineState } from "../replay.ts";
import type { RequestInfo } from "../trace_types.ts";

export interface Branch {
  readonly parent: string;
  /** Index of the parent's output token that this branch keeps last, or replaces. */
  readonly index: number;
  readonly replaced: boolean;
  readonly promptTokenIds: readonly number[];
}

/** Go on from an output token of a request: after it, or with `tokenId` in its place. */
export function branchAt(request: RequestInfo, index: number, tokenId: number): Branch {
  const kept = request.tokens.slice(0, index).map((token) => token.id);
  return {
    parent: request.id,
    index,
    replaced: tokenId !== request.tokens[index]?.id,
    promptTokenIds: [...request.promptTokenIds, ...kept, tokenId],
  };
}

export interface Choice {
  readonly id: number;
  readonly logprob: number | null;
  readonly taken: boolean;
}

/** The tokens that a branch can go on with: the one that was taken, then the likeliest others. */
export function choicesAt(request: RequestInfo, index: number, most: number): Choice[] {
  const token = request.tokens[index];
  if (token === undefined) return [];
  const others = token.alternatives
    .filter(([id]) => id !== token.id)
    .toSorted((a, b) => b[1] - a[1])
    .map(([id, logprob]) => ({ id, logprob, taken: false }));
  return [{ id: token.id, logprob: token.logprob, taken: true }, ...others].slice(0, most);
}

/** Blocks that two requests hold both. */
export function sharedBlocks(state: EngineState, a: string, b: string): number {
  const held = new Set(state.blockTables.get(a) ?? []);
  return (state.blockTables.get(b) ?? []).filter((block) => held.has(block)).length;
}
