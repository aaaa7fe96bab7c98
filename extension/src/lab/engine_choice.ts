// Which engine a panel shows: its own, or after a restart the one that took its place.

import type { EngineSummary } from "./lab_protocol.ts";

export interface Wanted {
  readonly engineId: string;
  /** The engine's place among those of its kernel when it was picked by hand; 0: any. */
  readonly ordinal: number;
}

/**
 * The wanted engine as long as its kernel has it; else the one in the same place, which is what running the same cells
 * again makes; else the newest that lives.
 */
export function chooseEngine(wanted: Wanted, engines: readonly EngineSummary[]): EngineSummary | null {
  const alive = engines.filter((e) => e.state !== "closed");
  const same = engines.find((e) => e.engine_id === wanted.engineId);
  const inPlace = alive.find((e) => e.ordinal === wanted.ordinal);
  if (same !== undefined && (same.ordinal === wanted.ordinal || inPlace === undefined)) return same;
  return inPlace ?? alive.at(-1) ?? null;
}
