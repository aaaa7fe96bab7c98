// Where one request's time went, as shares and as sentences. No DOM here.

import { count, int, millis, seconds } from "../format.ts";
import type { Action, Reason } from "../generated.ts";
import { reasonLabel } from "../reasons.ts";
import type { RequestInfo } from "../trace_types.ts";

export interface StoryPart {
  readonly action: Action;
  readonly reason: Reason;
  readonly seconds: number;
}

export interface Story {
  /** In order of time; stretches of the same kind that follow one another are one part. */
  readonly parts: readonly StoryPart[];
  readonly sentences: readonly string[];
}

/** The story up to step `limit` and time `now`. */
export function tellStory(request: RequestInfo, limit: number, now: number): Story {
  const parts = timeParts(request, limit, now);
  return { parts, sentences: parts.length === 0 ? [] : sentences(request, parts, limit) };
}

function timeParts(request: RequestInfo, limit: number, now: number): StoryPart[] {
  const segments = request.segments.filter((s) => s.from <= limit);
  const parts: { action: Action; reason: Reason; seconds: number }[] = [];
  segments.forEach((segment, i) => {
    const next = segments[i + 1];
    const end = next?.timeFrom ?? (segment.to <= limit ? segment.timeTo : now);
    // Before its first step a request waits for the engine to look at it: that belongs to the first stretch.
    const start = i === 0 && request.arrivalStep >= 0 ? request.arrivalTime : segment.timeFrom;
    const action = segment.action === "preempt" ? "wait" : segment.action;
    const last = parts.at(-1);
    const length = Math.max(0, end - start);
    const alike = last?.action === action && (action !== "wait" || last.reason === segment.reason);
    if (last !== undefined && alike) last.seconds += length;
    else parts.push({ action, reason: segment.reason, seconds: length });
  });
  return parts;
}

function sentences(request: RequestInfo, parts: readonly StoryPart[], limit: number): string[] {
  const told: string[] = [];
  const waits = new Map<Reason, number>();
  let [waited, prefill, decode] = [0, 0, 0];
  for (const part of parts) {
    if (part.action === "wait") {
      waited += part.seconds;
      waits.set(part.reason, (waits.get(part.reason) ?? 0) + part.seconds);
    } else if (part.action === "prefill") prefill += part.seconds;
    else decode += part.seconds;
  }
  if (waited > 0) {
    const byReason = [...waits].sort((a, b) => b[1] - a[1]).map(([r, s]) => `for ${reasonLabel(r)} ${seconds(s)}`);
    told.push(`Waited ${seconds(waited)}: ${byReason.join(", ")}.`);
  }
  if (prefill > 0) {
    const steps = request.segments
      .filter((s) => s.action === "prefill" && s.from <= limit)
      .reduce((n, s) => n + Math.min(s.to, limit) - s.from + 1, 0);
    const cached = request.numCached > 0 ? `, ${int(request.numCached)} of them from the prefix cache` : "";
    const prompt = count(request.promptTokenIds.length, "prompt token");
    told.push(`Prefill took ${seconds(prefill)} in ${count(steps, "step")}: ${prompt}${cached}.`);
  }
  const tokens = request.tokens.filter((t) => t.step >= 0 && t.step <= limit).length;
  if (decode > 0 && tokens > 1) {
    told.push(`Decode took ${seconds(decode)}: ${count(tokens - 1, "token")}, ${millis(decode / (tokens - 1))} each.`);
  }
  const preempted = request.preemptions.filter((s) => s <= limit).length;
  if (preempted > 0) told.push(`Preempted ${count(preempted, "time")}: its KV was computed again after each.`);
  return told;
}
