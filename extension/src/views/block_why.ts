// Why a block is as it is, when nobody holds it: who let it go, and when. No DOM here.

import { int } from "../format.ts";
import type { BlockEvent } from "../generated.ts";
import { preemptedFor } from "../reasons.ts";
import type { EngineState } from "../replay.ts";
import type { TraceStore } from "../store.ts";
import type { Cursor } from "../trace_types.ts";

export interface BlockWhy {
  readonly text: string;
  readonly step: number | null;
  /** The request whose why explains it; null if nobody has held it in the kept steps so far. */
  readonly request: string | null;
}

/** Null if somebody holds the block in this state, or the pool has no such block. */
export function blockWhy(store: TraceStore, cursor: Cursor, state: EngineState, block: number): BlockWhy | null {
  if (state.refCounts[block] !== 0) return null;
  const name = `Block ${int(block)}`;
  const kept = state.hashes[block] === "" ? "empty" : "kept for its prefix";
  for (let i = cursor === "live" ? store.steps.length - 1 : store.indexOf(cursor); i >= 0; i--) {
    const { record } = store.steps[i]!;
    const event = lastRelease(record.block_events, block);
    if (event === undefined) continue;
    if (event.kind === "move") {
      block = Number(event.other); // what is known of it happened under its old number
      i += 1;
      continue;
    }
    const decision = record.decisions.find((d) => d.request_id === event.request_id);
    const ended = record.finished.find((f) => f.request_id === event.request_id);
    const why =
      ended !== undefined
        ? "when it ended"
        : decision?.action === "preempt"
          ? `when it was preempted ${preemptedFor(decision).why}`
          : "when it no longer needed it";
    const text = `${name} is free (${kept}): ${event.request_id} gave it back ${why}.`;
    return { text, step: record.step, request: event.request_id };
  }
  return {
    text: `${name} is free (${kept}); nobody has held it in the kept steps so far.`,
    step: null,
    request: null,
  };
}

/** The last event of a step by which a block was let go or got this number. */
function lastRelease(events: readonly BlockEvent[], block: number): BlockEvent | undefined {
  return events.findLast((e) => e.block === block && (e.kind === "free" || e.kind === "move"));
}
