// The colour of every block in each mode of the map: an index per block into a short palette, because a pool may have
// a hundred thousand blocks and twenty frames a second.

import type { EngineState } from "../replay.ts";
import type { TraceStore } from "../store.ts";
import { mix, type Rgb, rgb, type Theme } from "../ui/theme.ts";
import { lastUse, type Ownership } from "./block_facts.ts";

export type BlockMode = "owner" | "state" | "refs" | "age" | "next";

export interface BlockColours {
  readonly index: Uint16Array;
  readonly palette: readonly Rgb[];
}

const FREE = 0;
const HEAT_LEVELS = 32;

export function colourBlocks(
  mode: BlockMode,
  state: EngineState,
  owners: Ownership,
  store: TraceStore,
  theme: Theme,
): BlockColours {
  const palette: Rgb[] = [rgb(theme.free)];
  const index = new Uint16Array(state.numBlocks);
  const add = (colour: Rgb): number => palette.push(colour) - 1;
  const paint = {
    owner: byOwner,
    state: byState,
    refs: byReferences,
    age: byAge,
    next: byReuse,
  }[mode]({ state, owners, store, theme, add });
  for (let block = 0; block < state.numBlocks; block++) {
    index[block] = paint(block, owners.first[block]!, state.hashes[block] !== "");
  }
  return { index, palette };
}

interface Scene {
  readonly state: EngineState;
  readonly owners: Ownership;
  readonly store: TraceStore;
  readonly theme: Theme;
  add(colour: Rgb): number;
}

type Paint = (block: number, owner: number, cached: boolean) => number;

function byOwner({ state, owners, store, theme, add }: Scene): Paint {
  const held = owners.ids.map((id) => add(ownerColour(store, theme, id)));
  const kept = new Map<string, number>();
  return (block, owner, cached) => {
    if (owner >= 0) return held[owner]!;
    if (!cached) return FREE;
    const id = state.contentOf[block]!;
    let entry = kept.get(id);
    if (entry === undefined) kept.set(id, (entry = add(mix(ownerColour(store, theme, id), rgb(theme.free), 0.3))));
    return entry;
  };
}

function byState({ theme, add }: Scene): Paint {
  const [used, kept] = [add(rgb(theme.used)), add(rgb(theme.cached))];
  return (_, owner, cached) => (owner >= 0 ? used : cached ? kept : FREE);
}

function byReferences({ state, theme, add }: Scene): Paint {
  const level = heatLevels(theme, add);
  return (block, owner) => (owner < 0 ? FREE : level(Math.log2(state.refCounts[block]!) / 3 + 0.25));
}

function byAge({ state, owners, theme, add }: Scene): Paint {
  const level = heatLevels(theme, add);
  return (block, owner, cached) => {
    if (owner < 0 && !cached) return FREE;
    const used = lastUse(state, block, owner >= 0 ? owners.ids[owner]! : null);
    const age = used < 0 ? 1 : Math.min(1, Math.log10(1 + state.step - used) / 3);
    return level(1 - 0.85 * age);
  };
}

function byReuse({ state, theme, add }: Scene): Paint {
  const level = heatLevels(theme, add);
  const held = add(mix(rgb(theme.fg3), rgb(theme.free), 0.35));
  const rank = reuseRank(state);
  const last = Math.max(1, state.free.size - 1);
  return (block, owner) => (owner >= 0 ? held : level(1 - 0.9 * (rank[block]! / last)));
}

function heatLevels(theme: Theme, add: (colour: Rgb) => number): (share: number) => number {
  const first = add(heat(theme, 0));
  for (let i = 1; i < HEAT_LEVELS; i++) add(heat(theme, i / (HEAT_LEVELS - 1)));
  return (share) => first + Math.round(Math.max(0, Math.min(1, share)) * (HEAT_LEVELS - 1));
}

/** A scale that also grows steadily in lightness, from little (0) to much (1). */
export function heat(theme: Theme, share: number): Rgb {
  const low: Rgb = theme.dark ? [30, 38, 66] : [228, 235, 246];
  const high: Rgb = theme.dark ? [250, 217, 92] : [38, 34, 98];
  const middle: Rgb = theme.dark ? [42, 152, 160] : [58, 150, 178];
  return share < 0.5 ? mix(middle, low, share * 2) : mix(high, middle, share * 2 - 1);
}

export function ownerColour(store: TraceStore, theme: Theme, id: string): Rgb {
  const request = store.requests.get(id);
  return request === undefined ? rgb(theme.fg3) : rgb(theme.request(request.colour));
}

/** Of each free block: how many are reused before it. */
export function reuseRank(state: EngineState): Int32Array {
  const rank = new Int32Array(state.numBlocks);
  let i = 0;
  for (const block of state.free) rank[block] = i++;
  return rank;
}
