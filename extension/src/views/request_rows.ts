// The requests table's rows as plain values, for any time cursor. No DOM here, so that it can be tested alone.

import { explain, explainEnding } from "../reasons.ts";
import type { EngineState } from "../replay.ts";
import type { TraceStore } from "../store.ts";
import { lastStepAt, type Cursor, type RequestInfo, type Step } from "../trace_types.ts";
import { groupOf } from "./request_motion.ts";

export type RowState = "running" | "prefill" | "waiting" | "preempted" | "finished" | "cancelled" | "failed";

export interface RequestRow {
  readonly info: RequestInfo;
  readonly state: RowState;
  readonly reason: string;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly waited: number;
  readonly ttft: number;
  readonly itl: number;
  readonly preemptions: number;
  readonly blocks: number;
  /** Place in the engine's own order: the batch, then the queue; null for what is in neither. */
  readonly place: number | null;
}

export type SortKey = "id" | "state" | "prompt" | "output" | "waited" | "ttft" | "itl" | "preemptions" | "blocks";

export function requestRows(store: TraceStore, cursor: Cursor): RequestRow[] {
  const state = store.stateAt(cursor);
  const step = store.stepAt(cursor);
  if (state === null) return [];
  const limit = lastStepAt(cursor);
  const decisions = new Map(step?.record.decisions.map((d) => [d.request_id, d]) ?? []);
  const places = new Map([...state.running, ...state.waiting].map((id, place) => [id, place]));
  const now = store.timeAt(cursor);
  const rows: RequestRow[] = [];
  for (const info of store.requests.values()) {
    if (info.arrivalStep > limit) continue;
    const row = makeRow(info, state, step, decisions.get(info.id), limit, now);
    rows.push({ ...row, place: places.get(info.id) ?? null });
  }
  return rows;
}

type Decisions = Step["record"]["decisions"];

function makeRow(
  info: RequestInfo,
  state: EngineState,
  step: Step | null,
  decision: Decisions[number] | undefined,
  limit: number,
  now: number,
): Omit<RequestRow, "place"> {
  const live = state.requests.get(info.id);
  const tokens = tokensUpTo(info, limit);
  const ended = live === undefined ? endingBy(info, limit) : null;
  const first = info.tokens[0];
  const hasFirst = tokens > 0 && first !== undefined && first.step >= 0;
  const last = info.tokens[tokens - 1];
  const span = hasFirst && tokens > 1 && last !== undefined ? last.time - first.time : Number.NaN;
  let rowState: RowState = "waiting";
  let reason = "has just arrived";
  if (ended !== null) {
    rowState = ended.reason === "abort" ? "cancelled" : ended.reason === "error" ? "failed" : "finished";
    reason = explainEnding(ended.reason, ended.detail);
  } else if (decision !== undefined) {
    reason = explain(decision);
    if (decision.action === "prefill") rowState = "prefill";
    else if (decision.action === "decode" || state.running.includes(info.id)) rowState = "running";
    else rowState = (live?.numPreemptions ?? 0) > 0 ? "preempted" : "waiting";
  } else if (state.running.includes(info.id)) {
    rowState = "running";
    reason = "its last step is not among those kept here";
  }
  return {
    info,
    state: rowState,
    reason,
    promptTokens: info.promptTokenIds.length,
    outputTokens: tokens,
    waited: waited(info, limit, step === null ? now : Math.min(now, step.end)),
    ttft: hasFirst ? first.time - info.arrivalTime : Number.NaN,
    itl: span / (tokens - 1),
    preemptions: info.preemptions.filter((s) => s <= limit).length,
    blocks: state.blockTables.get(info.id)?.length ?? 0,
  };
}

/** How a request ended, if it did in a step or before it. */
export function endingBy(info: RequestInfo, limit: number): RequestInfo["ending"] {
  return info.ending !== null && info.ending.step <= limit ? info.ending : null;
}

/** How many of a request's tokens came in a step or before it. */
export function tokensUpTo(info: RequestInfo, limit: number): number {
  let low = 0;
  let high = info.tokens.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (info.tokens[middle]!.step <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Seconds in the queue: from arrival to the first computed token, and again after each preemption. */
export function waited(info: RequestInfo, limit: number, now: number): number {
  if (info.arrivalStep < 0 && info.firstScheduled === null && info.segments.length === 0) return Number.NaN;
  let total = 0;
  let since: number | null = info.arrivalStep < 0 ? null : info.arrivalTime;
  for (const segment of info.segments) {
    if (segment.from > limit) break;
    const computes = segment.action === "prefill" || segment.action === "decode";
    if (computes && since !== null) {
      total += segment.timeFrom - since;
      since = null;
    } else if (!computes && since === null) {
      since = segment.timeFrom;
    }
  }
  if (since === null) return total;
  const until = endingBy(info, limit)?.time ?? now;
  return total + Math.max(0, until - since);
}

/**
 * Live requests first, then by the chosen column; equal ones by arrival, ended ones newest first. By state is the
 * engine's own order: the batch, then the queue with the next one first.
 */
export function sortRows(rows: RequestRow[], key: SortKey, descending: boolean): RequestRow[] {
  const value = (row: RequestRow): number => {
    switch (key) {
      case "id":
        return 0;
      case "state":
        return row.place ?? Number.NaN;
      case "prompt":
        return row.promptTokens;
      case "output":
        return row.outputTokens;
      case "waited":
        return row.waited;
      case "ttft":
        return row.ttft;
      case "itl":
        return row.itl;
      case "preemptions":
        return row.preemptions;
      case "blocks":
        return row.blocks;
    }
  };
  const ended = (row: RequestRow): boolean => groupOf(row.state) === "ended";
  const order = new Map(rows.map((row, i) => [row, i]));
  const sign = descending ? -1 : 1;
  return [...rows].sort((a, b) => {
    if (ended(a) !== ended(b)) return ended(a) ? 1 : -1;
    const [x, y] = [value(a), value(b)];
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    if (x !== y && !Number.isNaN(x)) return sign * (x - y);
    const newestFirst = key === "id" ? descending : ended(a);
    return (newestFirst ? -1 : 1) * (order.get(a)! - order.get(b)!);
  });
}
