// Where the time to a request's first token went: the rule of workbench/trace/waterfall.py, over the page's own steps.

import { type Decision, type Reason, WAITING_FOR } from "./generated.ts";
import { preemptedFor } from "./reasons.ts";
import type { RequestInfo, Step } from "./trace_types.ts";

const NAMED_NEIGHBOURS = 3;
const SMALL_SHARE = 0.05;
const UNNOTICED = 1e-3; // seconds between two steps
const NEXT_STEP = "for the next step to begin";

export type SegmentKind = "queue" | "preempted" | "prefill" | "neighbour";

/** A piece of the time from arrival to the first token; they follow one another without gaps. */
export interface WaterfallSegment {
  readonly kind: SegmentKind;
  readonly label: string;
  readonly firstStep: number;
  readonly numSteps: number;
  readonly seconds: number;
  /** Tokens computed in it. */
  readonly tokens: number;
  /** The neighbour, who holds what is waited for, or for whom it was preempted; "" for several or nobody. */
  readonly other: string;
}

/** As they travel: the fields of Python's Segment in order. */
export type SegmentRow = [
  kind: string,
  label: string,
  firstStep: number,
  numSteps: number,
  seconds: number,
  tokens: number,
  other: string,
];

export function decodeSegment(row: SegmentRow): WaterfallSegment {
  const [kind, label, firstStep, numSteps, seconds, tokens, other] = row;
  return { kind: kind as SegmentKind, label, firstStep, numSteps, seconds, tokens, other };
}

interface Moment {
  readonly step: Step;
  readonly decision: Decision;
  readonly root: Decision;
}

/** Up to the first token, or to the newest step while there is none; nothing if the page does not know the arrival. */
export function waterfall(request: RequestInfo, steps: readonly Step[], from: number): WaterfallSegment[] {
  if (request.arrivalStep < 0) return [];
  const first = request.tokens[0];
  const last = first !== undefined && first.step >= 0 ? first.step : Number.POSITIVE_INFINITY;
  const segments: WaterfallSegment[] = [];
  let at = request.arrivalTime;
  let stretch: Moment[] = [];
  const close = (): void => {
    const ended = stretch.at(-1);
    if (ended === undefined) return;
    const { step, decision } = stretch[0]!;
    const start = step.record.time;
    const before = segments.at(-1);
    if (before !== undefined && (before.kind === "queue" || before.kind === "preempted")) {
      segments[segments.length - 1] = { ...before, seconds: before.seconds + Math.max(0, start - at) };
      at = Math.max(at, start);
    } else if (start - at > UNNOTICED && decision.num_tokens > 0) {
      const firstStep = step.record.step;
      const seconds = start - at;
      segments.push({ kind: "queue", label: NEXT_STEP, firstStep, numSteps: 0, seconds, tokens: 0, other: "" });
      at = start;
    }
    const end = Math.max(at, ended.step.end);
    segments.push(...segmentsOf(stretch, end - at));
    at = end;
    stretch = [];
  };
  for (let i = from; i < steps.length && steps[i]!.record.step <= last; i++) {
    const moment = momentOf(steps[i]!, request.id);
    if (moment === null) {
      if (request.ending !== null && steps[i]!.record.step > request.ending.step) break;
      continue;
    }
    const before = stretch.at(-1);
    const together =
      before !== undefined &&
      before.decision.action === "wait" &&
      moment.decision.action === "wait" &&
      before.root.reason === moment.root.reason;
    if (!together) close();
    stretch.push(moment);
  }
  close();
  return segments;
}

function momentOf(step: Step, id: string): Moment | null {
  const { decisions } = step.record;
  const decision = decisions.find((d) => d.request_id === id);
  return decision === undefined ? null : { step, decision, root: rootOf(decision, decisions) };
}

/** Follow "behind r4" to what r4 itself waits for. */
function rootOf(decision: Decision, decisions: readonly Decision[]): Decision {
  const follows = (d: Decision): boolean => d.action === "wait" && (d.reason === "behind" || d.reason === "sibling");
  if (!follows(decision)) return decision;
  const byId = new Map(decisions.map((d) => [d.request_id, d]));
  const seen = new Set<string>();
  let found = decision;
  while (follows(found)) {
    const ahead = byId.get(found.other);
    if (ahead === undefined || seen.has(ahead.request_id) || ahead.action !== "wait") return found;
    seen.add(ahead.request_id);
    found = ahead;
  }
  return found;
}

function segmentsOf(stretch: readonly Moment[], seconds: number): WaterfallSegment[] {
  const { step, decision, root } = stretch[0]!;
  const firstStep = step.record.step;
  const one = { firstStep, numSteps: 1 };
  if (decision.action === "preempt") {
    const { why, other } = preemptedFor(decision);
    return [{ kind: "preempted", label: `preempted ${why}`, ...one, seconds, tokens: 0, other }];
  }
  if (decision.action === "wait") {
    const label = waitingFor(root.reason);
    return [
      { kind: "queue", label, firstStep, numSteps: stretch.length, seconds, tokens: 0, other: mostOften(stretch) },
    ];
  }
  const ran = step.record.decisions.filter((d) => d.num_tokens > 0 && d.request_id !== decision.request_id);
  ran.sort((a, b) => b.num_tokens - a.num_tokens);
  const own = decision.num_tokens;
  const total = ran.reduce((sum, d) => sum + d.num_tokens, own);
  const part = (kind: SegmentKind, label: string, tokens: number, other: string): WaterfallSegment => {
    return { kind, label, ...one, seconds: (seconds * tokens) / total, tokens, other };
  };
  const segments = [part("prefill", "prefill", own, "")];
  let rest = total - own;
  for (const d of ran.slice(0, NAMED_NEIGHBOURS)) {
    if (d.num_tokens < SMALL_SHARE * total) continue;
    rest -= d.num_tokens;
    segments.push(part("neighbour", `${d.request_id} in the same step`, d.num_tokens, d.request_id));
  }
  if (rest > 0) segments.push(part("neighbour", "others in the same step", rest, ""));
  return segments;
}

export function waitingFor(reason: Reason): string {
  return WAITING_FOR[reason] ?? reason;
}

/** Who is named most often as the reason; of equals the first. What changed the pool is a setting, nobody to look at. */
function mostOften(stretch: readonly Moment[]): string {
  const counts = new Map<string, number>();
  for (const { root } of stretch) {
    if (root.other === "" || root.reason === "reconfigured") continue;
    counts.set(root.other, (counts.get(root.other) ?? 0) + 1);
  }
  let best = "";
  for (const [name, count] of counts) if (best === "" || count > counts.get(best)!) best = name;
  return best;
}
