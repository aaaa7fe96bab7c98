// Requests from elsewhere beside a playground's own, and how far each request is, at any time cursor. No DOM here.

import { count, int } from "../format.ts";
import { explainEnding } from "../reasons.ts";
import type { TraceStore } from "../store.ts";
import { lastStepAt, type Cursor, type RequestInfo } from "../trace_types.ts";
import { endingBy, tokensUpTo } from "./request_rows.ts";

const MAX_GUESTS = 4;

export interface GuestsOf {
  readonly own: ReadonlySet<string>;
  readonly selected: string | null;
  /** The guests shown so far: one that stays keeps its place. */
  readonly before: readonly string[];
}

/** Requests that came from a cell or another view: those that write at the cursor, else those alive then. */
export function guestsAt(store: TraceStore, cursor: Cursor, { own, selected, before }: GuestsOf): string[] {
  const limit = lastStepAt(cursor);
  const others = [...store.requests.values()].filter((r) => !own.has(r.id) && r.arrivalStep <= limit);
  const live = others.filter((r) => endingBy(r, limit) === null);
  // What is being written is worth more room than what waits or has ended.
  const writing = live.filter((r) => tokensUpTo(r, limit) > 0);
  const candidates = writing.length > 0 ? writing : live.length > 0 ? live : own.size === 0 ? others : [];
  const shown = candidates.slice(-MAX_GUESTS).map((r) => r.id);
  if (selected !== null && !own.has(selected) && store.requests.has(selected) && !shown.includes(selected)) {
    if (shown.length === MAX_GUESTS) shown.shift();
    shown.unshift(selected);
  }
  const fresh = shown.filter((id) => !before.includes(id));
  const placed = before.map((id) => (shown.includes(id) ? id : fresh.shift())).filter((id) => id !== undefined);
  return [...placed, ...fresh];
}

/** In words, how far a request is at the cursor. */
export function progressAt(request: RequestInfo, cursor: Cursor): string {
  const limit = lastStepAt(cursor);
  if (request.arrivalStep > limit) return `arrives in step ${int(request.arrivalStep)}`;
  const ending = endingBy(request, limit);
  const tokens = tokensUpTo(request, limit);
  if (ending?.reason === "error") return explainEnding(ending.reason, ending.detail);
  if (ending !== null) return `${count(tokens, "token")} · ${ending.reason}`;
  if (tokens === 0) return "no token yet";
  return `${int(tokens)} of ${count(request.maxTokens, "token")}`;
}
