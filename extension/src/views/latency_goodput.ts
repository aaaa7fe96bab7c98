// Service level objectives and goodput, by the same rule as workbench/trace/metrics.py.

import type { TraceStore } from "../store.ts";
import { lastStepAt, type Cursor, type RequestInfo } from "../trace_types.ts";

/** Limits that a request should keep, in seconds; null for none. */
export interface Slo {
  readonly ttft: number | null;
  /** Between its tokens, on average. */
  readonly itl: number | null;
  /** From arrival to its end. */
  readonly e2e: number | null;
}

export interface Goodput {
  readonly met: number;
  /** Requests that came and ended in the steps that are kept; cancelled ones are not counted. */
  readonly ended: number;
  readonly perSecond: number;
}

/** Seconds from arrival to the end of each request that ended up to a step, in order of arrival. */
export function endToEnd(store: TraceStore, limit: number): number[] {
  return whole(store, limit).map((request) => request.ending!.time - request.arrivalTime);
}

export function goodput(store: TraceStore, cursor: Cursor, slo: Slo): Goodput {
  const limit = lastStepAt(cursor);
  const ended = whole(store, limit).filter((request) => request.ending!.reason !== "abort");
  const met = ended.filter((request) => keeps(request, slo)).length;
  const seconds = duration(store, limit);
  return { met, ended: ended.length, perSecond: seconds > 0 ? met / seconds : 0 };
}

/** Requests whose whole life is known. */
function whole(store: TraceStore, limit: number): RequestInfo[] {
  return [...store.requests.values()].filter(
    ({ arrivalStep, ending }) =>
      arrivalStep >= 0 && ending !== null && ending.reason !== "ended" && ending.step <= limit,
  );
}

function keeps(request: RequestInfo, slo: Slo): boolean {
  const first = request.tokens[0];
  const last = request.tokens.at(-1);
  const within = (value: number | null, limit: number | null): boolean =>
    limit === null || value === null || value <= limit;
  const gaps = request.tokens.length - 1;
  return (
    request.ending!.reason !== "error" &&
    within(first === undefined ? null : first.time - request.arrivalTime, slo.ttft) &&
    within(gaps > 0 ? (last!.time - first!.time) / gaps : null, slo.itl) &&
    within(request.ending!.time - request.arrivalTime, slo.e2e)
  );
}

/** Seconds from the first arrival to the end of the last step that computed something. */
function duration(store: TraceStore, limit: number): number {
  const first = store.steps.find((step) => step.record.arrivals.length > 0)?.record.arrivals[0]?.time;
  const last = store.steps.findLast((s) => s.record.step <= limit && s.record.num_scheduled_tokens > 0);
  return first === undefined || last === undefined ? 0 : last.end - first;
}

/** Milliseconds as typed, in seconds: empty is no limit; throws an Error that says what is wanted. */
export function readLimit(text: string): number | null {
  if (text.trim() === "") return null;
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw new Error(`A limit is a number of ms above 0, not “${text}”.`);
  return value / 1e3;
}
