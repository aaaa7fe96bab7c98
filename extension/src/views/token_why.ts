// Why a token came when it did: what happened to its request since the token before. No DOM here.

import { count, int, seconds } from "../format.ts";
import { preemptedFor, reasonLabel } from "../reasons.ts";
import type { TraceStore } from "../store.ts";
import type { RequestInfo } from "../trace_types.ts";

export interface TokenWhy {
  readonly text: string;
  readonly step: number;
}

/** null for a token whose step this page does not have. */
export function tokenWhy(store: TraceStore, request: RequestInfo, index: number): TokenWhy | null {
  const token = request.tokens[index];
  if (token === undefined || token.step < 0) return null;
  const { step } = token;
  const before = request.tokens[index - 1];
  const name = `Token ${int(index + 1)}`;
  if (before === undefined) {
    return { text: `${name}, the first, came ${seconds(token.time - request.arrivalTime)} after the arrival.`, step };
  }
  if (before.step < 0) return { text: `${name}: this page does not have the step of the one before it.`, step };
  const text = `${name} came ${seconds(token.time - before.time)} after the one before it`;
  const causes: string[] = [];
  const waits = new Map<string, number>();
  for (let i = store.indexOf(before.step) + 1; i <= store.indexOf(step); i++) {
    const record = store.steps[i]!.record;
    const decision = record.decisions.find((d) => d.request_id === request.id);
    if (decision === undefined) continue;
    if (decision.action === "preempt")
      causes.push(`it was preempted ${preemptedFor(decision).why}, in step ${int(record.step)}`);
    if (decision.action === "wait")
      waits.set(reasonLabel(decision.reason), (waits.get(reasonLabel(decision.reason)) ?? 0) + 1);
    if (decision.action === "prefill") causes.push(`${count(decision.num_tokens, "token")} were computed again`);
  }
  for (const [reason, steps] of waits) causes.push(`${count(steps, "step")} waiting for ${reason}`);
  const record = store.stepAt(step)?.record;
  const prefills = record?.decisions.filter((d) => d.num_tokens > 1 && d.request_id !== request.id) ?? [];
  const most = prefills.sort((a, b) => b.num_tokens - a.num_tokens)[0];
  if (most !== undefined)
    causes.push(`its step also computed ${count(most.num_tokens, "token")} of ${most.request_id}`);
  else if (causes.length === 0 && record !== undefined) {
    const others = record.decisions.filter((d) => d.num_tokens > 0).length - 1;
    causes.push(
      others > 0 ? `one step, decoded together with ${count(others, "other")}` : "one step, alone in the batch",
    );
  }
  return { text: `${text}: ${causes.join("; ")}.`, step };
}
