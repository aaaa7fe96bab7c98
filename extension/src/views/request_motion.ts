// Which requests crossed between the queue and the batch. The table is right at once; motion only points at what is new.

import type { RowState } from "./request_rows.ts";

export const MOTION_MS = 420;

export type Group = "batch" | "queue" | "ended";

export function groupOf(state: RowState): Group {
  if (state === "running" || state === "prefill") return "batch";
  return state === "waiting" || state === "preempted" ? "queue" : "ended";
}

export interface Crossing {
  readonly id: string;
  readonly to: "batch" | "queue";
}

/** Compares each state that is shown with the one shown before it. */
export class RequestMotion {
  private groups: ReadonlyMap<string, Group> = new Map();
  private step: number | null = null;

  /** A state is shown. Nothing crosses when time goes back, after a jump, or where motion is not `wanted`. */
  shown(step: number, groups: ReadonlyMap<string, Group>, live: boolean, wanted: boolean): Crossing[] {
    const before = this.groups;
    // What is live skips the steps between two draws; what is scrubbed to follows only its neighbour.
    const follows = this.step !== null && (live ? step > this.step : step === this.step + 1);
    this.step = step;
    this.groups = groups;
    if (!follows || !wanted) return [];
    const crossings: Crossing[] = [];
    for (const [id, to] of groups) {
      const from = before.get(id);
      if ((from === "queue" && to === "batch") || (from === "batch" && to === "queue")) crossings.push({ id, to });
    }
    return crossings;
  }
}
