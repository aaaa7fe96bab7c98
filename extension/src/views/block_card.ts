// What is told of a block: in the card beside the pointer, and in the line that stays when the block is picked.

import { count, int, visible } from "../format.ts";
import type { EngineState } from "../replay.ts";
import type { TraceStore } from "../store.ts";
import type { CardLine } from "../ui/hover_card.ts";
import { hashChain, lastUse, ownersOf, reuseRank, tokensIn } from "./block_facts.ts";

const SHOWN_OWNERS = 6;
const SHOWN_HASHES = 3;
const HASH_DIGITS = 6;

export interface BlockStory {
  readonly title: string;
  readonly owners: readonly string[];
  readonly lines: readonly CardLine[];
  /** Its tokens as text; null if they are not known or there are none. */
  readonly text: string | null;
}

export function tellBlock(store: TraceStore, state: EngineState, block: number): BlockStory {
  const owners = ownersOf(state, block);
  const hash = state.hashes[block]!;
  const tokens = tokensIn(store, state, block);
  const lines: CardLine[] = [];
  if (owners.length > 0) {
    const more = owners.length > SHOWN_OWNERS ? ` and ${int(owners.length - SHOWN_OWNERS)} more` : "";
    lines.push(["held by", owners.slice(0, SHOWN_OWNERS).join(", ") + more]);
  } else {
    lines.push(["state", hash === "" ? "free" : "free, content kept for a prefix hit"]);
  }
  lines.push(["references", int(state.refCounts[block]!)]);
  if (tokens !== null) {
    const from = state.contentIndex[block]! * state.blockSize;
    lines.push(["tokens", `${int(tokens.length)} of ${int(state.blockSize)}`]);
    lines.push(["positions", `${int(from)} – ${int(from + state.blockSize - 1)} of ${state.contentOf[block]}`]);
  }
  if (hash !== "") lines.push(["hash chain", chainInWords(hashChain(state, block))]);
  const used = lastUse(state, block, owners);
  if (used >= 0) {
    const ago = used === state.step ? "this step" : `${count(state.step - used, "step")} ago`;
    lines.push(["last use", `step ${int(used)}, ${ago}`]);
  }
  if (owners.length === 0) lines.push(["reused", `after ${count(reuseRank(state, block), "other block")}`]);
  const text = tokens === null || tokens.length === 0 ? null : visible(tokens.map((id) => store.text(id)).join(""));
  return { title: `Block ${int(block)}`, owners, lines, text };
}

/** "ab12cd ← 99ff00 ← start": each hash covers the one before it. */
function chainInWords(chain: readonly string[]): string {
  const shown = chain.slice(0, SHOWN_HASHES).map((hash) => (hash === "" ? "?" : hash.slice(0, HASH_DIGITS)));
  const more = chain.length - shown.length;
  return [...shown, more > 0 ? `${int(more)} more` : "start"].join(" ← ");
}
