// What the page keeps of a trace: one Step per record and one RequestInfo per request, both only ever appended to.

import type { Action, Reason, StepRecord } from "./generated.ts";

/** A record together with the sums that several views need of it. */
export interface Step {
  readonly record: StepRecord;
  /** Engine time at which the step ended, in seconds. */
  readonly end: number;
  readonly prefillTokens: number;
  readonly decodeTokens: number;
  readonly numRunning: number;
  readonly numWaiting: number;
  /** How many of the waiting queue wait for what; running requests that got nothing are not in it. */
  readonly waits: ReadonlyMap<Reason, number>;
  readonly numUsed: number;
  readonly numCachedFree: number;
  readonly numSampled: number;
}

/** A token that a request got. Its step is -1 if it came before the part of the trace that this page has. */
export interface Token {
  readonly id: number;
  readonly step: number;
  readonly time: number;
  readonly logprob: number | null;
  readonly alternatives: readonly (readonly [number, number])[];
}

/** A stretch of consecutive steps in which the same thing happened to a request for the same reason. */
export interface Segment {
  readonly action: Action;
  readonly reason: Reason;
  readonly other: string;
  readonly from: number;
  to: number;
  readonly timeFrom: number;
  timeTo: number;
}

export interface Ending {
  readonly step: number;
  readonly time: number;
  readonly reason: string;
  readonly detail: string;
}

/** Everything known of one request, live or ended. */
export interface RequestInfo {
  readonly id: string;
  readonly parentId: string;
  readonly label: string;
  /** As it is now; lower runs first under the priority policy. */
  priority: number;
  readonly maxTokens: number;
  readonly arrivalTime: number;
  /** Step before which it arrived; -1 if that is older than what this page has. */
  readonly arrivalStep: number;
  readonly promptTokenIds: readonly number[];
  /** Index into the palette, the same on every page that shows this engine. */
  readonly colour: number;
  readonly tokens: Token[];
  readonly segments: Segment[];
  readonly preemptions: number[];
  /** Time at which it first computed something. */
  firstScheduled: number | null;
  /** Prompt tokens that were found in the prefix cache when it was first admitted. */
  numCached: number;
  ending: Ending | null;
}

/** A moment of interest that "previous" and "next" jump between. */
export interface TraceEvent {
  readonly step: number;
  readonly kind: "arrival" | "admitted" | "preempted" | "finished" | "evicted" | "copied" | "changed" | "stalled";
}

export type Cursor = "live" | number;

/** The last step that counts at a cursor. */
export function lastStepAt(cursor: Cursor): number {
  return cursor === "live" ? Number.POSITIVE_INFINITY : cursor;
}
