// The colour of every block in each mode of the map: an index per block into a short palette, because a pool may have
// a million blocks and twenty frames a second. What a step did not touch is not looked at again where that is possible.

import type { EngineState } from "../replay.ts";
import type { TraceStore } from "../store.ts";
import { NUM_HUES } from "../ui/palettes.ts";
import { mix, type Rgb, rgb, type Theme } from "../ui/theme.ts";
import { changedBlocks, ownersOfAll, ownersOfSome } from "./block_facts.ts";

export type BlockMode = "owner" | "state" | "refs" | "age" | "next";

const FREE = 0;
const HEAT_LEVELS = 32;
/** Steps after which a block is as old as can be shown. */
const OLDEST = 1000;

// Places in the palettes. A request of unknown colour has the hue after the last.
const HELD = 1;
const SHARED = HELD + NUM_HUES + 1;
const KEPT = SHARED + NUM_HUES + 1;
const [USED, USED_SHARED, CACHED] = [1, 2, 3];
const TAKEN = 1;
const HEAT = 2;

export class BlockColours {
  /** A place in the palette for each block. */
  index = new Uint8Array(0);
  /** The request that wrote each block, while it holds it, else the first one that does; "" for a free block. */
  owner: string[] = [];
  private mode: BlockMode | null = null;
  private joins = -1;
  private step = -1;
  private ranks = new Int32Array(0);

  /** Bring everything to a state. The blocks whose colour may have changed, or null if that may be all. */
  update(store: TraceStore, state: EngineState, mode: BlockMode): number[] | null {
    const known = mode === this.mode && store.joins === this.joins && this.index.length === state.numBlocks;
    const dirty = known ? changedBlocks(store, this.step, state.step) : null;
    [this.mode, this.joins, this.step] = [mode, store.joins, state.step];
    if (dirty === null) {
      this.index = new Uint8Array(state.numBlocks);
      this.owner = ownersOfAll(state);
    } else {
      ownersOfSome(state, dirty, this.owner);
    }
    switch (mode) {
      case "owner":
        this.paint(state, dirty, ownerPlace(store, state, this.owner));
        break;
      case "state":
        this.paint(state, dirty, (b) => (this.owner[b] === "" ? cached(state, b, CACHED) : shared(state, b)));
        break;
      case "refs":
        this.paint(state, dirty, (b) => {
          const refs = state.refCounts[b]!;
          return refs === 0 ? FREE : heatPlace(Math.log2(refs) / 3 + 0.25);
        });
        break;
      case "age":
        this.paintAges(state);
        return null;
      case "next":
        this.paintRanks(state);
        return null;
    }
    return dirty;
  }

  private paint(state: EngineState, dirty: number[] | null, placeOf: (block: number) => number): void {
    const { index } = this;
    if (dirty === null) for (let b = 0; b < state.numBlocks; b++) index[b] = placeOf(b);
    else for (const b of dirty) index[b] = placeOf(b);
  }

  private paintAges(state: EngineState): void {
    const levels = Uint8Array.from({ length: OLDEST + 1 }, (_, age) => heatPlace(1 - (0.85 * Math.log10(1 + age)) / 3));
    const { index } = this;
    const { refCounts, hashes, lastEvent, step } = state;
    for (let b = 0; b < state.numBlocks; b++) {
      const used = lastEvent[b]!;
      if (refCounts[b] === 0 && hashes[b] === "") index[b] = FREE;
      else index[b] = levels[used < 0 ? OLDEST : Math.min(OLDEST, step - used)]!;
    }
    // A request uses all of its blocks whenever it computes.
    for (const [id, table] of state.blockTables) {
      const scheduled = state.requests.get(id)?.lastScheduled ?? -1;
      if (scheduled < 0) continue;
      const level = levels[Math.min(OLDEST, step - scheduled)]!;
      for (const b of table) if (level > index[b]!) index[b] = level;
    }
  }

  private paintRanks(state: EngineState): void {
    if (this.ranks.length !== state.numBlocks) this.ranks = new Int32Array(state.numBlocks);
    state.free.ranks(this.ranks);
    const last = Math.max(1, state.free.size - 1);
    for (let b = 0; b < state.numBlocks; b++) {
      this.index[b] = state.refCounts[b]! > 0 ? TAKEN : heatPlace(1 - (0.9 * this.ranks[b]!) / last);
    }
  }
}

function ownerPlace(store: TraceStore, state: EngineState, owner: string[]): (block: number) => number {
  const hues = new Map<string, number>();
  const hue = (id: string): number => {
    let found = hues.get(id);
    if (found === undefined) {
      const request = store.requests.get(id);
      hues.set(id, (found = request === undefined ? NUM_HUES : request.colour % NUM_HUES));
    }
    return found;
  };
  return (block) => {
    const id = owner[block]!;
    if (id !== "") return (state.refCounts[block]! > 1 ? SHARED : HELD) + hue(id);
    return state.hashes[block] === "" ? FREE : KEPT + hue(state.contentOf[block]!);
  };
}

function cached(state: EngineState, block: number, place: number): number {
  return state.hashes[block] === "" ? FREE : place;
}

function shared(state: EngineState, block: number): number {
  return state.refCounts[block]! > 1 ? USED_SHARED : USED;
}

function heatPlace(share: number): number {
  return HEAT + Math.round(Math.max(0, Math.min(1, share)) * (HEAT_LEVELS - 1));
}

/** The colours that a mode's places stand for. */
export function paletteOf(mode: BlockMode, theme: Theme): readonly Rgb[] {
  const free = rgb(theme.free);
  const light = (c: Rgb): Rgb => mix([255, 255, 255], c, 0.45);
  if (mode === "owner") {
    const hues = [...Array.from({ length: NUM_HUES }, (_, i) => rgb(theme.request(i))), rgb(theme.fg3)];
    return [free, ...hues, ...hues.map(light), ...hues.map((c) => mix(c, free, 0.3))];
  }
  if (mode === "state") return [free, rgb(theme.used), light(rgb(theme.used)), rgb(theme.cached)];
  const levels = Array.from({ length: HEAT_LEVELS }, (_, i) => heat(theme, i / (HEAT_LEVELS - 1)));
  return [free, mix(rgb(theme.fg3), free, 0.35), ...levels];
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
