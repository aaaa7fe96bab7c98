// How a step changes what is known of each request.

import type { Arrival, Decision, RequestState } from "./generated.ts";
import type { EngineState } from "./replay.ts";
import type { Series } from "./series.ts";
import type { RequestInfo, Step, Token } from "./trace_types.ts";

interface Log {
  readonly requests: Map<string, RequestInfo>;
  readonly ttft: Series;
  readonly itl: Series;
}

export function applyToRequests(log: Log, step: Step): void {
  const { record, end } = step;
  for (const arrival of record.arrivals) {
    log.requests.set(arrival.request_id, infoFromArrival(arrival, record.step, log.requests.size));
  }
  for (const change of record.changes) {
    const request = change.name === "priority" ? log.requests.get(change.request_id) : undefined;
    if (request !== undefined) request.priority = Number(change.value);
  }
  for (const decision of record.decisions) {
    const request = log.requests.get(decision.request_id);
    if (request !== undefined) applyDecision(request, decision, step);
  }
  for (const s of record.sampled) {
    const request = log.requests.get(s.request_id);
    if (request === undefined) continue;
    const before = request.tokens.at(-1);
    if (s.position === 0) log.ttft.push(record.step, end - request.arrivalTime);
    else if (before !== undefined && before.step >= 0) log.itl.push(record.step, end - before.time);
    request.tokens.push({
      id: s.token_id,
      step: record.step,
      time: end,
      logprob: s.logprob,
      alternatives: s.alternatives,
    });
  }
  for (const f of record.finished) {
    const request = log.requests.get(f.request_id);
    if (request !== undefined) {
      request.ending = { step: record.step, time: end, reason: f.finish_reason, detail: f.detail };
    }
  }
}

function applyDecision(request: RequestInfo, decision: Decision, step: Step): void {
  const { record, end } = step;
  if (decision.num_tokens > 0 && request.firstScheduled === null) {
    request.firstScheduled = record.time;
    request.numCached = decision.num_cached;
  }
  if (decision.action === "preempt") request.preemptions.push(record.step);
  const last = request.segments.at(-1);
  if (
    last !== undefined &&
    last.action === decision.action &&
    sameKind(last.reason, decision.reason) &&
    last.other === decision.other &&
    last.to === record.step - 1 &&
    decision.action !== "preempt"
  ) {
    last.to = record.step;
    last.timeTo = end;
    return;
  }
  request.segments.push({
    action: decision.action,
    reason: decision.reason,
    other: decision.other,
    from: record.step,
    to: record.step,
    timeFrom: record.time,
    timeTo: end,
  });
}

/** An admission and the chunks that follow it are one prefill to the eye. */
function sameKind(before: string, now: string): boolean {
  return before === now || (now === "chunk" && (before === "admitted" || before === "resumed"));
}

function infoFromArrival(a: Arrival, step: number, order: number): RequestInfo {
  return {
    ...blank(a.request_id, order),
    parentId: a.parent_id,
    label: a.label,
    priority: a.priority,
    maxTokens: a.max_tokens,
    arrivalTime: a.time,
    arrivalStep: step,
    promptTokenIds: a.prompt_token_ids,
  };
}

export function infoFromSnapshot(r: RequestState, order: number): RequestInfo {
  return {
    ...blank(r.request_id, order),
    parentId: r.parent_id,
    label: r.label,
    priority: r.priority,
    maxTokens: r.max_tokens,
    arrivalTime: r.arrival_time,
    arrivalStep: -1,
    promptTokenIds: r.prompt_token_ids,
    tokens: r.output_token_ids.map(unseenToken),
  };
}

/** Add the tokens that a request got in steps that never reached this page. */
export function fillTokens(request: RequestInfo, r: RequestState): void {
  request.tokens.push(...r.output_token_ids.slice(request.tokens.length).map(unseenToken));
}

function unseenToken(id: number): Token {
  return { id, step: -1, time: Number.NaN, logprob: null, alternatives: [] };
}

/** Requests that ended in steps that never reached this page. */
export function endUnseen(requests: Iterable<RequestInfo>, state: EngineState, time: number): void {
  for (const request of requests) {
    if (request.ending === null && !state.requests.has(request.id)) {
      request.ending = { step: state.step, time, reason: "ended", detail: "in steps that this page did not receive" };
    }
  }
}

function blank(id: string, order: number): RequestInfo {
  return {
    id,
    parentId: id,
    label: "",
    priority: 0,
    maxTokens: 0,
    arrivalTime: 0,
    arrivalStep: -1,
    promptTokenIds: [],
    colour: colourIndex(id, order),
    tokens: [],
    segments: [],
    preemptions: [],
    firstScheduled: null,
    numCached: 0,
    ending: null,
  };
}

/** Counted ids ("r12", "7-1") give their colour by number, so that it survives a reload; others by arrival order. */
export function colourIndex(id: string, order: number): number {
  const numbers = id.match(/^\D{0,4}(\d{1,9})(?:\D(\d{1,4}))?$/);
  if (numbers === null) return order;
  return Number(numbers[1]) + 3 * Number(numbers[2] ?? 0);
}
